//! `claudeq wait`, with somebody holding the daemon's lock in its place.

use super::stage::Stage;
use crate::helper::{FlockHolder, sql};
use std::process::Stdio;

#[test]
fn what_is_over_is_told_at_once() {
    let stage = Stage::with_every_state();
    for (args, code, err) in [
        (&["3"][..], 0, ""),
        (
            &["--batch", "nightly"],
            1,
            "1 failed, 0 cancelled: claudeq list --state failed,cancelled --batch nightly",
        ),
        (&["4", "5"], 1, "1 failed, 1 cancelled: claudeq list --state failed,cancelled 4 5"),
        (&["6"], 8, "1 job is held: claudeq list --state held 6"),
        (&["99"], 1, "claudeq: there is no job 99"),
        (&["--batch", "nigthly"], 1, "claudeq: no job fits these selectors"),
        (
            &["1"],
            69,
            "claudeq: no daemon runs, and 1 job is not finished: start it with `claudeq daemon`",
        ),
        (
            &[],
            69,
            "claudeq: no daemon runs, and 2 jobs are not finished: start it with `claudeq daemon`",
        ),
    ] {
        let said = stage.run(&[&["wait"], args].concat());
        assert_eq!((said.code, said.err.as_str()), (code, err), "{args:?}");
        assert_eq!(said.out, "");
    }
    assert_eq!(Stage::ready().run(&["wait"]).code, 0, "nothing to wait for");
}

#[test]
fn the_time_may_be_up() {
    let stage = Stage::with_every_state();
    let _daemon = FlockHolder::of(&stage.database());
    let said = stage.run(&["wait", "--timeout", "10ms"]);
    assert_eq!(said.code, 8, "{said:?}");
    assert!(said.err.ends_with("the time is up, 2 jobs are not finished"), "{}", said.err);
    assert_eq!(stage.run(&["wait", "--timeout", "soon"]).code, 2);
}

#[test]
fn it_ends_when_the_last_job_does() {
    let stage = Stage::with_every_state();
    let _daemon = FlockHolder::of(&stage.database());
    let mut command = stage.command(&["wait", "1", "3", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    sql(
        &stage.database(),
        "UPDATE job_state SET state = 'succeeded', finished_seq = 9, finished_at = 1 WHERE id = 1",
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let counts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(counts["succeeded"], 2);
}

#[test]
fn a_terminal_sees_a_bar_and_ctrl_c_ends_it() {
    let stage = Stage::with_every_state();
    let _daemon = FlockHolder::of(&stage.database());
    let said = stage.when_it_says("3 of 6", "\u{3}", &["wait"]);
    assert_eq!(said.code, 130, "{said:?}");
}

#[test]
fn the_first_that_fails_may_end_it() {
    let stage = Stage::with_every_state();
    let _daemon = FlockHolder::of(&stage.database());
    let said = stage.run(&["wait", "--fail-fast", "--timeout", "60s"]);
    assert_eq!(said.code, 1, "{said:?}");
    let expected = "1 failed, 1 cancelled, 3 jobs are not finished: \
        claudeq list --state failed,cancelled";
    assert_eq!(said.err.lines().last(), Some(expected));
    let mut command = stage.command(&["wait", "1", "3", "--fail-fast", "--timeout", "60s"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let end = "UPDATE job_state SET finished_seq = 9, finished_at = 1, state =";
    sql(&stage.database(), &format!("{end} 'failed' WHERE id = 1"));
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(1));
}

#[test]
fn a_key_is_waited_for_as_well() {
    let stage = Stage::with_every_state();
    assert_eq!(stage.run(&["wait", "--key", "k3"]).code, 0);
    let said = stage.run(&["wait", "--key", "k4"]);
    assert_eq!((said.code, said.err.as_str()), (1, "claudeq: no job fits these selectors"));
}
