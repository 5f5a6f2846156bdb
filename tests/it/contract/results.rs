//! Consuming results, and what people look at.

use super::{Desk, T0, after, answered, failed, job};
use claudeq::domain::job::{JobId, JobState};
use claudeq::domain::time::Timestamp;
use claudeq::store::{Ending, NewJob, Selector, SpentRow};

/// Five finished jobs; every other one failed.
async fn five(desk: &Desk) -> Vec<JobId> {
    let mut jobs = Vec::new();
    for number in 0..5 {
        let batch = Some(if number < 3 { "a" } else { "b" }.to_owned());
        let key = Some(format!("k{number}"));
        jobs.push(desk.add(NewJob { batch, key, ..job("x") }).await);
    }
    let leases = desk.start(&jobs, T0).await;
    let end = |(at, lease)| if at % 2 == 0 { answered(lease, "Hi") } else { failed(lease) };
    let endings: Vec<Ending> = leases.iter().enumerate().map(end).collect();
    desk.settle(&endings).await;
    jobs
}

async fn page(desk: &Desk, after: i64, which: &Selector, most: i64) -> Vec<i64> {
    let rows = desk.store.results(after, which, most).await.unwrap();
    rows.iter().map(|row| row.seq).collect()
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repeat() {
    let desk = Desk::open().await;
    five(&desk).await;
    let all = Selector::default();
    assert_eq!(page(&desk, 0, &all, 2).await, [1, 2]);
    assert_eq!(page(&desk, 2, &all, 2).await, [3, 4]);
    assert_eq!(page(&desk, 4, &all, 2).await, [5]);
    assert_eq!(page(&desk, 5, &all, 2).await, [0; 0]);
}

/// However large answers are, only so much of them is held at a time; one alone may be larger.
#[tokio::test]
async fn a_page_ends_where_answers_are_large() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(5).await;
    let leases = desk.start(&jobs, T0).await;
    let large = "x".repeat(3 << 20);
    let larger = "x".repeat(9 << 20);
    let texts = ["a", &larger, "b", &large, &large];
    let mut endings: Vec<Ending> = Vec::new();
    for (lease, text) in leases.iter().zip(texts) {
        let ending = answered(lease, "");
        endings.push(Ending { response: Some(("{}".into(), text.into())), ..ending });
    }
    desk.settle(&endings).await;
    let all = Selector::default();
    assert_eq!(page(&desk, 0, &all, 9).await, [1]);
    assert_eq!(page(&desk, 1, &all, 9).await, [2]);
    assert_eq!(page(&desk, 2, &all, 9).await, [3, 4, 5]);
    let rows = desk.store.results_by_id(jobs[0], 0, &all, 9).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [2]);
    assert_eq!(desk.store.last_seq().await.unwrap(), 5);
}

#[tokio::test]
async fn results_are_selected_like_jobs() {
    let desk = Desk::open().await;
    let jobs = five(&desk).await;
    let all = Selector::default();
    let batch = Selector { batch: Some("b".into()), ..all.clone() };
    assert_eq!(page(&desk, 0, &batch, 9).await, [4, 5]);
    let failures = Selector { states: vec![JobState::Failed], ..all.clone() };
    assert_eq!(page(&desk, 0, &failures, 9).await, [2, 4]);
    assert_eq!(page(&desk, 2, &failures, 9).await, [4]);
    let class = Selector { error_class: Some("invalid_request".into()), ..all.clone() };
    assert_eq!(page(&desk, 0, &class, 9).await, [2, 4]);
    let key = Selector { key: Some("k2".into()), ..all.clone() };
    assert_eq!(page(&desk, 0, &key, 9).await, [3]);
    let ids = Selector { ids: vec![jobs[0], jobs[4]], ..all.clone() };
    assert_eq!(page(&desk, 0, &ids, 9).await, [1, 5]);
    let stopped = Selector { stop_reason: Some("end_turn".into()), ..all.clone() };
    assert_eq!(page(&desk, 0, &stopped, 9).await, [1, 3, 5]);
    assert_eq!(desk.store.select(&stopped).await.unwrap().len(), 3);
    let queue = Selector { queue: Some("nobody".into()), ..all };
    assert_eq!(page(&desk, 0, &queue, 9).await, [0; 0]);
}

