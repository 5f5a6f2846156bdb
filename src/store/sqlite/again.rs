//! Jobs that are called again otherwise than their producer wrote them: with another `max_tokens`,
//! or to go on with a turn that was paused.

use super::Store;
use crate::domain::job::{AttemptId, JobId};
use crate::store::error::{Doing, StoreError};
use crate::store::rows::{Terms, TurnSoFar};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// Each part was stored with all before it.
pub(super) const TURN_SO_FAR: &str = "-- turn_so_far
SELECT r.body, (SELECT count(*) FROM attempts AS c
  WHERE c.job_id = ?1 AND c.id >= ?2 AND c.stop_reason = 'pause_turn') AS calls
FROM attempts AS a JOIN responses AS r ON r.attempt_id = a.id
WHERE a.job_id = ?1 AND a.id >= ?2 AND a.stop_reason = 'pause_turn'
ORDER BY a.number DESC LIMIT 1";

impl Store {
    /// What there is of the turn of a job that began with this attempt.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn turn_so_far(
        &self,
        job: JobId,
        from: AttemptId,
    ) -> Result<Option<TurnSoFar>, StoreError> {
        let row = sqlx::query(TURN_SO_FAR)
            .bind(job.0)
            .bind(from.0)
            .fetch_optional(&self.readers)
            .await
            .doing("read a paused turn")?;
        Ok(row.map(|row| TurnSoFar {
            body: row.get(0),
            calls: u32::try_from(row.get::<i64, _>(1)).unwrap_or(u32::MAX),
        }))
    }
}

/// From two columns, the first of them at this place.
pub(super) fn terms(row: &SqliteRow, at: usize) -> Terms {
    let turn_from: Option<i64> = row.get(at + 1);
    Terms { max_tokens: row.get(at), turn_from: turn_from.map(AttemptId) }
}
