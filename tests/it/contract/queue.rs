//! Reading the queue: heads, bodies, and when it is worth another look.

use super::{Desk, T0, after, in_queue, job};
use claudeq::domain::job::{JobEvent, JobId};
use claudeq::store::{NewJob, Outlook};

fn ids(heads: &[claudeq::store::Head]) -> Vec<JobId> {
    heads.iter().map(|head| head.id).collect()
}

#[tokio::test]
async fn higher_priority_first_then_first_come() {
    let desk = Desk::open().await;
    let mut added = Vec::new();
    for priority in [0, 5, -100, 5, 0, 100] {
        added.push(desk.add(NewJob { priority, ..job("x") }).await);
    }
    let heads = desk.store.heads("default", 10).await.unwrap();
    let order = [5, 1, 3, 0, 4, 2].map(|at: usize| added[at]);
    assert_eq!(ids(&heads), order);
    let first = desk.store.heads("default", 2).await.unwrap();
    assert_eq!(ids(&first), order[..2]);
}

#[tokio::test]
async fn a_head_knows_the_bytes_of_its_body() {
    let desk = Desk::open().await;
    desk.add(NewJob { system: Some("été".into()), ..job("12345") }).await;
    let heads = desk.store.heads("default", 10).await.unwrap();
    assert_eq!(heads[0].bytes, 10, "bytes, not characters");
}

#[tokio::test]
async fn only_ready_jobs_of_the_queue_are_heads() {
    let desk = Desk::open().await;
    let ready = desk.prompt("ready").await;
    let later = desk.add(NewJob { run_at: Some(after(60)), ..job("later") }).await;
    let running = desk.prompt("running").await;
    let held = desk.prompt("held").await;
    desk.add(in_queue("elsewhere", "other")).await;
    desk.start(&[running], T0).await;
    let hold = claudeq::domain::job::JobEvent::Hold;
    desk.store.edit(&[held], hold, false).await.unwrap();
    let heads = desk.store.heads("default", 10).await.unwrap();
    assert_eq!(ids(&heads), [ready]);
    assert!(!ids(&heads).contains(&later));
}

