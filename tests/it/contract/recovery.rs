//! Recovery: what a new daemon finds, and what the ledger remembers for it.

use super::{Desk, T0, after, answered, failed, job, requeued, reservation, snapshots, unbilled};
use claudeq::domain::job::{Epoch, JobEvent};
use claudeq::domain::reservation::Settlement;
use claudeq::domain::time::{Millis, Timestamp};
use claudeq::store::{Ending, Lease, NewJob, Recovered};

async fn recover(desk: &Desk, now: Timestamp) -> (Epoch, Recovered) {
    let epoch = desk.store.begin_epoch(8, "here", "1.0.0", now).await.unwrap();
    (epoch, desk.store.recover(epoch, Millis::DAY, now).await.unwrap())
}

#[tokio::test]
async fn calls_in_flight_at_the_crash_are_found() {
    let desk = Desk::open().await;
    let id = desk.add(NewJob { max_attempts: Some(4), ..job("x") }).await;
    let first = desk.start(&[id], T0).await.remove(0);
    desk.settle(&[requeued(&first, None, true)]).await;
    let lease = desk.start(&[id], after(10)).await.remove(0);
    let (_, found) = recover(&desk, after(20)).await;
    assert_eq!(found.open.len(), 1);
    assert_eq!(found.open[0].lease, lease);
    assert_eq!((lease.counted_attempts, found.open[0].max_attempts), (1, Some(4)));
    assert_eq!(lease.reservation, reservation(after(10)));
    assert_eq!(desk.state(id), "running", "until it is settled");
}

#[tokio::test]
async fn what_was_found_can_be_settled_by_its_old_lease() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    let (_, found) = recover(&desk, after(20)).await;
    let found = &found.open[0].lease;
    let unknown = Ending {
        settlement: Settlement::assumed_spent(&found.reservation, after(20)),
        outcome: "unknown".into(),
        ..requeued(found, None, true)
    };
    assert_eq!(desk.settle(&[unknown]).await.lost, []);
    assert_eq!(desk.state(lease.job), "queued");
    assert_eq!(desk.store.unknown_attempts().await.unwrap(), 1);
    let spent =
        "SELECT settlement, settled_output_tokens, settled_nanousd = worst_nanousd FROM attempts;";
    assert_eq!(desk.sql(spent), "assumed_spent|300|1", "expected for limits, worst for budgets");
    let (_, again) = recover(&desk, after(30)).await;
    assert_eq!(again.open.len(), 0, "once");
}

#[tokio::test]
async fn a_daemon_does_not_take_its_own_calls_for_dead() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    let found = desk.store.recover(desk.epoch, Millis::DAY, after(1)).await.unwrap();
    assert_eq!(found.open.len(), 0);
    assert_eq!(desk.state(lease.job), "running");
}

