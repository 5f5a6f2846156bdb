//! The sweep: who is due, over or wanted no more; and jobs that cannot be called at all.

use super::{Desk, T0, Witness, after, job, requeued};
use claudeq::domain::job::JobEvent;
use claudeq::store::{NewJob, Selector, Swept, Unfit};

#[tokio::test]
async fn due_jobs_become_ready() {
    let desk = Desk::open().await;
    let due = desk.add(NewJob { run_at: Some(after(10)), ..job("due") }).await;
    let later = desk.add(NewJob { run_at: Some(after(11)), ..job("later") }).await;
    let swept = desk.store.sweep(after(10), 100).await.unwrap();
    assert_eq!(swept, Swept { due: 1, ended: 0 });
    let heads = desk.store.heads("default", 9).await.unwrap();
    assert_eq!(heads.iter().map(|head| head.id).collect::<Vec<_>>(), [due]);
    assert_eq!(desk.store.next_due().await.unwrap(), Some(after(11)), "{later}");
}

#[tokio::test]
async fn a_retry_that_is_due_becomes_ready_too() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.settle(&[requeued(&lease, Some(after(30)), true)]).await;
    assert_eq!(desk.store.sweep(after(29), 100).await.unwrap(), Swept::default());
    assert_eq!(desk.store.sweep(after(30), 100).await.unwrap().due, 1);
}

#[tokio::test]
async fn a_step_is_bounded_and_takes_the_earliest() {
    let desk = Desk::open().await;
    for secs in [5, 3, 4] {
        desk.add(NewJob { run_at: Some(after(secs)), ..job("x") }).await;
    }
    assert_eq!(desk.store.sweep(after(60), 2).await.unwrap().due, 2);
    assert_eq!(desk.store.next_due().await.unwrap(), Some(after(5)));
}

#[tokio::test]
async fn expired_jobs_fail_and_running_ones_go_on() {
    let desk = Desk::open().await;
    let over = NewJob { expires_at: Some(after(10)), ..job("over") };
    let ready = desk.add(over.clone()).await;
    let waiting = desk.add(NewJob { run_at: Some(after(5)), ..over.clone() }).await;
    let running = desk.add(over.clone()).await;
    let lasting = desk.add(NewJob { expires_at: Some(after(11)), ..job("lasting") }).await;
    desk.start(&[running], T0).await;
    let swept = desk.store.sweep(after(10), 100).await.unwrap();
    assert_eq!(swept, Swept { due: 0, ended: 2 });
    for id in [ready, waiting] {
        let row = format!("SELECT state, error_class, finished_at FROM job_state WHERE id = {id};");
        assert_eq!(desk.sql(&row), format!("failed|expired|{}", after(10).0));
    }
    assert_eq!((desk.state(running).as_str(), desk.state(lasting).as_str()), ("running", "queued"));
}

#[tokio::test]
async fn cancelled_jobs_end_wherever_they_wait() {
    let desk = Desk::open().await;
    let ready = desk.prompt("ready").await;
    let later = desk.add(NewJob { run_at: Some(after(60)), ..job("later") }).await;
    let held = desk.prompt("held").await;
    let running = desk.prompt("running").await;
    desk.store.edit(&[held], JobEvent::Hold, false).await.unwrap();
    desk.start(&[running], T0).await;
    desk.store.edit(&[ready, later, held, running], JobEvent::Cancel, false).await.unwrap();
    assert_eq!(desk.store.sweep(T0, 100).await.unwrap().ended, 3);
    for id in [ready, later, held] {
        assert_eq!(desk.state(id), "cancelled");
    }
    assert_eq!(desk.state(running), "running");
    let results = desk.store.results(0, &Selector::default(), 9).await.unwrap();
    assert!(results.iter().all(|row| row.error_class.as_deref() == Some("cancelled")));
}

#[tokio::test]
async fn each_end_takes_one_number() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(4).await;
    desk.store.edit(&jobs[..2], JobEvent::Hold, false).await.unwrap();
    desk.store.edit(&jobs[..3], JobEvent::Cancel, false).await.unwrap();
    assert_eq!(desk.store.sweep(T0, 100).await.unwrap().ended, 3);
    let gone = Unfit {
        job: jobs[0],
        event: JobEvent::Fail,
        class: "invalid_request".into(),
        error: "it is no JSON".into(),
    };
    let bad = Unfit { job: jobs[3], ..gone.clone() };
    desk.store.reject(&[gone, bad], T0).await.unwrap();
    let numbers = "SELECT group_concat(finished_seq) FROM job_state;";
    assert_eq!(desk.sql(numbers), "1,2,3,4");
    assert_eq!(desk.store.last_finished().await.unwrap(), 4);
}

#[tokio::test]
async fn a_job_may_be_cancelled_as_it_is_inserted() {
    let desk = Desk::open().await;
    desk.sql("INSERT INTO jobs (prompt, cancel_requested) VALUES ('never', 1);");
    assert_eq!(desk.store.sweep(T0, 100).await.unwrap().ended, 1);
}

#[tokio::test]
async fn nothing_is_written_when_there_is_nothing_to_do() {
    let desk = Desk::open().await;
    desk.prompt("ready").await;
    let running = desk.prompt("running").await;
    desk.start(&[running], T0).await;
    desk.store.edit(&[running], JobEvent::Cancel, true).await.unwrap();
    desk.add(NewJob { run_at: Some(after(60)), expires_at: Some(after(90)), ..job("later") }).await;
    let mut witness = Witness::of(&desk).await;
    let before = witness.version().await;
    assert_eq!(desk.store.sweep(after(59), 100).await.unwrap(), Swept::default());
    assert_eq!(witness.version().await, before);
    desk.store.sweep(after(60), 100).await.unwrap();
    assert_ne!(witness.version().await, before, "the witness does notice a sweep");
    witness.leave().await;
}

/// A producer that holds the write lock must not stop a sweep with nothing to do.
#[tokio::test]
async fn looking_needs_no_write_lock() {
    let desk = Desk::open().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(desk.db.path());
    let mut other = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    assert_eq!(desk.store.sweep(T0, 100).await.unwrap(), Swept::default());
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
}

fn unfit(job: claudeq::domain::job::JobId, event: JobEvent) -> Unfit {
    Unfit { job, event, class: "invalid_request".into(), error: "not JSON".into() }
}

#[tokio::test]
async fn what_cannot_be_called_fails_alone() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(3).await;
    let list = [unfit(jobs[0], JobEvent::Fail), unfit(jobs[1], JobEvent::Hold)];
    desk.store.reject(&list, after(3)).await.unwrap();
    let rows = desk.sql("SELECT state, error_class, error, finished_seq FROM job_state;");
    assert_eq!(
        rows,
        "failed|invalid_request|not JSON|1\nheld|invalid_request|not JSON|\nqueued|||"
    );
}

#[tokio::test]
async fn a_job_that_was_taken_meanwhile_is_not_rejected() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.store.reject(&[unfit(lease.job, JobEvent::Fail)], after(3)).await.unwrap();
    assert_eq!(desk.state(lease.job), "running");
}

#[tokio::test]
async fn rejecting_nothing_writes_nothing() {
    let desk = Desk::open().await;
    let mut witness = Witness::of(&desk).await;
    let before = witness.version().await;
    desk.store.reject(&[], T0).await.unwrap();
    assert_eq!(witness.version().await, before);
    witness.leave().await;
}