#[tokio::test]
async fn queues_with_ready_jobs_are_listed_once() {
    let desk = Desk::open().await;
    for queue in ["b", "a", "c", "a", "b"] {
        desk.add(in_queue("x", queue)).await;
    }
    desk.add(NewJob { run_at: Some(after(60)), ..in_queue("x", "later") }).await;
    assert_eq!(desk.store.ready_queues(10).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(desk.store.ready_queues(2).await.unwrap(), ["a", "b"]);
}

#[tokio::test]
async fn an_empty_queue_has_neither() {
    let desk = Desk::open().await;
    assert_eq!(desk.store.ready_queues(10).await.unwrap(), Vec::<String>::new());
    assert_eq!(desk.store.heads("default", 10).await.unwrap(), []);
}

#[tokio::test]
async fn bodies_come_as_they_were_written() {
    let desk = Desk::open().await;
    let whole = NewJob {
        system: Some("Be kind".into()),
        model: Some("claude-sonnet-5".into()),
        max_tokens: Some(64),
        max_attempts: Some(3),
        priority: 7,
        ..in_queue("Say hi", "chat")
    };
    let one = desk.add(whole).await;
    let request = NewJob { request: Some("{\"x\":1}".into()), ..NewJob::default() };
    let other = desk.add(request).await;
    let rows = desk.store.bodies(&[one, other, JobId(999)]).await.unwrap();
    assert_eq!(rows.len(), 2, "those that exist");
    let row = &rows[0];
    assert_eq!((row.id, &*row.queue, row.priority), (one, "chat", 7));
    assert_eq!(row.prompt.as_deref(), Some(&b"Say hi"[..]));
    assert_eq!(row.system.as_deref(), Some(&b"Be kind"[..]));
    assert_eq!(row.model.as_deref(), Some(&b"claude-sonnet-5"[..]));
    assert_eq!((row.max_tokens, row.max_attempts), (Some(64), Some(3)));
    assert_eq!((&row.request, &rows[1].prompt), (&None, &None));
    assert_eq!(rows[1].request.as_deref(), Some(&b"{\"x\":1}"[..]));
    assert_eq!((rows[1].max_tokens, rows[1].max_attempts), (None, None));
}

/// SQLite takes any bytes for text: such a job must fail alone, so it must be readable.
#[tokio::test]
async fn a_body_that_is_not_utf8_spoils_no_other() {
    let desk = Desk::open().await;
    let good = desk.prompt("good").await;
    desk.sql(
        "INSERT INTO jobs (prompt, system, model, key, batch, metadata) VALUES
           (CAST(x'ff41' AS TEXT), CAST(x'fe' AS TEXT), CAST(x'fd' AS TEXT), CAST(x'fc' AS TEXT),
            CAST(x'fb' AS TEXT), CAST(x'fa' AS TEXT));",
    );
    let bad = JobId(good.0 + 1);
    let heads = desk.store.heads("default", 10).await.unwrap();
    assert_eq!(ids(&heads), [good, bad]);
    let rows = desk.store.bodies(&[good, bad]).await.unwrap();
    assert_eq!(rows[1].prompt.as_deref(), Some(&b"\xffA"[..]));
    assert_eq!(rows[1].model.as_deref(), Some(&b"\xfd"[..]));
    let listed = desk.store.list(&claudeq::store::Selector::default(), JobId(0), 10).await.unwrap();
    assert_eq!(listed[1].key.as_deref(), Some("\u{fffd}"));
    let detail = desk.store.detail(bad).await.unwrap().unwrap();
    assert_eq!(detail.metadata.as_deref(), Some("\u{fffd}"));
}

/// A queue's name is read by itself, everywhere: it has to be plain.
#[tokio::test]
async fn no_queue_has_a_name_that_cannot_be_read() {
    let desk = Desk::open().await;
    for name in ["x'ff'", "x'61ff'", "x'6100ff'", "x'80'", "x'c3'"] {
        let script =
            format!("INSERT INTO jobs (prompt, queue) VALUES ('a', CAST({name} AS TEXT));");
        let said = crate::helper::sqlite3(desk.db.path(), &script);
        assert!(said.err.contains("jobs.queue must be"), "{name}: {said:?}");
    }
    desk.prompt("good").await;
    assert_eq!(desk.store.ready_queues(10).await.unwrap(), ["default"]);
    assert_eq!(desk.store.queues().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_next_due_time_is_the_first_start_or_end() {
    let desk = Desk::open().await;
    assert_eq!(desk.store.next_due().await.unwrap(), None);
    desk.add(NewJob { run_at: Some(after(60)), ..job("later") }).await;
    assert_eq!(desk.store.next_due().await.unwrap(), Some(after(60)));
    desk.add(NewJob { expires_at: Some(after(30)), ..job("soon over") }).await;
    assert_eq!(desk.store.next_due().await.unwrap(), Some(after(30)));
}

#[tokio::test]
async fn only_running_jobs_are_broken_off_and_only_when_asked_for() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(3).await;
    desk.start(&jobs[..2], T0).await;
    let cancel = claudeq::domain::job::JobEvent::Cancel;
    desk.store.edit(&[jobs[0]], cancel, false).await.unwrap();
    desk.store.edit(&[jobs[1], jobs[2]], cancel, true).await.unwrap();
    assert_eq!(desk.store.wishes().await.unwrap().break_off, [jobs[1]]);
}

#[tokio::test]
async fn what_is_left_is_told_without_what_has_finished() {
    let desk = Desk::open().await;
    assert_eq!(desk.store.outlook().await.unwrap(), Outlook::default());
    let jobs = desk.prompts(3).await;
    desk.add(NewJob { run_at: Some(after(60)), ..job("later") }).await;
    desk.start(&jobs[..1], T0).await;
    desk.store.edit(&jobs[1..2], JobEvent::Hold, false).await.unwrap();
    let left = Outlook { queued: 2, running: 1, timed: true, held: true };
    assert_eq!(desk.store.outlook().await.unwrap(), left);
}
