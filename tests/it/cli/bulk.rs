//! `retry`, `cancel`, `hold`, `release`, `pause`, `resume`.

use super::stage::Stage;
use serde_json::Value;

fn state(stage: &Stage, id: i64) -> String {
    stage.value(&format!("SELECT state FROM job_state WHERE id = {id}"))
}

#[test]
fn without_a_selector_nothing_is_changed() {
    let stage = Stage::with_every_state();
    for command in ["retry", "cancel", "hold", "release"] {
        let said = stage.run(&[command, "-y"]);
        assert_eq!(said.code, 2, "{command}: {said:?}");
        assert!(said.err.contains(&format!("{command} every job with --all")), "{}", said.err);
    }
    assert_eq!(stage.value("SELECT count(DISTINCT state) FROM job_state"), "6");
}

#[test]
fn each_change_takes_only_what_it_is_for() {
    let stage = Stage::with_every_state();
    for (args, said) in [
        (["hold", "--all"], "held 1 job (1 queued)"),
        (["release", "--all"], "released 2 jobs (2 held)"),
        (["retry", "--all"], "retried 2 jobs (1 failed, 1 cancelled)"),
        (["cancel", "--all"], "cancelled 5 jobs (4 queued, 1 running)"),
    ] {
        assert_eq!(stage.ok(&args), said);
    }
    // Without a daemon the queued ones ended at once, the running one is asked for.
    assert_eq!(stage.value("SELECT count(*) FROM job_state WHERE state = 'cancelled'"), "4");
    assert_eq!(stage.value("SELECT cancel_requested FROM jobs WHERE id = 2"), "1");
    assert_eq!(stage.ok(&["cancel", "2", "--now"]), "cancelled 1 job (1 running)");
    assert_eq!(stage.value("SELECT cancel_requested FROM jobs WHERE id = 2"), "2");
    assert_eq!(state(&stage, 3), "succeeded", "what was paid for is not paid for again");
}

#[test]
fn a_job_that_succeeded_is_retried_by_name_only() {
    let stage = Stage::with_every_state();
    assert_eq!(stage.ok(&["retry", "--batch", "nightly"]), "retried 1 job (1 failed)");
    assert_eq!(stage.ok(&["retry", "3"]), "retried 1 job (1 succeeded)");
    assert_eq!(state(&stage, 3), "queued");
}

/// More room is for answers that were cut off, or for whom a person names.
#[test]
fn a_retry_may_ask_for_more_tokens() {
    let stage = Stage::with_every_state();
    let retry = |args: &[&str]| stage.ok(&[&["retry", "--max-tokens", "8192"], args].concat());
    let asked = || stage.value("SELECT group_concat(id || '=' || max_tokens) FROM job_state");
    assert_eq!(retry(&["--all"]), "retried 0 jobs", "none was cut off");
    stage.value("UPDATE attempts SET stop_reason = 'max_tokens' WHERE id = 1");
    assert_eq!(retry(&["--batch", "nightly", "-n"]), "would retry 1 job (1 succeeded)");
    assert_eq!(retry(&["--batch", "nightly"]), "retried 1 job (1 succeeded)");
    assert_eq!(asked(), "3=8192");
    assert_eq!(retry(&["4"]), "retried 1 job (1 failed)");
    assert_eq!(asked(), "3=8192,4=8192");
    let page = stage.ok(&["show", "4", "--table"]);
    assert!(page.contains("  max_tokens  8,192 by retry\n"), "{page}");
    assert_eq!(stage.run(&["retry", "4", "--max-tokens", "0"]).code, 2);
    // With the reason named it is who stopped for it.
    let stage = Stage::with_every_state();
    let named = ["retry", "--stop-reason", "end_turn"];
    assert_eq!(stage.ok(&named), "retried 1 job (1 succeeded)");
}

