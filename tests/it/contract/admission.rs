//! Admission: what is re-checked, and that lease and reservation are one.

use super::{Desk, T0, Witness, after, all_of, job, requeued, reservation, snapshots, start_of};
use claudeq::domain::job::{JobEvent, JobId};
use claudeq::domain::reason::Reason;
use claudeq::store::{Admission, Fresh, NewAttempt, NewJob, StoreError, Unfit};

/// Which of the candidates the decision gets to see.
async fn seen(desk: &Desk, candidates: &[JobId]) -> Vec<JobId> {
    let decide = |fresh: &[Fresh]| {
        let ids = fresh.iter().map(|one| one.id).collect();
        (Admission::default(), ids)
    };
    desk.store.admit(after(10), desk.epoch, candidates, decide).await.unwrap().1
}

#[tokio::test]
async fn a_start_leases_the_job_and_reserves() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    assert_eq!((lease.epoch, lease.counted_attempts), (desk.epoch, 0));
    assert_eq!(lease.reservation, reservation(T0));
    let state = "SELECT state, attempts, epoch, attempt_id FROM job_state;";
    assert_eq!(desk.sql(state), format!("running|1|{}|{}", desk.epoch.0, lease.attempt.0));
    let ledger = "SELECT number, epoch, queue, pool, model, output_mode, body_bytes, reserved_at,
           reserved_requests, reserved_input_tokens, reserved_output_tokens, worst_input_tokens,
           worst_output_tokens, worst_nanousd, settlement IS NULL FROM attempts;";
    let worst = lease.reservation.worst;
    let expected = format!(
        "1|{}|default|sonnet|claude-sonnet-5|realtime|100|{}|1|50|300|{}|600|{}|1",
        desk.epoch.0,
        T0.0,
        worst.input_tokens,
        worst.nanousd.unwrap()
    );
    assert_eq!(desk.sql(ledger), expected);
}

#[tokio::test]
async fn what_it_waited_for_is_remembered() {
    let desk = Desk::open().await;
    let job = desk.prompt("x").await;
    let waited = |_: &[Fresh]| {
        let start = NewAttempt { wait_reason: Some(Reason::OutputTokens), ..start_of(job, T0) };
        (Admission { starts: vec![start], ..Admission::default() }, ())
    };
    desk.store.admit(T0, desk.epoch, &[job], waited).await.unwrap();
    assert_eq!(desk.sql("SELECT wait_reason FROM attempts;"), "output_tokens");
}

#[tokio::test]
async fn attempts_are_numbered_from_one() {
    let desk = Desk::open().await;
    let mut lease = desk.start_one().await;
    for _ in 0..2 {
        desk.settle(&[requeued(&lease, None, true)]).await;
        lease = desk.start(&[lease.job], after(20)).await.remove(0);
    }
    assert_eq!(lease.counted_attempts, 2);
    assert_eq!(desk.sql("SELECT group_concat(number) FROM attempts;"), "1,2,3");
}

#[tokio::test]
async fn only_what_is_still_ready_is_a_candidate() {
    let desk = Desk::open().await;
    let ready = desk.prompt("ready").await;
    let cancelled = desk.prompt("cancelled").await;
    let expired = desk.add(NewJob { expires_at: Some(after(10)), ..job("expired") }).await;
    let lasting = desk.add(NewJob { expires_at: Some(after(11)), ..job("lasting") }).await;
    let taken = desk.prompt("taken").await;
    let held = desk.prompt("held").await;
    let later = desk.add(NewJob { run_at: Some(after(60)), ..job("later") }).await;
    let deleted = desk.prompt("deleted").await;
    desk.store.edit(&[cancelled], JobEvent::Cancel, false).await.unwrap();
    desk.store.edit(&[held], JobEvent::Hold, false).await.unwrap();
    desk.start(&[taken], T0).await;
    desk.sql(&format!("DELETE FROM jobs WHERE id = {deleted};"));
    let all = [ready, cancelled, expired, lasting, taken, held, later, deleted];
    assert_eq!(seen(&desk, &all).await, [ready, lasting]);
}

/// A decision that strays from its candidates does no harm.
#[tokio::test]
async fn a_running_job_is_never_leased_again() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    let stray = |_: &[Fresh]| {
        (Admission { starts: vec![start_of(lease.job, T0)], ..Admission::default() }, ())
    };
    let (leases, ()) = desk.store.admit(T0, desk.epoch, &[lease.job], stray).await.unwrap();
    assert_eq!(leases, []);
    assert_eq!(desk.sql("SELECT count(*) FROM attempts;"), "1");
    let held_by = desk.sql("SELECT attempt_id FROM job_state;");
    assert_eq!(held_by, lease.attempt.0.to_string());
}

