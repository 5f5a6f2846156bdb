//! Settlement: every ending once, in groups that stand or fall together.

use super::{Desk, T0, Witness, after, answered, failed, next, requeued, snapshots, unbilled};
use claudeq::domain::job::{JobEvent, JobState};
use claudeq::domain::time::Millis;
use claudeq::store::{Ending, GateRow, Lease, Selector, Snapshots};

#[tokio::test]
async fn an_answer_ends_its_job_and_is_there_to_read() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    let settled = desk.settle(&[answered(&lease, "Hi")]).await;
    assert_eq!(settled.finished, [(lease.job, JobState::Succeeded)]);
    assert_eq!(settled.lost, []);
    let result = desk.store.results(0, &Selector::default(), 10).await.unwrap().remove(0);
    assert_eq!((result.id, result.seq), (lease.job.0, 1));
    assert_eq!((result.state.as_str(), result.text.as_deref()), ("succeeded", Some("Hi")));
    assert_eq!(result.response.unwrap().get(), "{\"text\":\"Hi\"}");
    assert_eq!(result.stop_reason.as_deref(), Some("end_turn"));
    assert_eq!((result.input_tokens, result.output_tokens), (Some(40), Some(20)));
    assert_eq!((result.finished_at, result.attempts), (after(9).0, 1));
    assert_eq!(result.cost_usd, Some(0.000_28));
}

#[tokio::test]
async fn the_ledger_keeps_how_the_call_went() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.settle(&[answered(&lease, "Hi")]).await;
    let row = "SELECT settlement, settled_at, counted_at, settled_requests, settled_input_tokens,
           settled_output_tokens, settled_tokens, settled_nanousd, outcome, http_status,
           request_id, sent_at, first_byte_at, done_at FROM attempts;";
    let (nine, two, one) = (after(9).0, after(2).0, after(1).0);
    let expected =
        format!("actual|{nine}|{two}|1|40|20|60|280000|succeeded|200|req_1|{one}|{two}|{two}");
    assert_eq!(desk.sql(row), expected);
}

/// JSON in between must lose nothing.
#[tokio::test]
async fn odd_text_comes_through() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    let odd = "\u{1b}[31m \"quoted\" \\ \n\t é \u{1F600} \u{202e} ' -- ;";
    let ending = Ending { error: Some(odd.to_owned()), ..failed(&lease) };
    desk.settle(&[ending]).await;
    assert_eq!(desk.store.attempts(lease.job).await.unwrap()[0].error.as_deref(), Some(odd));
}

#[tokio::test]
async fn a_requeued_job_waits_for_its_time() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    let settled = desk.settle(&[requeued(&lease, Some(after(60)), true)]).await;
    assert_eq!(settled.finished, [(lease.job, JobState::Queued)]);
    let row = "SELECT state, next_attempt_at, counted_attempts, attempts, error_class,
           finished_seq IS NULL, epoch IS NULL FROM job_state;";
    assert_eq!(desk.sql(row), format!("queued|{}|1|1|api_error|1|1", after(60).0));
    assert_eq!(desk.store.heads("default", 9).await.unwrap(), []);
}

#[tokio::test]
async fn a_requeued_job_without_a_time_is_ready_and_may_not_count() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.settle(&[requeued(&lease, None, false)]).await;
    assert_eq!(desk.store.heads("default", 9).await.unwrap().len(), 1);
    assert_eq!(desk.sql("SELECT counted_attempts FROM job_state;"), "0");
}

#[tokio::test]
async fn a_failed_job_says_why() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.settle(&[failed(&lease)]).await;
    let result = desk.store.results(0, &Selector::default(), 10).await.unwrap().remove(0);
    assert_eq!(result.state, "failed");
    assert_eq!(result.error_class.as_deref(), Some("invalid_request"));
    assert_eq!(result.error.as_deref(), Some("model: no such model"));
    assert_eq!((result.text, result.cost_usd), (None, Some(0.0)));
}

#[tokio::test]
async fn a_held_job_waits_for_a_person_and_is_no_result() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.settle(&[unbilled(&lease, next(JobEvent::Hold))]).await;
    assert_eq!(desk.state(lease.job), "held");
    assert_eq!(desk.store.results(0, &Selector::default(), 10).await.unwrap().len(), 0);
}

/// Everything the verbs write, but for the snapshots' times.
const EVERYTHING: &str = "SELECT * FROM job_state; SELECT * FROM attempts;
    SELECT * FROM responses; SELECT * FROM sequences;";

#[tokio::test]
async fn the_same_ending_twice_changes_nothing() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.settle(&[answered(&lease, "Hi")]).await;
    let before = desk.sql(EVERYTHING);
    let again = desk.settle(&[answered(&lease, "Hi")]).await;
    assert_eq!((again.finished, again.lost), (vec![], vec![lease.attempt]));
    assert_eq!(desk.sql(EVERYTHING), before);
}

