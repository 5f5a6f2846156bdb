//! Who else writes, and how long they have the database for themselves after a group.
//!
//! They poll SQLite's lock, so a gap must be as long as their pauses are at first.

use crate::store::{Store, StoreError};
use std::time::Duration;

/// After each group while others write.
const GAP: Duration = Duration::from_millis(5);
/// Now and then while none does, for the first of them.
const GAP_ALONE: Duration = Duration::from_millis(1);
/// Groups between two such gaps: some fifty milliseconds.
const GROUPS: u32 = 4;
/// Others are expected for so long after one has come.
const OTHERS_FOR: Duration = Duration::from_secs(1);

/// Who else writes.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    version: Option<i64>,
    here_until: Duration,
    groups: u32,
}

impl Neighbours {
    /// Looks whether others have come, and says how long they get.
    pub(super) async fn gap(
        &mut self,
        store: &Store,
        now: Duration,
    ) -> Result<Option<Duration>, StoreError> {
        let version = store.data_version().await?;
        Ok(self.after(version, now))
    }

    fn after(&mut self, version: i64, now: Duration) -> Option<Duration> {
        if self.version.replace(version).is_some_and(|before| before != version) {
            self.here_until = now + OTHERS_FOR;
        }
        self.groups += 1;
        match () {
            () if now < self.here_until => Some(GAP),
            () if self.groups.is_multiple_of(GROUPS) => Some(GAP_ALONE),
            () => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_get_a_gap_after_each_group_while_there_are_any() {
        let mut neighbours = Neighbours::default();
        let mut after = |version, millis| neighbours.after(version, Duration::from_millis(millis));
        let alone = [after(7, 0), after(7, 10), after(7, 20), after(7, 30), after(7, 40)];
        assert_eq!(alone, [None, None, None, Some(GAP_ALONE), None]);
        assert_eq!([after(8, 50), after(8, 60), after(8, 1_049)], [Some(GAP); 3]);
        assert_eq!(after(8, 1_051), None);
    }
}