#[tokio::test]
async fn nothing_is_written_when_nothing_starts() {
    let desk = Desk::open().await;
    let job = desk.prompt("x").await;
    let mut witness = Witness::of(&desk).await;
    let before = witness.version().await;
    assert_eq!(seen(&desk, &[job]).await, [job]);
    assert_eq!(witness.version().await, before);
    desk.start(&[job], T0).await;
    assert_ne!(witness.version().await, before, "the witness does notice a start");
    witness.leave().await;
}

#[tokio::test]
async fn the_ledger_is_written_with_the_starts() {
    let desk = Desk::open().await;
    let job = desk.prompt("x").await;
    let decide = |fresh: &[Fresh]| (Admission { snapshots: snapshots(), ..all_of(fresh, T0) }, ());
    desk.store.admit(T0, desk.epoch, &[job], decide).await.unwrap();
    assert_eq!(desk.store.limits().await.unwrap(), snapshots().limits);
    assert_eq!(desk.store.budgets(T0).await.unwrap(), snapshots().budgets);
    assert_eq!(Some(desk.store.gates().await.unwrap()), snapshots().gates);
}

#[tokio::test]
async fn a_start_that_cannot_be_written_whole_is_not_written() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(3).await;
    desk.sql(
        "CREATE TRIGGER planted BEFORE INSERT ON gates BEGIN
           SELECT RAISE(ABORT, 'planted'); END;",
    );
    let decide = |fresh: &[Fresh]| (Admission { snapshots: snapshots(), ..all_of(fresh, T0) }, ());
    let error = desk.store.admit(T0, desk.epoch, &jobs, decide).await.unwrap_err();
    assert_eq!(error.refusal().as_deref(), Some("planted"));
    let left = "SELECT (SELECT count(*) FROM attempts), (SELECT count(*) FROM limit_snapshots),
           (SELECT count(*) FROM job_state WHERE state = 'queued');";
    assert_eq!(desk.sql(left), "0|0|3");
    desk.sql("DROP TRIGGER planted;");
    assert_eq!(desk.start(&jobs, T0).await.len(), 3, "and the next turn goes on");
}

#[tokio::test]
async fn a_decision_that_panics_leaves_no_transaction_behind() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    let (store, epoch) = (std::sync::Arc::new(desk.store), desk.epoch);
    let same = std::sync::Arc::clone(&store);
    let broken = tokio::spawn(async move {
        let decide = |_: &[Fresh]| -> (Admission, ()) { panic!("a bug in the plan") };
        same.admit(T0, epoch, &[], decide).await
    });
    assert!(broken.await.is_err());
    let endings = [requeued(&lease, None, false)];
    let settled = store.settle(epoch, &endings, &Default::default(), T0).await;
    assert_eq!(settled.unwrap().lost, [], "the writer is free again");
}

#[tokio::test]
async fn unfit_jobs_are_put_aside_in_the_same_turn() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(2).await;
    let unfit = Unfit {
        job: jobs[0],
        event: JobEvent::Hold,
        class: "cost_unbounded".into(),
        error: "an image has no known price".into(),
    };
    let decide = |_: &[Fresh]| {
        let starts = vec![start_of(jobs[1], T0)];
        (Admission { starts, unfit: vec![unfit.clone()], ..Admission::default() }, ())
    };
    desk.store.admit(T0, desk.epoch, &jobs, decide).await.unwrap();
    let held = format!("SELECT state, error_class, error FROM job_state WHERE id = {};", jobs[0]);
    assert_eq!(desk.sql(&held), "held|cost_unbounded|an image has no known price");
    assert_eq!(desk.state(jobs[1]), "running");
}

#[tokio::test]
async fn a_busy_database_says_so_and_nothing_starts() {
    let desk = Desk::open().await;
    let job = desk.prompt("x").await;
    let busy = std::time::Duration::from_millis(20);
    let daemon = claudeq::store::Store::open_for_daemon(desk.db.path(), busy).await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(desk.db.path());
    let mut other = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let decide = |fresh: &[Fresh]| (all_of(fresh, T0), ());
    let error = daemon.admit(T0, desk.epoch, &[job], decide).await.unwrap_err();
    assert_eq!(error.trouble(), claudeq::store::Trouble::Busy, "{error:?}");
    assert!(matches!(error, StoreError::Sql { doing: "begin a write", .. }));
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    let (leases, ()) = daemon.admit(T0, desk.epoch, &[job], decide).await.unwrap();
    assert_eq!(leases.len(), 1);
}
