//! What the command line writes: new jobs, changes to selected ones, pauses.

use super::{Desk, T0, Witness, after, answered, failed, in_queue, job};
use claudeq::domain::job::{JobEvent, JobId, JobState};
use claudeq::store::{NewJob, Selector};

fn keyed(prompt: &str, key: &str) -> NewJob {
    NewJob { key: Some(key.to_owned()), ..job(prompt) }
}

#[tokio::test]
async fn every_column_arrives() {
    let desk = Desk::open().await;
    let whole = NewJob {
        prompt: Some("Say hi".into()),
        request: None,
        system: Some("Be kind".into()),
        model: Some("claude-sonnet-5".into()),
        max_tokens: Some(64),
        queue: Some("chat".into()),
        batch: Some("b1".into()),
        key: Some("k1".into()),
        priority: -3,
        run_at: Some(after(1)),
        expires_at: Some(after(2)),
        max_attempts: Some(9),
        metadata: Some("{\"a\":1}".into()),
    };
    desk.add(whole).await;
    let row = "SELECT prompt, request, system, model, max_tokens, queue, batch, key, priority,
         run_at, expires_at, max_attempts, metadata FROM jobs;";
    let (one, two) = (after(1).0, after(2).0);
    let expected =
        format!("Say hi||Be kind|claude-sonnet-5|64|chat|b1|k1|-3|{one}|{two}|9|{{\"a\":1}}");
    assert_eq!(desk.sql(row), expected);
}

#[tokio::test]
async fn the_same_key_gives_the_same_job() {
    let desk = Desk::open().await;
    let first = desk.add(keyed("Say hi", "k")).await;
    desk.prompt("between").await;
    assert_eq!(desk.add(keyed("Say hi", "k")).await, first);
    let elsewhere = NewJob { queue: Some("other".into()), ..keyed("Say hi", "k") };
    assert_ne!(desk.add(elsewhere).await, first, "a key is a queue's own");
    assert_eq!(desk.sql("SELECT count(*) FROM jobs;"), "3");
}

#[tokio::test]
async fn the_same_key_with_another_prompt_is_refused() {
    let desk = Desk::open().await;
    desk.add(keyed("Say hi", "k")).await;
    let error = desk.store.add_job(&keyed("Say bye", "k")).await.unwrap_err();
    let sentence = error.refusal().expect("a refusal");
    assert!(sentence.starts_with("jobs.key: this queue has a job with the same key"), "{sentence}");
}

#[tokio::test]
async fn a_job_without_a_key_is_always_new() {
    let desk = Desk::open().await;
    assert_ne!(desk.prompt("x").await, desk.prompt("x").await);
}

async fn edit(desk: &Desk, jobs: &[JobId], event: JobEvent) -> u64 {
    desk.store.edit(jobs, event, false).await.unwrap().changed
}

/// One job in each state, in the order of [`JobState::ALL`].
async fn one_of_each(desk: &Desk) -> Vec<JobId> {
    let jobs = desk.prompts(6).await;
    let leases = desk.start(&jobs[1..4], T0).await;
    desk.settle(&[answered(&leases[1], "Hi"), failed(&leases[2])]).await;
    edit(desk, &[jobs[4]], JobEvent::Cancel).await;
    desk.store.sweep(T0, 9).await.unwrap();
    edit(desk, &[jobs[5]], JobEvent::Hold).await;
    for (job, state) in jobs.iter().zip(JobState::ALL) {
        assert_eq!(desk.state(*job), state.as_str());
    }
    jobs
}

/// What each event makes of the six states, by the one function that says so.
#[tokio::test]
async fn edits_agree_with_the_state_machine() {
    for event in [JobEvent::Hold, JobEvent::Release, JobEvent::Retry] {
        let desk = Desk::open().await;
        let jobs = one_of_each(&desk).await;
        let mut changes = 0;
        edit(&desk, &jobs, event).await;
        for (job, state) in jobs.iter().zip(JobState::ALL) {
            // Holding a running job is the daemon's, after an attempt.
            let meant = (event, state) != (JobEvent::Hold, JobState::Running);
            let expected = state.next(event).ok().filter(|_| meant).unwrap_or(state);
            assert_eq!(desk.state(*job), expected.as_str(), "{event:?} of {state}");
            changes += u64::from(expected != state);
        }
        assert!(changes > 0);
    }
}

