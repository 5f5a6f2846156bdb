//! Jobs that are called again otherwise than they were written: with another `max_tokens`, or to go
//! on with a paused turn.

use super::{Desk, T0, after, all_of, answered, failed, next, requeued};
use claudeq::domain::attempt::Usage;
use claudeq::domain::job::{AttemptId, JobEvent, JobId};
use claudeq::store::{Ending, Fresh, Lease, ResultRow, Selector, Terms};

/// A call whose answer is a part.
fn paused(lease: &Lease, text: &str) -> Ending {
    Ending {
        stop_reason: Some("pause_turn".into()),
        next: next(JobEvent::Continue),
        ..answered(lease, text)
    }
}

async fn again(desk: &Desk, job: JobId) -> Lease {
    desk.start(&[job], after(9)).await.pop().expect("it is ready")
}

async fn result(desk: &Desk) -> ResultRow {
    desk.store.results(0, &Selector::default(), 9).await.unwrap().pop().expect("it has ended")
}

async fn terms(desk: &Desk, job: JobId) -> Terms {
    desk.store.bodies(&[job]).await.unwrap()[0].terms
}

#[tokio::test]
async fn a_paused_job_is_ready_with_what_there_is_of_its_turn() {
    let desk = Desk::open().await;
    let first = desk.start_one().await;
    let job = first.job;
    assert_eq!(terms(&desk, job).await, Terms::default());
    let settled = desk.settle(&[paused(&first, "one")]).await;
    assert_eq!(settled.finished.len(), 1, "its state has changed");
    let row =
        "SELECT state, next_attempt_at IS NULL, counted_attempts, finished_seq FROM job_state;";
    assert_eq!(desk.sql(row), "queued|1|0|");
    let turn_from = Some(first.attempt);
    assert_eq!(terms(&desk, job).await, Terms { max_tokens: None, turn_from });
    let so_far = desk.store.turn_so_far(job, first.attempt).await.unwrap().unwrap();
    assert_eq!((so_far.body.as_str(), so_far.calls), ("{\"text\":\"one\"}", 1));

    // What fails meanwhile leaves it as it is, and the next part takes its place.
    let second = again(&desk, job).await;
    desk.settle(&[requeued(&second, None, true)]).await;
    assert_eq!(terms(&desk, job).await.turn_from, turn_from);
    let third = again(&desk, job).await;
    desk.settle(&[paused(&third, "one and two")]).await;
    assert_eq!(terms(&desk, job).await.turn_from, turn_from);
    let so_far = desk.store.turn_so_far(job, first.attempt).await.unwrap().unwrap();
    assert_eq!((so_far.body.as_str(), so_far.calls), ("{\"text\":\"one and two\"}", 2));

    let last = again(&desk, job).await;
    let usage =
        Usage { input_tokens: 7, output_tokens: 9, cache_read_tokens: 3, ..Usage::default() };
    desk.settle(&[Ending { usage: Some(usage), ..answered(&last, "all") }]).await;
    let row = result(&desk).await;
    assert_eq!(
        (row.state.as_str(), row.text.as_deref(), row.attempts),
        ("succeeded", Some("all"), 4)
    );
    let tokens =
        [row.input_tokens, row.output_tokens, row.cache_read_tokens, row.cache_write_tokens];
    assert_eq!(tokens, [Some(87), Some(49), Some(3), Some(0)], "of all that were answered");
}

/// There is an answer, if not all of it: it was paid for.
#[tokio::test]
async fn a_turn_that_is_cancelled_in_the_middle_has_succeeded_so_far() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.store.edit(&[lease.job], JobEvent::Cancel, false).await.unwrap();
    desk.settle(&[paused(&lease, "one")]).await;
    let row = result(&desk).await;
    assert_eq!((row.state.as_str(), row.text.as_deref()), ("succeeded", Some("one")));
    assert_eq!(row.stop_reason.as_deref(), Some("pause_turn"));
    // Not yet called again: nothing new has come.
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.settle(&[paused(&lease, "one")]).await;
    desk.store.edit(&[lease.job], JobEvent::Cancel, false).await.unwrap();
    desk.store.sweep(after(9), 9).await.unwrap();
    let row = result(&desk).await;
    assert_eq!((row.state.as_str(), row.text.as_deref()), ("cancelled", Some("one")));
}

#[tokio::test]
async fn a_retry_may_ask_for_more_and_begins_anew() {
    let desk = Desk::open().await;
    let first = desk.start_one().await;
    let job = first.job;
    desk.settle(&[paused(&first, "one")]).await;
    let second = again(&desk, job).await;
    desk.settle(&[answered(&second, "all")]).await;
    assert_eq!(result(&desk).await.input_tokens, Some(80));
    assert_eq!(desk.store.retry(&[job], Some(900)).await.unwrap().changed, 1);
    let asked = Terms { max_tokens: Some(900), turn_from: None };
    assert_eq!(terms(&desk, job).await, asked);
    assert_eq!(desk.sql("SELECT max_tokens FROM job_list;"), "900");
    let third = again(&desk, job).await;
    desk.settle(&[failed(&third)]).await;
    // As the producer wrote it stays; asked once, it is asked so from then on.
    desk.store.edit(&[job], JobEvent::Retry, false).await.unwrap();
    assert_eq!(terms(&desk, job).await, asked);
    assert_eq!(desk.sql("SELECT max_tokens FROM jobs;"), "");
    let fourth = again(&desk, job).await;
    desk.settle(&[answered(&fourth, "anew")]).await;
    let row = result(&desk).await;
    assert_eq!((row.text.as_deref(), row.attempts, row.input_tokens), (Some("anew"), 4, Some(40)));
    assert_eq!(desk.sql("SELECT count(*) FROM responses;"), "3", "what was paid for stays");
}

/// The daemon may have read it before.
#[tokio::test]
async fn a_candidate_says_on_which_terms_it_is_ready() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.settle(&[failed(&lease)]).await;
    desk.store.retry(&[lease.job], Some(7)).await.unwrap();
    let mut seen: Vec<Fresh> = Vec::new();
    let decide = |fresh: &[Fresh]| {
        seen = fresh.to_vec();
        (all_of(fresh, T0), ())
    };
    desk.store.admit(T0, desk.epoch, &[lease.job], decide).await.unwrap();
    assert_eq!(seen[0].terms, Terms { max_tokens: Some(7), turn_from: None::<AttemptId> });
}
