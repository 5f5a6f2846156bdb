//! What the system refuses: space, descriptors, connections.

use crate::crash::checker::{check, check_end};
use crate::helper::{CANARY, Daemon, Lab, Settings, eventually, needs};
use claudeq::simulator;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

fn fast() -> simulator::Config {
    let latency = simulator::Latency { tokens_per_second: 1e6, ..Default::default() };
    simulator::Config { speed: 50.0, latency, ..Default::default() }
}

/// A daemon whose files may not grow beyond 5 MiB, as on a full disk, with results that soon do
/// not fit: 200 kB each and twice, the body and its text.
fn on_a_full_disk() -> (Lab, Daemon) {
    let settings = Settings {
        max_in_flight: 4,
        max_tokens: 60_000,
        max_attempts: 1,
        shutdown_grace: "2s",
        ..Settings::default()
    };
    let lab = Lab::new(fast(), &settings);
    lab.insert_many("k", 60, "[[out=50000]]");
    let mut daemon = lab.spawn_under("ulimit -S -f 10240", &[]);
    daemon.says("WARN");
    lab.at_rest();
    (lab, daemon)
}

fn everything_was_paid_for_once(lab: &Lab) {
    assert_eq!(lab.states(), "succeeded 60");
    assert_eq!(lab.number("SELECT count(*) FROM attempts WHERE outcome <> 'succeeded'"), 0);
    assert_eq!(lab.simulator().stats().requests, 60, "a paid answer was lost");
    check_end(lab, &[]);
}

#[test]
fn results_that_find_a_full_disk_wait_in_the_spool() {
    needs!("sqlite3");
    let (lab, mut daemon) = on_a_full_disk();
    // When it was a reservation that did not fit, it has ended by itself.
    if daemon.ended().is_none() {
        daemon.signal(Signal::TERM);
    }
    let code = daemon.end();
    assert!([0, 77].contains(&code), "it ended with {code}");
    check(&lab, &[]);
    assert_eq!(lab.until_empty(), 0, "with space again everything goes on");
    everything_was_paid_for_once(&lab);
}

#[test]
fn a_disk_that_is_emptied_again_lets_it_go_on() {
    needs!("sqlite3");
    let (lab, mut daemon) = on_a_full_disk();
    let pid = i32::try_from(daemon.pid()).ok().and_then(Pid::from_raw);
    if daemon.ended().is_none() {
        let unlimited = Rlimit { current: None, maximum: None };
        prlimit(pid, Resource::Fsize, unlimited).expect("a child of ours");
        lab.until("SELECT count(*) = 60 FROM job_state WHERE state = 'succeeded'");
        assert_eq!(daemon.stop(), 0);
    } else {
        assert_eq!(lab.until_empty(), 0);
    }
    everything_was_paid_for_once(&lab);
}

/// What the spool is for is not to be had: that is said before it is needed.
#[test]
fn a_spool_without_space_of_its_own_is_warned_of() {
    needs!("sqlite3");
    let lab = Lab::new(fast(), &Settings::default());
    lab.insert([("k", "[[out=5]]")]);
    // Two MiB at the most.
    assert_eq!(lab.spawn_under("ulimit -S -f 2048", &["--until-empty"]).end(), 0);
    let logs = lab.logs();
    let warnings: Vec<&str> = logs.lines().filter(|line| line.contains("WARN")).collect();
    let [warning] = warnings[..] else { panic!("{logs}") };
    let spool = lab.dir().join("queue.db-spool").display().to_string();
    for part in ["4 MiB", &spool, "File too large", "in memory alone", "start the daemon again"] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
}

/// A hundred calls at a time under a limit of descriptors.
fn with_descriptors(limit: &str) -> (Lab, i32) {
    let settings = Settings { max_in_flight: 100, max_attempts: 1_000, ..Settings::default() };
    let lab = Lab::new(fast(), &settings);
    lab.insert_many("k", 120, "[[out=5000]]");
    let code = lab.spawn_under(limit, &["--until-empty"]).end();
    (lab, code)
}

#[test]
fn a_low_limit_of_descriptors_is_raised() {
    needs!("sqlite3");
    let (lab, code) = with_descriptors("ulimit -S -n 60");
    assert_eq!((code, lab.states().as_str()), (0, "succeeded 120"));
    assert_eq!(lab.number("SELECT count(*) FROM attempts"), 120, "all could connect");
    check_end(&lab, &[]);
}

/// Where it cannot be raised, calls cannot connect and the database cannot be opened further:
/// it says so, may end, and loses nothing.
#[test]
fn too_few_descriptors_lose_nothing() {
    needs!("sqlite3");
    let (lab, code) = with_descriptors("ulimit -n 60");
    assert!([0, 77].contains(&code), "it ended with {code}");
    assert!(lab.logs().contains("may have 60 files open and may need 164"));
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(lab.states(), "succeeded 120");
    assert_eq!(lab.simulator().stats().requests, 120, "what did not connect was not sent");
    check_end(&lab, &[]);
}

/// Neither a redirect nor a proxy of the environment ever gets the key, or a call at all.
#[test]
fn calls_go_to_the_configured_place_and_nowhere_else() {
    needs!("sqlite3");
    let settings = Settings::default();
    let (lab, elsewhere) = (Lab::new(fast(), &settings), Lab::new(fast(), &settings));
    let url = elsewhere.simulator().url();
    let redirect = format!("[[fault=redirect,times=2,location={url}/v1/messages]]");
    lab.insert([("fine", "[[out=5]]"), ("away", redirect.as_str())]);
    let environment = [
        ("ANTHROPIC_API_KEY", CANARY),
        ("HTTP_PROXY", url.as_str()),
        ("http_proxy", url.as_str()),
        ("ALL_PROXY", url.as_str()),
        ("RUST_LOG", "trace"),
    ];
    assert_eq!(lab.spawn_with(&["--until-empty"], &environment).end(), 0);
    assert_eq!(lab.states(), "succeeded 2");
    let away = "SELECT count(*) FROM attempts WHERE error_class = 'redirect'";
    assert_eq!(lab.number(away), 2, "it was sent away, and stayed");
    assert_eq!(elsewhere.simulator().stats().requests, 0);
    // The log says all it can, and the key is not among it.
    assert!(lab.logs().contains("TRACE"));
    check_end(&lab, &[]);
}

/// The key of a request that is refused for it, streamed or not, stays out of the loudest log.
#[test]
fn the_loudest_log_keeps_the_key_to_itself() {
    needs!("sqlite3");
    for stream in ["never", "always"] {
        let lab = Lab::new(fast(), &Settings { stream, ..Settings::default() });
        lab.simulator().set_key(Some("sk-ant-another-key".to_owned()));
        lab.insert_many("k", 3, "[[out=5]]");
        let environment = [("ANTHROPIC_API_KEY", CANARY), ("RUST_LOG", "trace")];
        assert_eq!(lab.spawn_with(&["--until-empty"], &environment).end(), 8);
        assert_eq!(lab.states(), "queued 3");
        let shown = lab.claudeq(&["status"]);
        assert!(!format!("{shown:?}").contains(CANARY));
        eventually("a loud log", || lab.logs().contains("TRACE").then_some(()));
        check_end(&lab, &[]);
    }
}