#[tokio::test]
async fn an_edit_says_how_many_it_changed() {
    let desk = Desk::open().await;
    let jobs = one_of_each(&desk).await;
    assert_eq!(edit(&desk, &jobs, JobEvent::Hold).await, 1);
    assert_eq!(edit(&desk, &jobs, JobEvent::Release).await, 2);
    assert_eq!(edit(&desk, &jobs, JobEvent::Retry).await, 3);
    assert_eq!(edit(&desk, &[JobId(999)], JobEvent::Retry).await, 0);
    assert_eq!(edit(&desk, &[], JobEvent::Retry).await, 0);
}

#[tokio::test]
async fn the_daemons_events_are_not_a_persons() {
    let desk = Desk::open().await;
    let jobs = one_of_each(&desk).await;
    for event in [JobEvent::Lease, JobEvent::Succeed, JobEvent::Fail, JobEvent::Requeue] {
        assert_eq!(edit(&desk, &jobs, event).await, 0, "{event:?}");
    }
    assert_eq!(edit(&desk, &jobs, JobEvent::Hold).await, 1, "and the writer is free");
}

#[tokio::test]
async fn cancelling_asks_and_only_what_is_not_over() {
    let desk = Desk::open().await;
    let jobs = one_of_each(&desk).await;
    assert_eq!(edit(&desk, &jobs, JobEvent::Cancel).await, 3);
    let asked = desk.sql("SELECT group_concat(cancel_requested) FROM job_state;");
    assert_eq!(asked, "1,1,0,0,1,1");
    let producers = desk.sql("SELECT group_concat(cancel_requested) FROM jobs;");
    assert_eq!(producers, asked);
    assert_eq!(edit(&desk, &jobs, JobEvent::Cancel).await, 0, "it was asked before");
    let now = desk.store.edit(&jobs, JobEvent::Cancel, true).await.unwrap();
    assert_eq!(now.changed, 3, "but not for this moment");
}

#[tokio::test]
async fn a_retried_job_begins_anew_and_keeps_its_history() {
    let desk = Desk::open().await;
    let id = desk.add(NewJob { expires_at: Some(after(5)), ..job("x") }).await;
    let lease = desk.start(&[id], T0).await.remove(0);
    edit(&desk, &[id], JobEvent::Cancel).await;
    desk.settle(&[failed(&lease)]).await;
    assert_eq!(desk.state(id), "cancelled");
    edit(&desk, &[id], JobEvent::Retry).await;
    let row =
        "SELECT state, attempts, counted_attempts, cancel_requested, expires_at, finished_seq,
         error FROM job_state;";
    assert_eq!(desk.sql(row), "queued|1|0|0|||");
    assert_eq!(desk.store.attempts(id).await.unwrap().len(), 1);
    assert_eq!(desk.start(&[id], after(60)).await.len(), 1, "though its time was over");
}

#[tokio::test]
async fn retrying_finished_jobs_withdraws_nobody_elses_cancel() {
    let desk = Desk::open().await;
    let jobs = one_of_each(&desk).await;
    edit(&desk, &jobs[..2], JobEvent::Cancel).await;
    edit(&desk, &jobs, JobEvent::Retry).await;
    let asked = desk.sql("SELECT group_concat(cancel_requested) FROM job_state;");
    assert_eq!(asked, "1,1,0,0,0,0");
}

/// `run_at` means not before, whatever was done to the job meanwhile.
#[tokio::test]
async fn a_released_job_still_waits_for_its_time() {
    let desk = Desk::open().await;
    let id = desk.add(NewJob { run_at: Some(after(60)), ..job("later") }).await;
    edit(&desk, &[id], JobEvent::Hold).await;
    assert_eq!(desk.store.sweep(after(99), 9).await.unwrap().due, 0, "held, not queued");
    edit(&desk, &[id], JobEvent::Release).await;
    assert_eq!(desk.store.heads("default", 9).await.unwrap(), []);
    assert_eq!(desk.store.sweep(after(60), 9).await.unwrap().due, 1);
}

