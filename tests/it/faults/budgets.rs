//! Budgets are walls: however many permits there are, and whatever nobody can price.

use crate::crash::checker::{billed, check, check_end};
use crate::helper::{Lab, Settings, eventually, needs};
use claudeq::simulator;

/// About ten times the worst case of one call of [`MARKERS`].
const BUDGET: &str = "[[budget]]\nusd = 0.11\nper = \"total\"\n";
const BUDGET_NANOUSD: u64 = 110_000_000;
const MARKERS: &str = "[[out=500]] [[in=700]]";

fn lab(max_in_flight: u32, rest: &str) -> Lab {
    let settings = Settings {
        max_in_flight,
        max_tokens: 500,
        max_attempts: 100,
        rest: rest.to_owned(),
        ..Settings::default()
    };
    Lab::new(simulator::Config { speed: 50.0, ..Default::default() }, &settings)
}

fn is_a_wall(lab: &Lab) {
    let worst = lab.number("SELECT max(worst_nanousd) FROM attempts");
    let calls = BUDGET_NANOUSD / u64::try_from(worst).expect("a cost");
    assert_eq!(calls, 10, "one call costs {worst} nano-dollars at worst");
    let most = lab.simulator().stats().max_concurrency;
    assert!(most <= calls, "{most} calls at a time under a budget for {calls}");
    let ledger = lab.number("SELECT sum(coalesce(settled_nanousd, worst_nanousd)) FROM attempts");
    assert!(ledger <= 110_000_000, "{ledger}");
    assert!(billed(lab) <= BUDGET_NANOUSD, "{}", billed(lab));
}

#[test]
fn fifty_permits_never_get_past_a_budget_for_ten() {
    needs!("sqlite3");
    let lab = lab(50, BUDGET);
    lab.insert_many("k", 100, MARKERS);
    assert_eq!(lab.until_empty(), 8, "a budget stands before the rest");
    is_a_wall(&lab);
    let done = lab.number("SELECT count(*) FROM job_state WHERE state = 'succeeded'");
    assert!((10..100).contains(&done), "{done} of 100 were paid for");
    assert_eq!(lab.states(), format!("queued {}, succeeded {done}", 100 - done));
    let asked = lab.simulator().stats().requests;
    assert_eq!(lab.until_empty(), 8);
    assert_eq!(lab.simulator().stats().requests, asked, "nor after a restart");
    check_end(&lab, &[]);
}

/// What was in flight at a kill stays counted at its worst, so less is left afterwards.
#[test]
fn a_budget_holds_over_kills() {
    needs!("sqlite3");
    let lab = lab(50, BUDGET);
    lab.insert_many("k", 100, MARKERS);
    for life in 1..=3 {
        let daemon = lab.start();
        eventually("calls", || (lab.simulator().stats().requests >= life * 2).then_some(()));
        daemon.kill();
        check(&lab, &[]);
        assert!(billed(&lab) <= BUDGET_NANOUSD);
        if lab.number("SELECT count(*) FROM attempts WHERE settlement IS NULL") > 7 {
            break;
        }
    }
    assert_eq!(lab.until_empty(), 8);
    is_a_wall(&lab);
    check_end(&lab, &[]);
}

#[test]
fn what_nobody_can_price_is_held_until_somebody_allows_it() {
    needs!("sqlite3");
    let image = r#"{"messages":[{"role":"user","content":[
        {"type":"image","source":{"type":"base64","media_type":"image/png","data":"aGk="}},
        {"type":"text","text":"[[id=image]] [[out=5]]"}]}]}"#;
    let lab = lab(4, "[[budget]]\nusd = 5\nper = \"total\"\n");
    lab.sql(&format!(
        "INSERT INTO jobs (key, request) VALUES ('image', '{image}');
         INSERT INTO jobs (key, prompt, model) VALUES ('new', '[[id=new]] [[out=5]]', 'claude-unheard-of-9');
         INSERT INTO jobs (key, prompt) VALUES ('plain', '[[id=plain]] [[out=5]]');"
    ));
    assert_eq!(lab.until_empty(), 8);
    assert_eq!(lab.job("image"), ("held".into(), "cost_unbounded".into()));
    assert_eq!(lab.job("new"), ("held".into(), "cost_unbounded".into()));
    assert_eq!(lab.job("plain").0, "succeeded");
    assert_eq!(lab.simulator().stats().requests, 1);

    lab.configure(&Settings {
        rest: "[[budget]]\nusd = 5\nper = \"total\"\nallow_unbounded = true\n".to_owned(),
        ..Settings::default()
    });
    let released = lab.claudeq(&["release", "--all", "-y"]);
    assert_eq!(released.code, 0, "{released:?}");
    assert_eq!(lab.until_empty(), 0);
    assert_eq!(lab.states(), "succeeded 3");
}