#[test]
fn named_jobs_that_do_not_fit_are_a_negative_answer() {
    let stage = Stage::with_every_state();
    let said = stage.run(&["cancel", "1", "3", "99"]);
    assert_eq!((said.code, said.out.as_str()), (1, "cancelled 1 job (1 queued)"));
    assert_eq!(said.err, "there is no job 99\njob 3 is succeeded: there is nothing to cancel");
    assert_eq!(stage.run(&["release", "1"]).code, 1);
}

#[test]
fn a_dry_run_counts_and_changes_nothing() {
    let stage = Stage::with_every_state();
    let said = stage.ok(&["cancel", "--all", "--dry-run"]);
    assert_eq!(said, "would cancel 3 jobs (1 queued, 1 running, 1 held)");
    assert_eq!(stage.value("SELECT count(DISTINCT state) FROM job_state"), "6");
    let json = stage.ok(&["cancel", "--all", "--dry-run", "--json"]);
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&value["matched"], &value["changed"]), (&3.into(), &0.into()));
}

#[test]
fn a_terminal_is_asked_first() {
    let stage = Stage::with_every_state();
    let no = stage.when_it_says("[y/N]", "n\n", &["cancel", "--all"]);
    assert_eq!(no.code, 1, "{no:?}");
    assert!(no.out.contains("cancel 3 jobs (1 queued, 1 running, 1 held)? [y/N] "), "{no:?}");
    assert!(no.out.contains("nothing was changed"), "{no:?}");
    assert_eq!(state(&stage, 1), "queued");
    let yes = stage.when_it_says("[y/N]", "y\n", &["hold", "--queue", "default"]);
    assert_eq!(yes.code, 0, "{yes:?}");
    assert_eq!(state(&stage, 1), "held");
    let named = stage.on_terminal(&["release", "1"]);
    assert!(!named.out.contains("[y/N]"), "{named:?}");
    let sure = stage.on_terminal(&["hold", "--queue", "default", "-y"]);
    assert!(sure.code == 0 && !sure.out.contains("[y/N]"), "{sure:?}");
}

#[test]
fn queues_are_paused_and_resumed() {
    let stage = Stage::with_every_state();
    stage.ok(&["pause", "nightly"]);
    stage.ok(&["pause"]);
    assert_eq!(stage.value("SELECT group_concat(queue) FROM pauses ORDER BY queue"), "*,nightly");
    assert!(stage.ok(&["status"]).contains("  Paused    every queue   claudeq resume"));
    let still = stage.ok(&["resume", "nightly"]);
    assert_eq!(still, "every queue is still paused: `claudeq resume` ends that");
    assert_eq!(stage.ok(&["resume"]), "resumed every queue");
    assert_eq!(stage.ok(&["resume"]), "nothing was paused");
    assert_eq!(stage.ok(&["pause", "side", "--json"]), "{\"paused\":[\"side\"]}");
    assert!(stage.ok(&["status"]).contains("  Paused    side   claudeq resume side"));
}

#[test]
fn a_queue_that_cannot_be_or_has_no_job_is_said() {
    let stage = Stage::with_every_state();
    for name in ["", "ü", "a\nb"] {
        let said = stage.run(&["pause", name]);
        assert_eq!((said.code, said.err.lines().count()), (65, 1), "{said:?}");
    }
    assert_eq!(stage.run(&["pause", "side"]).err, "");
    let typo = stage.run(&["pause", "sied"]);
    assert_eq!(typo.code, 0, "it may be paused before its first job: {typo:?}");
    assert_eq!(typo.err, "claudeq: there is no job in queue sied so far");
}

#[test]
fn a_large_change_is_complete() {
    let stage = Stage::ready();
    crate::helper::sql(
        &stage.database(),
        "WITH RECURSIVE k (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < 1300) \
         INSERT INTO jobs (prompt) SELECT 'p' || i FROM k",
    );
    assert_eq!(stage.ok(&["hold", "--all"]), "held 1,300 jobs (1,300 queued)");
    assert_eq!(stage.ok(&["cancel", "--state", "held"]), "cancelled 1,300 jobs (1,300 held)");
    assert_eq!(stage.value("SELECT count(*) FROM results"), "1300");
}