#[tokio::test]
async fn a_selection_meets_every_condition() {
    let desk = Desk::open().await;
    let jobs = one_of_each(&desk).await;
    let other = desk.add(NewJob { batch: Some("b".into()), ..in_queue("x", "other") }).await;
    let named = desk.add(keyed("y", "k")).await;
    let select = async |which: Selector| -> Vec<JobId> {
        let found = desk.store.select(&which).await.unwrap();
        found.into_iter().map(|(id, _)| id).collect()
    };
    let all = Selector::default();
    assert!(all.is_everything());
    assert_eq!(select(all.clone()).await.len(), 8);
    assert_eq!(select(Selector { ids: vec![other, JobId(999)], ..all.clone() }).await, [other]);
    assert_eq!(select(Selector { queue: Some("other".into()), ..all.clone() }).await, [other]);
    assert_eq!(select(Selector { batch: Some("b".into()), ..all.clone() }).await, [other]);
    assert_eq!(select(Selector { key: Some("k".into()), ..all.clone() }).await, [named]);
    let states = vec![JobState::Failed, JobState::Held];
    let bad = Selector { states, ..all.clone() };
    assert_eq!(select(bad.clone()).await, [jobs[3], jobs[5]]);
    let class = Some("invalid_request".to_owned());
    assert_eq!(select(Selector { error_class: class, ..bad }).await, [jobs[3]]);
    let none = Selector { queue: Some("other".into()), key: Some("k".into()), ..all };
    assert_eq!(select(none.clone()).await, []);
    assert_eq!(desk.store.selected_counts(&none).await.unwrap().total(), 0);
}

#[tokio::test]
async fn pauses_are_kept_until_they_end() {
    let desk = Desk::open().await;
    for queue in ["b", "a", "*", "a"] {
        desk.store.pause(queue, T0).await.unwrap();
    }
    assert_eq!(desk.store.paused().await.unwrap(), ["*", "a", "b"]);
    assert!(desk.store.resume(Some("a")).await.unwrap());
    assert!(!desk.store.resume(Some("a")).await.unwrap(), "it was not paused");
    assert_eq!(desk.store.paused().await.unwrap(), ["*", "b"]);
    assert!(desk.store.resume(None).await.unwrap());
    assert_eq!(desk.store.paused().await.unwrap(), Vec::<String>::new());
    assert!(!desk.store.resume(None).await.unwrap());
}

#[tokio::test]
async fn a_refused_job_leaves_no_trace() {
    let desk = Desk::open().await;
    let mut witness = Witness::of(&desk).await;
    let before = witness.version().await;
    assert!(desk.store.add_job(&NewJob::default()).await.is_err());
    assert_eq!(witness.version().await, before);
    witness.leave().await;
}

/// What is shown of a job is its end, not an earlier one.
#[tokio::test]
async fn a_job_that_is_retried_and_then_cancelled_shows_no_old_answer() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.settle(&[answered(&lease, "Hi")]).await;
    let job = [lease.job];
    desk.store.edit(&job, JobEvent::Retry, false).await.unwrap();
    let detail = desk.store.detail(lease.job).await.unwrap().unwrap();
    assert_eq!(detail.text, None, "there is no answer yet");
    desk.store.edit(&job, JobEvent::Cancel, false).await.unwrap();
    desk.store.sweep(after(20), 9).await.unwrap();
    let shown = "SELECT state, text, response, stop_reason, input_tokens, attempts FROM results;";
    assert_eq!(desk.sql(shown), "cancelled|||||1");
    assert_eq!(desk.sql("SELECT text FROM responses;"), "Hi", "its history stays");
    assert_eq!(desk.store.attempts(lease.job).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_job_that_was_cancelled_before_its_time_is_retried_at_its_time() {
    let desk = Desk::open().await;
    let later = desk.add(NewJob { run_at: Some(after(60)), ..job("later") }).await;
    let past = desk.add(NewJob { run_at: Some(after(1)), ..job("past") }).await;
    let both = [later, past];
    desk.store.edit(&both, JobEvent::Cancel, false).await.unwrap();
    desk.store.sweep(after(20), 9).await.unwrap();
    assert_eq!(desk.state(later), "cancelled");
    desk.store.edit(&both, JobEvent::Retry, false).await.unwrap();
    desk.store.sweep(after(20), 9).await.unwrap();
    assert_eq!(desk.start(&both, after(21)).await.len(), 1, "its time has not come");
    assert_eq!((desk.state(later), desk.state(past)), ("queued".into(), "running".into()));
    desk.store.sweep(after(60), 9).await.unwrap();
    assert_eq!(desk.start(&both, after(60)).await.len(), 1);
}
