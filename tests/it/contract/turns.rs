//! What ends and what begins in one turn: one transaction, so all of it or nothing.

use super::{Desk, T0, after, all_of, answered, snapshots};
use claudeq::domain::job::JobId;
use claudeq::store::{Admission, Ending, Fresh, Lease, Settled, StoreError};

async fn turn(
    desk: &Desk,
    endings: &[Ending],
    candidates: &[JobId],
) -> Result<(Settled, Vec<Lease>), StoreError> {
    let decide =
        |fresh: &[Fresh]| (Admission { snapshots: snapshots(), ..all_of(fresh, after(9)) }, ());
    let written =
        desk.store.settle_and_admit(after(9), desk.epoch, endings, candidates, decide).await;
    written.map(|(settled, leases, ())| (settled, leases))
}

const LEFT: &str = "SELECT (SELECT count(*) FROM attempts WHERE settlement IS NOT NULL),
    (SELECT count(*) FROM attempts WHERE settlement IS NULL), (SELECT count(*) FROM responses),
    (SELECT count(*) FROM limit_snapshots);";

#[tokio::test]
async fn an_end_and_a_start_are_written_together_or_not_at_all() {
    let desk = Desk::open().await;
    let first = desk.start_one().await;
    let second = desk.prompt("next").await;
    desk.sql(
        "CREATE TRIGGER planted BEFORE INSERT ON gates BEGIN
           SELECT RAISE(ABORT, 'planted'); END;",
    );
    let endings = [answered(&first, "Hi")];
    let error = turn(&desk, &endings, &[second]).await.unwrap_err();
    assert_eq!(error.refusal().as_deref(), Some("planted"));
    assert_eq!(desk.sql(LEFT), "0|1|0|0", "neither the answer nor the lease");
    desk.sql("DROP TRIGGER planted;");

    let (settled, leases) = turn(&desk, &endings, &[second]).await.unwrap();
    assert_eq!((settled.finished.len(), leases.len(), settled.fenced), (1, 1, false));
    assert_eq!(desk.sql(LEFT), "1|1|1|1");
    assert_eq!((desk.state(first.job), desk.state(second)), ("succeeded".into(), "running".into()));
}

#[tokio::test]
async fn an_end_is_written_although_nothing_starts() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    let (settled, leases) = turn(&desk, &[answered(&lease, "Hi")], &[]).await.unwrap();
    assert_eq!((settled.finished.len(), leases.len()), (1, 0));
    assert_eq!(desk.sql(LEFT), "1|0|1|1", "with the ledger as it is then");
}

/// What it paid for is delivered; calls it makes no more, and the ledger is the newer one's.
#[tokio::test]
async fn an_older_daemon_delivers_and_starts_nothing() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    let second = desk.prompt("next").await;
    desk.store.begin_epoch(8, "here", "1.0.0", T0).await.unwrap();
    let (settled, leases) = turn(&desk, &[answered(&lease, "Hi")], &[second]).await.unwrap();
    assert!(settled.fenced && leases.is_empty(), "{settled:?}");
    assert_eq!(desk.sql(LEFT), "1|0|1|0");
    assert_eq!((desk.state(lease.job), desk.state(second)), ("succeeded".into(), "queued".into()));
}