#[tokio::test]
async fn the_same_ending_twice_in_a_group_counts_once() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    let settled = desk.settle(&[requeued(&lease, None, true), requeued(&lease, None, true)]).await;
    assert_eq!(settled.finished, [(lease.job, JobState::Queued)]);
    assert_eq!(desk.sql("SELECT counted_attempts FROM job_state;"), "1");
}

#[tokio::test]
async fn a_late_ending_of_a_requeued_job_does_not_touch_the_next_attempt() {
    let desk = Desk::open().await;
    let first = desk.start_one().await;
    desk.settle(&[requeued(&first, None, true)]).await;
    let second = desk.start(&[first.job], after(10)).await.remove(0);
    let settled = desk.settle(&[failed(&first)]).await;
    assert_eq!(settled.lost, [first.attempt]);
    assert_eq!(desk.state(first.job), "running");
    desk.settle(&[answered(&second, "Hi")]).await;
    assert_eq!(desk.state(first.job), "succeeded");
}

#[tokio::test]
async fn an_answer_whose_lease_is_lost_is_kept_all_the_same() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    let newer = desk.store.begin_epoch(8, "here", "1.0.0", after(1)).await.unwrap();
    let open = desk.store.recover(newer, Millis::DAY, after(1)).await.unwrap().open.remove(0);
    desk.settle(&[requeued(&open.lease, None, true)]).await;
    let before = desk.sql("SELECT * FROM job_state; SELECT * FROM attempts;");
    let settled = desk.settle(&[answered(&lease, "Hi")]).await;
    assert_eq!((settled.finished, settled.lost), (vec![], vec![lease.attempt]));
    assert_eq!(desk.sql("SELECT * FROM job_state; SELECT * FROM attempts;"), before);
    assert_eq!(
        desk.sql("SELECT attempt_id, text FROM responses;"),
        format!("{}|Hi", lease.attempt.0)
    );
}

#[tokio::test]
async fn a_lease_of_another_epoch_cannot_settle() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    let forged = Lease { epoch: claudeq::domain::job::Epoch(lease.epoch.0 + 1), ..lease.clone() };
    let settled = desk.settle(&[failed(&forged)]).await;
    assert_eq!(settled.lost, [lease.attempt]);
    assert_eq!(desk.state(lease.job), "running");
}

/// In a database that was put in another's place the same number is another call's.
#[tokio::test]
async fn a_result_goes_to_the_call_it_was_for_or_nowhere() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(2).await;
    let leases = desk.start(&jobs, T0).await;
    let other_job = Lease { job: jobs[1], ..leases[0].clone() };
    let mut other_time = leases[0].clone();
    other_time.reservation.reserved_at = after(1);
    let endings = [
        answered(&other_job, "not theirs"),
        answered(&leases[1], "Hi"),
        answered(&other_time, "not now"),
    ];
    assert_eq!(desk.store.known(&endings).await.unwrap(), [1].into());
    let settled = desk.settle(&endings[..1]).await;
    assert_eq!(settled.lost, [leases[0].attempt]);
    assert_eq!(desk.sql("SELECT count(*) FROM responses;"), "0");
    assert_eq!((desk.state(jobs[0]), desk.state(jobs[1])), ("running".into(), "running".into()));
}

#[tokio::test]
async fn every_database_has_an_identity_of_its_own() {
    let (one, other) = (Desk::open().await, Desk::open().await);
    let id = one.store.database_id().await.unwrap();
    assert_eq!(id.len(), 32);
    assert_ne!(id, other.store.database_id().await.unwrap());
}

#[tokio::test]
async fn whoever_cancels_a_running_job_gets_the_answer_if_there_is_one() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(4).await;
    let leases = desk.start(&jobs, T0).await;
    desk.store.edit(&jobs, JobEvent::Cancel, false).await.unwrap();
    let endings = [
        answered(&leases[0], "Hi"),
        failed(&leases[1]),
        requeued(&leases[2], Some(after(60)), true),
        unbilled(&leases[3], next(JobEvent::Hold)),
    ];
    desk.settle(&endings).await;
    let states = desk.sql("SELECT state, ifnull(error_class, '') FROM job_state ORDER BY id;");
    assert_eq!(states, "succeeded|\ncancelled|cancelled\ncancelled|cancelled\ncancelled|cancelled");
}

