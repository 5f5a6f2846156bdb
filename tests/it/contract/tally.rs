//! Counts of finished jobs: whatever is entered into them, they are those of the rows.

use super::{Desk, T0, answered, failed};
use claudeq::domain::job::{JobEvent, JobId};

/// Enough that they are entered, a group of them in another state.
const JOBS: usize = 1_200;

async fn finish(desk: &Desk, jobs: &[JobId]) {
    for group in jobs.chunks(200) {
        let leases = desk.start(group, T0).await;
        let ending = |(at, lease)| if at % 3 == 0 { failed(lease) } else { answered(lease, "yes") };
        let endings: Vec<_> = leases.iter().enumerate().map(ending).collect();
        desk.settle(&endings).await;
    }
}

/// Both ways of counting, which must agree.
async fn counted(desk: &Desk) -> (i64, i64, i64) {
    let counts = desk.store.counts().await.unwrap();
    let rows = desk.sql(
        "SELECT sum(state = 'succeeded'), sum(state = 'failed'), sum(state = 'queued')
         FROM job_state;",
    );
    let ours = (counts.succeeded, counts.failed, counts.queued);
    assert_eq!(format!("{}|{}|{}", ours.0, ours.1, ours.2), rows);
    ours
}

#[tokio::test]
async fn counts_hold_before_and_after_they_are_entered() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(JOBS).await;
    finish(&desk, &jobs[..300]).await;
    desk.store.tally().await.unwrap();
    assert_eq!(desk.sql("SELECT sum(jobs) FROM finished_counts;"), "0", "too few to be entered");
    counted(&desk).await;
    finish(&desk, &jobs[300..1_100]).await;
    desk.store.tally().await.unwrap();
    assert_eq!(desk.sql("SELECT sum(jobs) FROM finished_counts;"), "1100");
    finish(&desk, &jobs[1_100..]).await;
    assert_eq!(counted(&desk).await, (797, 403, 0));
}

#[tokio::test]
async fn what_is_asked_again_or_deleted_counts_no_more() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(JOBS).await;
    finish(&desk, &jobs[..1_100]).await;
    desk.store.tally().await.unwrap();
    finish(&desk, &jobs[1_100..]).await;
    let before = counted(&desk).await;
    // One that was entered and one that was not, each.
    let (entered, fresh) = (jobs[1], jobs[1_101]);
    desk.sql(&format!("DELETE FROM jobs WHERE id IN ({entered}, {fresh});"));
    assert_eq!(counted(&desk).await, (before.0 - 2, before.1, before.2));
    desk.store.edit(&[jobs[0], jobs[1_100]], JobEvent::Retry, false).await.unwrap();
    assert_eq!(counted(&desk).await, (before.0 - 2, before.1 - 2, before.2 + 2));
}
