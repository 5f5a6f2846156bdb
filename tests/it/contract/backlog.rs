//! What is left, in groups, with some jobs by way of example.

use super::{Desk, T0, after, in_queue, job};
use crate::helper::sql;
use claudeq::domain::job::JobEvent;
use claudeq::store::{BacklogGroup, JobSample, NewJob};

fn sorted(mut groups: Vec<BacklogGroup>) -> Vec<BacklogGroup> {
    groups.sort_by(|one, other| (&one.queue, one.due).cmp(&(&other.queue, other.due)));
    groups
}

#[tokio::test]
async fn unfinished_jobs_are_counted_once() {
    let desk = Desk::open().await;
    desk.prompts(5).await;
    desk.add(NewJob { priority: 7, ..in_queue("urgent", "other") }).await;
    for secs in [20, 40, 90_000] {
        desk.add(NewJob { run_at: Some(after(secs)), ..in_queue("later", "timed") }).await;
    }
    let held = desk.prompt("held").await;
    desk.store.edit(&[held], JobEvent::Hold, false).await.unwrap();
    desk.start_one().await;
    let backlog = desk.store.backlog(None, T0).await.unwrap();
    assert_eq!((backlog.groups[0].queue.as_str(), backlog.groups[0].jobs), ("default", 5));
    let groups = sorted(backlog.groups);
    let found: Vec<_> =
        groups.iter().map(|one| (&*one.queue, one.priority, one.due, one.jobs)).collect();
    assert_eq!(
        found,
        [
            ("default", 0, None, 5),
            ("other", 7, None, 1),
            ("timed", 0, Some((after(20), after(40))), 2),
            ("timed", 0, Some((after(90_000), after(90_000))), 1),
        ]
    );
    assert!(groups.iter().all(|group| !group.samples.is_empty()), "{groups:?}");
    assert_eq!((backlog.open.len(), backlog.open[0].calls), (1, 1));
}

#[tokio::test]
async fn examples_say_what_is_asked() {
    let desk = Desk::open().await;
    desk.add(NewJob { max_tokens: Some(9), system: Some("ab".into()), ..job("12345") }).await;
    let request = |text: &str, queue: &str| NewJob {
        prompt: None,
        request: Some(text.into()),
        queue: Some(queue.into()),
        ..NewJob::default()
    };
    desk.add(request(r#"{"model": "m", "max_tokens": 77, "messages": []}"#, "raw")).await;
    let columns =
        NewJob { model: Some("column".into()), ..request(r#"{"max_tokens": 1.5}"#, "part") };
    desk.add(columns).await;
    desk.add(request("{ this is no JSON", "bad")).await;
    let groups = sorted(desk.store.backlog(None, T0).await.unwrap().groups);
    let one = |queue: &str| {
        let group = groups.iter().find(|group| group.queue == queue).unwrap();
        assert_eq!(group.samples.len(), 1, "{group:?}");
        group.samples[0].clone()
    };
    let prompt =
        JobSample { bytes: 7, max_tokens: Some(9), has_system: true, ..JobSample::default() };
    assert_eq!(one("default"), prompt);
    let raw = one("raw");
    assert_eq!((raw.model.as_deref(), raw.max_tokens, raw.is_request), (Some("m"), Some(77), true));
    assert_eq!(one("part").model.as_deref(), Some("column"));
    assert_eq!((one("bad").model, one("bad").max_tokens), (None, None));
}

#[tokio::test]
async fn a_batch_alone() {
    let desk = Desk::open().await;
    desk.prompts(3).await;
    let nightly = |queue: &str| NewJob { batch: Some("nightly".into()), ..in_queue("x", queue) };
    desk.add(nightly("a")).await;
    desk.add(nightly("a")).await;
    desk.add(NewJob { run_at: Some(after(60)), ..nightly("b") }).await;
    let groups = sorted(desk.store.backlog(Some("nightly"), T0).await.unwrap().groups);
    let found: Vec<_> =
        groups.iter().map(|one| (&*one.queue, one.due.is_some(), one.jobs)).collect();
    assert_eq!(found, [("a", false, 2), ("b", true, 1)]);
    assert_eq!(groups[0].samples.len(), 2);
    assert_eq!(desk.store.backlog(Some("none"), T0).await.unwrap().groups, []);
}

#[tokio::test]
async fn many_jobs_are_not_all_looked_at() {
    let desk = Desk::open().await;
    sql(
        desk.db.path(),
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         INSERT INTO jobs (prompt, max_tokens) SELECT substr('0123456789', 1, 1 + i % 10), i FROM n",
    );
    let backlog = desk.store.backlog(None, T0).await.unwrap();
    let group = &backlog.groups[0];
    assert_eq!((group.jobs, group.samples.len()), (20_000, 1_000));
    let mean: i64 = group.samples.iter().filter_map(|one| one.max_tokens).sum::<i64>() / 1_000;
    assert!((9_500..10_500).contains(&mean), "spread over all of them: {mean}");
}
