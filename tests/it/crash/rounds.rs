//! Round after round: load, SIGKILL at some moment, a look at everything, start again.

use super::checker::{billed, check, check_end, no_key_in_the_command_line};
use super::producer::Producer;
use crate::helper::{Daemon, Lab, Limits, Settings, eventually, needs, pause};
use claudeq::clock::{Clock, Entropy};
use claudeq::simulator;
use std::time::Duration;

/// How many times faster the simulator's time runs.
const SPEED: f64 = 50.0;
const MAX_IN_FLIGHT: u32 = 16;
/// The budget; far more than what is spent, and never less than what is billed.
const BUDGET_USD: u64 = 500;

#[test]
fn nothing_is_lost_in_24_kills() {
    needs!("sqlite3");
    needs!("python3");
    rounds(24, Clock::system().now().0.unsigned_abs());
}

/// Takes minutes: runs before a release by `cargo test -- --ignored crash` (see `.ci/run`).
#[test]
#[ignore = "takes minutes; cargo test -- --ignored crash"]
fn nothing_is_lost_in_200_kills() {
    needs!("sqlite3");
    needs!("python3");
    rounds(200, Clock::system().now().0.unsigned_abs());
}

/// At what moment the daemon is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after its process was started, recovering or not.
    Starting(Duration),
    /// So long after it began to work.
    Working(Duration),
    /// Right after a lease was committed.
    Leased,
    /// While an answer is being written or sent.
    Answering(Duration),
    /// Right after so many settlements were committed.
    Settled(i64),
}

impl Moment {
    fn by_dice(dice: &Entropy) -> Moment {
        let span = |most: u64| Duration::from_millis(dice.next_u64() % most);
        match dice.next_u64() % 8 {
            0 => Moment::Starting(span(120)),
            1..=3 => Moment::Working(span(700)),
            4 => Moment::Leased,
            5 => Moment::Answering(span(30)),
            6 => Moment::Settled(1),
            _ => Moment::Settled((dice.next_u64() % 40).cast_signed()),
        }
    }

    /// Runs a daemon up to this moment.
    fn live(self, lab: &Lab) -> Daemon {
        if let Moment::Starting(span) = self {
            let daemon = lab.spawn(&[]);
            pause(span);
            return daemon;
        }
        let mut watch = lab.watch();
        let mut look = |query: &str| watch.number(query);
        let before = look("SELECT max(id) FROM attempts");
        let settled = "SELECT count(*) FROM attempts WHERE settlement IS NOT NULL";
        let mut daemon = lab.spawn(&[]);
        daemon.works();
        no_key_in_the_command_line(daemon.pid());
        match self {
            Moment::Starting(_) => {}
            Moment::Working(span) => pause(span),
            Moment::Leased => eventually("a lease", || {
                (look("SELECT max(id) FROM attempts") > before).then_some(())
            }),
            Moment::Answering(span) => {
                eventually("an answer on its way", || {
                    (lab.simulator().stats().in_flight > 0).then_some(())
                });
                pause(span);
            }
            Moment::Settled(count) => {
                let before = look(settled);
                eventually("settlements", || (look(settled) >= before + count).then_some(()));
            }
        }
        daemon
    }
}

fn settings(dice: &Entropy) -> Settings {
    Settings {
        max_in_flight: MAX_IN_FLIGHT,
        max_attempts: 1_000,
        stream: if dice.next_u64().is_multiple_of(2) { "always" } else { "never" },
        limits: Limits { requests: Some(60), output_tokens: Some(40_000), ..Limits::default() },
        rest: format!("[[budget]]\nusd = {BUDGET_USD}\nper = \"total\"\n"),
        ..Settings::default()
    }
}

fn rounds(count: usize, seed: u64) {
    eprintln!("seed {seed}");
    let dice = Entropy::seeded(seed);
    let simulator = simulator::Config { speed: SPEED, seed, ..simulator::Config::default() };
    let lab = Lab::new(simulator, &settings(&dice));
    let producer = Producer::start(&lab, seed, 0.05, "[[out=OUT]] [[in=60]]");
    lab.until("SELECT count(*) FROM jobs");
    for round in 1..=count {
        lab.configure(&settings(&dice));
        let moment = Moment::by_dice(&dice);
        eprintln!("round {round}: killed {moment:?}, {}", lab.states());
        moment.live(&lab).kill();
        check(&lab, &producer.committed());
    }
    let acknowledged = producer.finish();
    assert_eq!(lab.until_empty(), 0, "all jobs succeed in the end: {}", lab.states());
    check_end(&lab, &acknowledged);
    assert_eq!(lab.states(), format!("succeeded {}", acknowledged.len()));

    let waited = "SELECT count(*) FROM attempts WHERE wait_reason = 'requests'";
    assert!(lab.number(waited) > 0, "the limit was never reached: it proves nothing");
    let stats = lab.simulator().stats();
    assert_eq!(stats.refused_429, 0, "the limits are stated: nobody is ever refused");
    // A killed daemon's calls may be noticed only while the next one's begin.
    let most = u64::from(2 * MAX_IN_FLIGHT);
    assert!(stats.max_concurrency <= most, "{} calls at a time", stats.max_concurrency);
    assert!(billed(&lab) <= BUDGET_USD * 1_000_000_000);
    let unknown = lab.number("SELECT count(*) FROM attempts WHERE outcome = 'unknown'");
    eprintln!("{unknown} attempts of unknown fate, {stats:?}");
    let repeats = stats.billed - u64::try_from(acknowledged.len()).expect("a count");
    assert!(repeats <= u64::try_from(unknown).expect("a count"), "{repeats} > {unknown}");
}