#[tokio::test]
async fn the_cost_of_a_job_is_that_of_all_its_attempts() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    let mut unknown = super::requeued(&lease, None, true);
    unknown.settlement.nanousd = Some(1_000_000);
    desk.settle(&[unknown]).await;
    let again = desk.start(&[lease.job], after(20)).await;
    desk.settle(&[answered(&again[0], "Hi")]).await;
    let rows = desk.store.results(0, &Selector::default(), 9).await.unwrap();
    assert_eq!(rows[0].cost_usd, Some(0.001_28));
    let detail = desk.store.detail(lease.job).await.unwrap().unwrap();
    assert_eq!(detail.cost_usd, Some(0.001_28));
    assert_eq!((detail.state.as_str(), detail.text.as_deref()), ("succeeded", Some("Hi")));
}

#[tokio::test]
async fn a_cost_that_nobody_knows_is_not_zero() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    let mut ending = answered(&lease, "Hi");
    ending.settlement.nanousd = None;
    desk.settle(&[ending]).await;
    let rows = desk.store.results(0, &Selector::default(), 9).await.unwrap();
    assert_eq!(rows[0].cost_usd, None);
}

#[tokio::test]
async fn counts_add_up() {
    let desk = Desk::open().await;
    five(&desk).await;
    let running = desk.prompts(3).await;
    desk.start(&running[..1], T0).await;
    desk.add(NewJob { run_at: Some(after(60)), ..job("later") }).await;
    let counts = desk.store.counts().await.unwrap();
    assert_eq!((counts.queued, counts.running, counts.finished()), (3, 1, 5));
    assert_eq!((counts.succeeded, counts.failed, counts.total()), (3, 2, 9));
    let timed = desk.store.timed().await.unwrap();
    assert_eq!((timed.timed, timed.retrying, timed.next_at), (1, 0, Some(after(60))));
    let failures = desk.store.by_class("failed").await.unwrap();
    assert_eq!((failures[0].error_class.as_str(), failures[0].jobs), ("invalid_request", 2));
    let queues = desk.store.queues().await.unwrap();
    assert_eq!((queues[0].queue.as_str(), queues[0].jobs, queues[0].running), ("default", 4, 1));
}

#[tokio::test]
async fn retries_are_counted_by_what_they_met() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.settle(&[super::requeued(&lease, Some(after(60)), true)]).await;
    let retrying = desk.store.retrying_by_class().await.unwrap();
    assert_eq!((retrying[0].error_class.as_str(), retrying[0].jobs), ("api_error", 1));
    assert_eq!(desk.store.timed().await.unwrap().retrying, 1);
}

#[tokio::test]
async fn use_and_spending_include_what_is_in_flight() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(2).await;
    let leases = desk.start(&jobs, T0).await;
    desk.settle(&[answered(&leases[0], "Hi")]).await;
    let used = desk.store.used_since(Timestamp(T0.0 - 1)).await.unwrap();
    assert_eq!((used[0].pool.as_str(), used[0].requests), ("sonnet", 2));
    assert_eq!((used[0].input_tokens, used[0].output_tokens), (90, 320));
    assert_eq!(desk.store.used_since(T0).await.unwrap(), []);
    let worst = leases[1].reservation.worst.nanousd.unwrap();
    let spent = SpentRow::sum(&desk.store.spent_by_model(T0, None, None).await.unwrap());
    assert_eq!((spent.calls, spent.nanousd), (2, 280_000 + worst));
    let by_model = desk.store.spent_by_model(T0, None, Some("default")).await.unwrap();
    assert_eq!((by_model[0].model.as_str(), by_model[0].calls), ("claude-sonnet-5", 2));
    assert_eq!(desk.store.spent_by_model(T0, Some("nobody"), None).await.unwrap(), []);
}

#[tokio::test]
async fn lists_go_on_after_an_id() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(3).await;
    let rows = desk.store.list(&Selector::default(), jobs[0], 1).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [jobs[1].0]);
    assert!(desk.store.detail(JobId(999)).await.unwrap().is_none());
}

#[tokio::test]
async fn the_views_show_what_they_promise() {
    let desk = Desk::open().await;
    five(&desk).await;
    let batches = "SELECT batch, jobs, succeeded, failed, progress, cost_usd FROM batches;";
    assert_eq!(desk.sql(batches), "a|3|2|1|1.0|0.00056\nb|2|1|1|1.0|0.00028");
    assert_eq!(desk.sql("SELECT count(*), max(seq) FROM job_list;"), "5|5");
    desk.store.settle(desk.epoch, &[], &super::snapshots(), T0).await.unwrap();
    let limits = "SELECT pool, dimension, available, closed_by, as_of FROM limits_now;";
    assert_eq!(desk.sql(limits), format!("sonnet|requests|-49||{}", T0.0));
}