#[tokio::test]
async fn numbers_grow_in_the_order_of_commits() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(4).await;
    let leases = desk.start(&jobs, T0).await;
    desk.settle(&[answered(&leases[3], "first")]).await;
    desk.settle(&[answered(&leases[2], "second"), failed(&leases[0])]).await;
    desk.settle(&[answered(&leases[1], "third")]).await;
    let order = desk.sql("SELECT group_concat(id) FROM (SELECT id FROM results ORDER BY seq);");
    let expected: Vec<String> = [3, 2, 0, 1].map(|at: usize| jobs[at].to_string()).to_vec();
    assert_eq!(order, expected.join(","));
}

#[tokio::test]
async fn a_number_is_never_used_again() {
    let desk = Desk::open().await;
    let lease = desk.start_one().await;
    desk.settle(&[answered(&lease, "Hi")]).await;
    desk.sql("DELETE FROM jobs;");
    let next = desk.start_one().await;
    desk.settle(&[answered(&next, "Hi")]).await;
    assert_eq!(desk.sql("SELECT seq FROM results;"), "2");
}

#[tokio::test]
async fn a_retried_job_ends_with_a_new_number() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(2).await;
    let leases = desk.start(&jobs, T0).await;
    desk.settle(&[failed(&leases[0]), answered(&leases[1], "Hi")]).await;
    desk.store.edit(&[jobs[0]], JobEvent::Retry, false).await.unwrap();
    assert_eq!(desk.store.results(0, &Selector::default(), 9).await.unwrap().len(), 1);
    let again = desk.start(&[jobs[0]], after(10)).await;
    desk.settle(&[answered(&again[0], "Hi")]).await;
    let results = desk.store.results(2, &Selector::default(), 9).await.unwrap();
    assert_eq!((results[0].seq, results[0].id, results[0].attempts), (3, jobs[0].0, 2));
}

#[tokio::test]
async fn a_group_fails_as_a_whole() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(3).await;
    let leases = desk.start(&jobs, T0).await;
    let before = desk.sql(EVERYTHING);
    let planted = [("responses", "NEW.text = 'three'"), ("budget_snapshots", "1")];
    for (table, when) in planted {
        desk.sql(&format!(
            "CREATE TRIGGER planted BEFORE INSERT ON {table} WHEN {when} BEGIN
               SELECT RAISE(ABORT, 'planted'); END;"
        ));
        let group =
            [answered(&leases[0], "one"), failed(&leases[1]), answered(&leases[2], "three")];
        let error =
            desk.store.settle(desk.epoch, &group, &snapshots(), after(9)).await.unwrap_err();
        assert_eq!(error.refusal().as_deref(), Some("planted"), "{table}");
        assert_eq!(desk.sql(EVERYTHING), before, "{table}");
        assert_eq!(desk.sql("SELECT count(*) FROM limit_snapshots;"), "0");
        desk.sql("DROP TRIGGER planted;");
    }
    let group = [answered(&leases[0], "one"), failed(&leases[1]), answered(&leases[2], "three")];
    assert_eq!(desk.settle(&group).await.finished.len(), 3, "and it can be written again");
}

#[tokio::test]
async fn snapshots_replace_each_other_and_gates_open() {
    let desk = Desk::open().await;
    desk.store.settle(desk.epoch, &[], &snapshots(), T0).await.unwrap();
    let mut later = snapshots();
    later.limits[0].available = 7;
    later.budgets[0].spent = 99;
    let gate = GateRow { name: "sonnet".into(), reason: "pause".into(), until: Some(after(3)) };
    later.gates = Some(vec![gate]);
    desk.store.settle(desk.epoch, &[], &later, after(1)).await.unwrap();
    assert_eq!(desk.store.limits().await.unwrap(), later.limits);
    assert_eq!(desk.store.budgets(T0).await.unwrap(), later.budgets);
    let shut = desk.store.gates().await.unwrap();
    assert_eq!(Some(&shut), later.gates.as_ref(), "the account's gate is open");
    desk.settle(&[]).await;
    assert_eq!(desk.store.gates().await.unwrap(), shut, "nothing was said of gates");
}

#[tokio::test]
async fn a_settlement_is_one_commit() {
    let desk = Desk::open().await;
    let jobs = desk.prompts(3).await;
    let leases = desk.start(&jobs, T0).await;
    let endings: Vec<Ending> = leases.iter().map(|lease| answered(lease, "Hi")).collect();
    let commits = || desk.sql("SELECT count(DISTINCT settled_at) FROM attempts;");
    let mut witness = Witness::of(&desk).await;
    let before = witness.version().await;
    desk.store.settle(desk.epoch, &endings, &Snapshots::default(), after(9)).await.unwrap();
    let after_one = witness.version().await;
    assert_ne!(after_one, before);
    assert_eq!(witness.version().await, after_one);
    assert_eq!(commits(), "1");
    witness.leave().await;
}