#[tokio::test]
async fn jobs_that_only_lost_their_state_are_freed() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(2).await;
    let leases = desk.start(&jobs, T0).await;
    desk.sql(&format!(
        "DELETE FROM attempts WHERE id = {};
         UPDATE attempts SET settlement = 'released', settled_at = 1 WHERE id = {};",
        leases[0].attempt.0, leases[1].attempt.0
    ));
    let (_, found) = recover(&desk, after(20)).await;
    assert_eq!(found.open.len(), 0);
    assert_eq!(desk.sql("SELECT DISTINCT state, epoch FROM job_state;"), "queued|");
    assert_eq!(desk.store.heads("default", 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn levels_and_gates_are_as_last_committed() {
    let desk = Desk::open().await;
    desk.store.settle(desk.epoch, &[], &snapshots(), T0).await.unwrap();
    let (_, found) = recover(&desk, after(20)).await;
    assert_eq!((found.limits, Some(found.gates)), (snapshots().limits, snapshots().gates));
}

fn counted(lease: &Lease, at: Timestamp) -> Ending {
    let mut ending = answered(lease, "Hi");
    ending.settlement.counted_at = at;
    ending
}

#[tokio::test]
async fn calls_of_the_last_minute_are_given_one_by_one_and_older_ones_in_slots() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(5).await;
    let leases = desk.start(&jobs, T0).await;
    let now = T0 + Millis::DAY;
    let minute = now - Millis::MINUTE;
    // A whole slot is a minute by the clock.
    let slot = Timestamp((minute.0 - 7_200_000) / 60_000 * 60_000);
    let moments =
        [now - Millis(1), now - Millis::SECOND, slot, slot + Millis(59_999), T0 - Millis(1)];
    let endings: Vec<Ending> =
        leases.iter().zip(moments).map(|(lease, at)| counted(lease, at)).collect();
    desk.settle(&endings).await;
    let (_, found) = recover(&desk, now).await;
    let mut past: Vec<(i64, Timestamp)> =
        found.past.iter().map(|call| (call.requests, call.counted_at)).collect();
    past.sort_unstable();
    assert_eq!(
        past,
        [(1, moments[1]), (1, moments[0]), (2, moments[3])],
        "more than a day ago: none"
    );
    assert!(found.past.iter().all(|call| call.model == "claude-sonnet-5"));
    let tokens: i64 = found.past.iter().map(|call| call.output_tokens).sum();
    assert_eq!(tokens, 80);
}

#[tokio::test]
async fn calls_in_flight_are_not_past() {
    let desk = Desk::open().await;
    desk.start_one().await;
    let (_, found) = recover(&desk, after(20)).await;
    assert_eq!(found.past, []);
}

#[tokio::test]
async fn a_budget_remembers_deleted_jobs() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.settle(&[answered(&lease, "Hi")]).await;
    desk.sql("DELETE FROM jobs;");
    let spent = desk.store.budget_spent(T0, after(1), None).await.unwrap();
    assert_eq!(spent.nanousd, 280_000);
}

#[tokio::test]
async fn the_last_time_is_the_latest_the_ledger_knows() {
    let desk = Desk::open().await;
    assert_eq!(desk.store.last_time().await.unwrap(), T0, "the beginning of the epoch");
    let job = desk.prompt("x").await;
    let lease = desk.start(&[job], after(50)).await.remove(0);
    assert_eq!(desk.store.last_time().await.unwrap(), after(50));
    desk.settle(&[counted(&lease, after(80))]).await;
    assert_eq!(desk.store.last_time().await.unwrap(), after(80));
    desk.store.heartbeat(desk.epoch, "{}", after(90)).await.unwrap();
    assert_eq!(desk.store.last_time().await.unwrap(), after(90));
}

/// The same recovery at every start: nothing is done twice.
#[tokio::test]
async fn recovering_twice_is_recovering_once() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(3).await;
    let leases = desk.start(&jobs, T0).await;
    desk.settle(&[answered(&leases[0], "Hi"), failed(&leases[1])]).await;
    let (epoch, found) = recover(&desk, after(20)).await;
    let ends: Vec<Ending> =
        found.open.iter().map(|open| requeued(&open.lease, None, true)).collect();
    desk.settle(&ends).await;
    let before = desk.sql("SELECT * FROM job_state; SELECT * FROM attempts;");
    let again = desk.store.recover(epoch, Millis::DAY, after(20)).await.unwrap();
    assert_eq!(again.open.len(), 0);
    desk.settle(&ends).await;
    assert_eq!(desk.sql("SELECT * FROM job_state; SELECT * FROM attempts;"), before);
}

#[tokio::test]
async fn a_job_cancelled_before_the_crash_ends_after_it() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.store.edit(&[lease.job], JobEvent::Cancel, false).await.unwrap();
    let (_, found) = recover(&desk, after(20)).await;
    let end = unbilled(&found.open[0].lease, super::next(JobEvent::Requeue));
    desk.settle(&[end]).await;
    assert_eq!(desk.state(lease.job), "cancelled");
}
