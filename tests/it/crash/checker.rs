//! What must hold after any fault, read from the database and from the simulator's log.
//!
//! Invariant: prices and sums are worked out here once more, on their own: nothing is shared with
//! the ledger that is checked.

use crate::helper::{CANARY, Lab, sql};
use claudeq::simulator::Entry;
use sqlx::Row as _;
use std::collections::{HashMap, HashSet};

/// Nano-dollars a token of claude-sonnet-5-5.
const INPUT_PRICE: u64 = 2_000;
const OUTPUT_PRICE: u64 = 10_000;
const CACHE_READ_PRICE: u64 = 100;
const CACHE_WRITE_PRICE: u64 = 2_500;

struct Attempt {
    job: i64,
    settlement: Option<String>,
    outcome: Option<String>,
    request_id: Option<String>,
    worst_nanousd: i64,
    settled_nanousd: Option<i64>,
    has_answer: bool,
    is_paused: bool,
}

impl Attempt {
    fn may_be_billed(&self) -> bool {
        self.settlement.is_none() || self.outcome.as_deref() == Some("unknown")
    }
}

/// Asserts what holds at any moment at which no daemon runs; `acknowledged` are the keys whose
/// insert was committed.
pub(crate) fn check(lab: &Lab, acknowledged: &[String]) {
    lab.at_rest();
    // The log first: what is in it was sent, so what is in it is in the database.
    let billed: Vec<Entry> =
        lab.simulator().log().into_iter().filter(|entry| entry.billed).collect();
    assert_eq!(sql(lab.database(), "PRAGMA integrity_check;"), "ok");
    let jobs = every_job_is_there_once(lab, acknowledged);
    let attempts = attempts(lab);
    no_paid_answer_is_lost(&jobs, &attempts, &billed);
    the_ledger_does_not_undercount(&attempts, &billed);
    the_sums_are_those_of_the_calls(lab);
    every_answer_is_that_of_its_job(lab);
    no_key_anywhere(lab);
}

/// Asserts, beside all of [`check`], what holds when all is done: nothing runs and nothing is open.
pub(crate) fn check_end(lab: &Lab, acknowledged: &[String]) {
    check(lab, acknowledged);
    let open = "SELECT (SELECT count(*) FROM job_state WHERE state = 'running')
        + (SELECT count(*) FROM attempts WHERE settlement IS NULL)";
    assert_eq!(lab.number(open), 0, "nothing runs and nothing is open");
    let answers = "SELECT count(*) FROM job_state AS s WHERE s.state = 'succeeded'
        AND NOT EXISTS (SELECT 1 FROM responses AS r WHERE r.attempt_id = s.attempt_id)";
    assert_eq!(lab.number(answers), 0, "whatever succeeded has its answer");
}

/// What the simulator has billed, in nano-dollars.
pub(crate) fn billed(lab: &Lab) -> u64 {
    lab.simulator().log().iter().filter(|entry| entry.billed).map(price).sum()
}

fn price(entry: &Entry) -> u64 {
    assert_eq!(entry.model, "claude-sonnet-5-5");
    entry.input_tokens * INPUT_PRICE
        + entry.output_tokens * OUTPUT_PRICE
        + entry.cache_read_tokens * CACHE_READ_PRICE
        + entry.cache_write_tokens * CACHE_WRITE_PRICE
}

/// What is kept as sums is what the rows add up to.
fn the_sums_are_those_of_the_calls(lab: &Lab) {
    let differing = format!(
        "SELECT count(*) FROM (SELECT * FROM ({0} EXCEPT {1}) UNION ALL SELECT * FROM ({1} EXCEPT {0}))",
        "SELECT slot, queue, model, calls, nanousd, tokens FROM spending",
        "SELECT reserved_at / 900000 * 900000, queue, model, count(*), sum(settled_nanousd),
           sum(settled_tokens) FROM attempts WHERE settlement IS NOT NULL GROUP BY 1, 2, 3"
    );
    assert_eq!(lab.number(&differing), 0, "spending is what the calls cost");
}

/// Keys and ids of all jobs.
fn every_job_is_there_once(lab: &Lab, acknowledged: &[String]) -> HashMap<String, i64> {
    let query = "SELECT j.key, j.id, count(s.id) AS states, max(s.state) AS state
        FROM jobs AS j LEFT JOIN job_state AS s ON s.id = j.id GROUP BY j.id";
    let rows = lab.rows(query, |row| {
        let (key, id): (String, i64) = (row.get("key"), row.get("id"));
        (key, id, row.get::<i64, _>("states"), row.get::<String, _>("state"))
    });
    let mut jobs = HashMap::new();
    for (key, id, states, state) in rows {
        assert_eq!(states, 1, "job {key} has one state, not {states}");
        assert!(
            ["queued", "running", "succeeded", "failed", "cancelled", "held"]
                .contains(&state.as_str()),
            "job {key} is {state}"
        );
        assert_eq!(jobs.insert(key.clone(), id), None, "job {key} is there twice");
    }
    let strays = "SELECT count(*) FROM job_state WHERE id NOT IN (SELECT id FROM jobs)";
    assert_eq!(lab.number(strays), 0, "no state without its job");
    for key in acknowledged {
        assert!(jobs.contains_key(key), "job {key} was committed and is lost");
    }
    jobs
}

fn attempts(lab: &Lab) -> Vec<Attempt> {
    let query = "SELECT a.job_id, a.settlement, a.outcome, a.request_id, a.worst_nanousd,
          a.settled_nanousd, r.attempt_id IS NOT NULL AS has_answer,
          a.stop_reason IS 'pause_turn' AS is_paused
        FROM attempts AS a LEFT JOIN responses AS r ON r.attempt_id = a.id";
    lab.rows(query, |row| Attempt {
        job: row.get("job_id"),
        settlement: row.get("settlement"),
        outcome: row.get("outcome"),
        request_id: row.get("request_id"),
        worst_nanousd: row.get("worst_nanousd"),
        settled_nanousd: row.get("settled_nanousd"),
        has_answer: row.get("has_answer"),
        is_paused: row.get("is_paused"),
    })
}

/// Each bill has its answer, or an attempt whose fate nobody knows; and no job was paid for more
/// often than that and its paused turns explain.
fn no_paid_answer_is_lost(jobs: &HashMap<String, i64>, attempts: &[Attempt], billed: &[Entry]) {
    let kept: HashSet<&str> = attempts
        .iter()
        .filter(|attempt| attempt.has_answer)
        .filter_map(|attempt| attempt.request_id.as_deref())
        .collect();
    let mut doubtful: HashMap<i64, usize> = HashMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt.may_be_billed()) {
        *doubtful.entry(attempt.job).or_default() += 1;
    }
    let mut paused: HashMap<i64, usize> = HashMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt.is_paused && attempt.has_answer) {
        *paused.entry(attempt.job).or_default() += 1;
    }
    let (mut unkept, mut bills): (HashMap<i64, usize>, HashMap<i64, usize>) = Default::default();
    for entry in billed {
        let key = entry.marker.as_deref().expect("every prompt has its marker");
        let job = *jobs.get(key).unwrap_or_else(|| panic!("nobody inserted {key}"));
        *bills.entry(job).or_default() += 1;
        if !kept.contains(entry.request_id.as_str()) {
            *unkept.entry(job).or_default() += 1;
        }
    }
    let doubts = |job: &i64| doubtful.get(job).copied().unwrap_or(0);
    for (job, count) in &unkept {
        assert!(
            *count <= doubts(job),
            "job {job}: {count} paid answers are not kept, and only {} attempts say so",
            doubts(job)
        );
    }
    for (job, count) in &bills {
        let parts = paused.get(job).copied().unwrap_or(0);
        assert!(
            *count <= 1 + parts + doubts(job),
            "job {job} was paid for {count} times with {} attempts of unknown fate",
            doubts(job)
        );
    }
}

fn the_ledger_does_not_undercount(attempts: &[Attempt], billed: &[Entry]) {
    let ledger: i64 = attempts
        .iter()
        .map(|attempt| attempt.settled_nanousd.unwrap_or(attempt.worst_nanousd))
        .sum();
    let bill: u64 = billed.iter().map(price).sum();
    assert!(
        u64::try_from(ledger).expect("a sum of costs") >= bill,
        "the ledger says {ledger} nano-dollars, the bill {bill}"
    );
}

/// The simulator repeats the prompt's beginning, the marker, in its answer.
fn every_answer_is_that_of_its_job(lab: &Lab) {
    let query = "SELECT count(*) FROM results
        WHERE state = 'succeeded' AND (text IS NULL OR instr(text, '[[id=' || key || ']]') = 0)";
    assert_eq!(lab.number(query), 0, "an answer is not that of its job");
}

fn no_key_anywhere(lab: &Lab) {
    for entry in std::fs::read_dir(lab.dir()).expect("the directory is there") {
        let path = entry.expect("it can be listed").path();
        // Read only here, with no connection of this process open.
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes());
        let allowed = path.file_name().is_some_and(|name| name == "key");
        assert!(!found || allowed, "the key is in {}", path.display());
    }
}

/// The command line that everybody on the machine can read has no key.
pub(crate) fn no_key_in_the_command_line(pid: u32) {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).expect("it runs");
    let line = String::from_utf8_lossy(&line).into_owned();
    assert!(line.contains("daemon") && !line.contains(CANARY), "{line}");
}
