//! The screen as people see it, from views made by hand.

use super::view::{Daemon, LimitUse, View};
use super::{json, one_line, screen};
use crate::cli::budgets::BudgetUse;
use crate::cli::render::Screen;
use crate::daemon::report::Report;
use crate::domain::budget::{BudgetPer, BudgetSpec, Cap};
use crate::domain::forecast::{BudgetEnd, Forecast};
use crate::domain::reason::Reason;
use crate::domain::time::Timestamp;
use crate::store::{Counts, DaemonRow, FailureCount, GateRow, LimitSnapshot, Timed};

const NOW: Timestamp = Timestamp(1_790_000_000_000);

fn after(millis: i64) -> Timestamp {
    Timestamp(NOW.0 + millis)
}

fn classes(found: &[(&str, i64)]) -> Vec<FailureCount> {
    let class = |(class, jobs): &(&str, i64)| FailureCount {
        error_class: (*class).to_owned(),
        jobs: *jobs,
    };
    found.iter().map(class).collect()
}

fn limit(dimension: &str, per: &str, used: i64, amount: i64) -> LimitUse {
    let snapshot = LimitSnapshot {
        pool: "sonnet-5-5".into(),
        dimension: dimension.into(),
        per: per.into(),
        amount,
        source: "headers".into(),
        algorithm: "bucket".into(),
        burst_ms: Some(60_000),
        burst_learned: false,
        capacity: amount,
        level_shares: None,
        available: amount - used,
        held: 0,
        others: 0,
        as_of: NOW,
    };
    LimitUse { snapshot, used }
}

fn daemon() -> Daemon {
    let forecast = Forecast {
        as_of: NOW,
        jobs: 41_784,
        finishes_at: Some(NOW),
        bottleneck: Some(Reason::OutputTokens),
        rest_nanousd: Some(64_800_000_000),
        budgets: vec![BudgetEnd { key: "usd/day/UTC/*".into(), ..BudgetEnd::default() }],
        ..Forecast::default()
    };
    let report = Report {
        as_of: NOW,
        held_back_by: Some(Reason::OutputTokens),
        forecast: Some(forecast),
        ..Report::default()
    };
    let row = DaemonRow {
        epoch: 3,
        pid: 4_121,
        host: "host".into(),
        version: "0.1.0".into(),
        started_at: after(-22_320_000),
        heartbeat_at: after(-500),
        stopped_at: None,
        report: None,
    };
    Daemon { running: true, pid: Some(4_121), row: Some(row), report: Some(report) }
}

fn busy() -> View {
    View {
        now: NOW,
        database: "queue.db".into(),
        bytes: 1_900_000_000,
        base_url: "https://api.anthropic.com".into(),
        daemon: daemon(),
        counts: Counts {
            queued: 41_720,
            running: 64,
            succeeded: 118_240,
            failed: 803,
            cancelled: 12,
            held: 0,
        },
        timed: Timed { timed: 512, retrying: 512, next_at: Some(after(14_000)) },
        failures: classes(&[("invalid_request", 771), ("refusal", 32)]),
        retries: classes(&[("overloaded", 497), ("timeout", 15)]),
        limits: vec![
            limit("requests", "minute", 2_410, 4_000),
            limit("input_tokens", "minute", 1_310_000, 2_000_000),
            limit("output_tokens", "minute", 398_200, 400_000),
        ],
        budgets: vec![budget(184_200_000_000, 300_000_000_000)],
        per_job: Some(1_550_000),
        ..View::default()
    }
}

fn budget(spent: i64, cap: i64) -> BudgetUse {
    let spec = BudgetSpec {
        cap: Cap::Usd(cap),
        per: BudgetPer::Day,
        queue: None,
        timezone: "UTC".into(),
        allow_unbounded: false,
    };
    BudgetUse { spec, start: after(-1), end: after(1), spent, reserved: 0 }
}

fn shown(view: &View, screen: &Screen) -> String {
    screen::lines(view, screen).join("\n")
}

#[test]
fn a_busy_queue_in_one_screen() {
    let expected = "\
claudeq ● running  pid 4121, up 6h 12m · queue.db (1.9 GB) · api.anthropic.com

  Queue     41,208 waiting · 64 running · 512 retrying · 0 held      ━━━━━━━━━━━━━━━━━━╸──────  74 %
  Done      118,240 ok (99.3 %) · 803 failed · 12 cancelled
  Finishes  any moment now   held back by: output tokens

  Limits (sonnet-5-5)                    last minute   limit
    requests       ████████████░░░░░░░░        2,410 / 4,000   60 %
    input tokens   █████████████░░░░░░░        1.31M / 2.00M   65 %
    output tokens  ███████████████████░         398k / 400k    99 %

  Cost      $184.20 of $300.00 today · $0.00155 a job · ≈ $249 at the end, fits
  Retries   512 waiting · next in 14 s · overloaded 497 · timeout 15
  Failed    803 · invalid_request 771 · refusal 32                       claudeq list --state failed";
    assert_eq!(shown(&busy(), &Screen::plain(100)), expected);
    assert_eq!(shown(&busy(), &Screen::plain(200)), expected, "wider is not more readable");
}

#[test]
fn sixty_columns_keep_what_matters() {
    let expected = "\
claudeq ● running  pid 4121, up 6h 12m · queue.db (1.9 GB)

  Queue     41,208 waiting · 64 running · 512 retrying
            ━━━━━━━━━━━━━━━━━━╸──────  74 %
  Done      118,240 ok (99.3 %) · 803 failed · 12 cancelled
  Finishes  any moment now   held back by: output tokens

  Limits (sonnet-5-5)             last minute   limit
    requests       ███████░░░░░░        2,410 / 4,000   60 %
    input tokens   ████████░░░░░        1.31M / 2.00M   65 %
    output tokens  ████████████░         398k / 400k    99 %

  Cost      $184.20 of $300.00 today · $0.00155 a job
  Retries   512 waiting · next in 14 s · overloaded 497
  Failed    803 · invalid_request 771 · refusal 32
            claudeq list --state failed";
    let text = shown(&busy(), &Screen::plain(60));
    assert_eq!(text, expected);
    for width in 40..=120 {
        let text = shown(&busy(), &Screen::plain(width));
        assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
    }
}

#[test]
fn a_screen_without_utf_8_gets_ascii() {
    for view in [busy(), troubled()] {
        let text = shown(&view, &Screen::ascii(80));
        assert!(text.is_ascii(), "{text}");
    }
    let text = shown(&busy(), &Screen::ascii(100));
    assert!(text.starts_with("claudeq * running") && text.contains("=====>---"), "{text}");
}

#[test]
fn colours_are_only_added() {
    let coloured = shown(&busy(), &Screen::coloured(100));
    assert!(coloured.contains("\u{1b}[32m● running\u{1b}[0m"), "{coloured}");
    let mut bare = coloured;
    while let Some(at) = bare.find('\u{1b}') {
        let end = bare[at..].find('m').unwrap() + at;
        bare.replace_range(at..=end, "");
    }
    assert_eq!(bare, shown(&busy(), &Screen::plain(100)));
}

#[test]
fn a_stopped_daemon_leaves_a_way_on() {
    let mut view = busy();
    let mut row = view.daemon.row.unwrap();
    row.stopped_at = Some(after(-60_000));
    view.daemon = Daemon { running: false, pid: None, row: Some(row.clone()), report: None };
    let text = shown(&view, &Screen::plain(100));
    let first =
        "claudeq ○ stopped, 41,784 waiting: start it with `claudeq daemon` · queue.db (1.9 GB)";
    assert_eq!(text.lines().next(), Some(first));
    assert!(text.contains("  Finishes  –   claudeq plan says how long it would take"), "{text}");
    assert!(!text.contains("Limits") && !text.contains("at the end"), "{text}");
    assert!(!text.contains("without a word"), "{text}");
    let narrow = shown(&view, &Screen::plain(72));
    assert_eq!(narrow.lines().next(), first.strip_suffix(" · queue.db (1.9 GB)"));
    row.stopped_at = None;
    view.daemon.row = Some(row);
    let text = shown(&view, &Screen::plain(100));
    assert!(text.contains("the last daemon (pid 4121) ended 1 s ago without a word; 64 jobs"));
}

#[test]
fn an_empty_file_says_what_to_do() {
    let view = View {
        database: "queue.db".into(),
        bytes: 155_000,
        base_url: "https://api.anthropic.com".into(),
        ..View::default()
    };
    assert_eq!(
        shown(&view, &Screen::plain(80)),
        "claudeq ○ stopped  queue.db (155 kB) · api.anthropic.com\n\n  \
           Queue     empty: claudeq add \"Say hi\""
    );
}

fn troubled() -> View {
    let mut view = busy();
    if let Some(report) = &mut view.daemon.report {
        report.trouble = Some("the database cannot be written: disk full".into());
        report.held_back_by = Some(Reason::Budget);
        let forecast = report.forecast.as_mut().unwrap();
        forecast.finishes_at = None;
        forecast.stuck = [(Reason::Budget, 41_000), (Reason::Paused, 3)].into();
        forecast.budgets[0].stops_at = Some(NOW);
        forecast.budgets[0].exceeded_by = 63_800_000_000;
    }
    let gate = |name: &str, reason: &str, until| GateRow {
        name: name.into(),
        reason: reason.into(),
        until,
    };
    view.gates = vec![
        gate("*", "key", None),
        gate("opus-5", "provider", Some(after(-1))),
        gate("sonnet-5-5", "pause", Some(after(12_000))),
    ];
    view.paused = vec!["nightly".into()];
    view.locked_by = Some(777);
    view.unknown = 3;
    view.counts.held = 2;
    view.held = classes(&[("cost_unbounded", 2)]);
    view.limits.push(limit("tokens", "day", 3_000_000, 2_500_000));
    view.budgets = vec![budget(299_000_000_000, 300_000_000_000)];
    view
}

#[test]
fn a_provider_that_is_not_reached_is_said_to_be() {
    let mut view = troubled();
    view.gates[1].until = Some(after(12_000));
    view.retries = classes(&[("connection", 30), ("timeout", 2)]);
    let text = shown(&view, &Screen::plain(100));
    assert!(text.contains("opus-5 cannot reach the API at api.anthropic.com; next try "), "{text}");
}

#[test]
fn trouble_is_said_in_sentences() {
    let text = shown(&troubled(), &Screen::plain(100));
    for sentence in [
        "  Trouble   the database cannot be written: disk full",
        "  Locked    process 777 holds the write lock: nobody else can write",
        "  Closed    the API key was rejected: stop the daemon and start it with a valid one",
        "opus-5 waits: too many calls to api.anthropic.com failed; the next try is due",
        "sonnet-5-5 is paused by a 429 until ",
        "(in 12 s)",
        "  Paused    nightly   claudeq resume nightly",
        "held back by: a budget",
        "    tokens a day   ████████████████████        3.00M / 2.50M  120 %",
        "$299.00 of $300.00 today",
        "  Finishes  not by itself   held back by: a budget",
        "≈ $364 at the end",
        "            exceeds the budget by about $63.80, stopped",
        "  Held      2 · cost_unbounded 2",
        "  Unknown   3 calls of unknown fate, counted at their worst",
    ] {
        assert!(text.contains(sentence), "{sentence}\n{text}");
    }
}

/// Only a file can be read anew by a daemon that runs.
#[test]
fn a_rejected_key_is_cured_where_it_came_from() {
    let mut view = View { api_key_file: Some("/etc/key".into()), ..troubled() };
    let said = |view: &View| shown(view, &Screen::plain(200)).replace("\n            ", " ");
    let by_file = said(&view);
    let cure = "put a valid one into /etc/key, then kill -HUP 4121; if it comes from \
                ANTHROPIC_API_KEY or systemd, start the daemon again with a valid one";
    assert!(by_file.contains(cure), "{by_file}");
    view.daemon.running = false;
    assert!(said(&view).contains("rejected: start the daemon with a valid one"));
    view = View { api_key_file: None, ..troubled() };
    assert!(!said(&view).contains("kill -HUP"));
}

#[test]
fn a_password_in_the_url_is_not_shown() {
    let view = View { base_url: "https://me:canary@gateway:1/v1".into(), ..busy() };
    let text = shown(&view, &Screen::plain(100));
    assert!(text.contains("· gateway:1\n") && !text.contains("canary"), "{text}");
}

#[test]
fn a_line_for_a_pipe_is_not_cut() {
    let line = one_line(&busy(), &Screen::plain(40));
    assert!(line.ends_with(" · 12 cancelled · 74 %"), "{line}");
}

#[test]
fn the_forecast_is_a_span_and_a_time() {
    let mut view = busy();
    let forecast = |view: &mut View, change: &dyn Fn(&mut Forecast)| {
        change(view.daemon.report.as_mut().unwrap().forecast.as_mut().unwrap());
    };
    forecast(&mut view, &|one| one.finishes_at = Some(after(7_500_000)));
    let text = shown(&view, &Screen::plain(100));
    assert!(text.contains("  Finishes  in 2 h 05 m ("), "{text}");
    assert!(text.contains(")   held back by: output tokens"), "{text}");
    forecast(&mut view, &|one| {
        one.stuck = [(Reason::Paused, 1_200)].into();
        one.budgets[0].stops_at = Some(after(60_000));
        one.budgets[0].exceeded_by = 12_000_000_000;
    });
    let text = shown(&view, &Screen::plain(120));
    assert!(text.contains("), all but 1,200   held back by: a paused queue"), "{text}");
    let value = json::value(&view);
    assert_eq!(value["finishes_at"], after(7_500_000).0);
    assert_eq!(
        (&value["bottleneck"], &value["stuck"]["paused"]),
        (&"output_tokens".into(), &1_200.into())
    );
    assert_eq!(value["cost"]["usd_for_the_rest"], 64.8);
    assert_eq!(value["cost"]["usd_at_the_end"], 249.0);
    assert_eq!(value["cost"]["budgets"][0]["fits"], false);
    assert_eq!(value["cost"]["budgets"][0]["exceeded_by"], 12.0);
    forecast(&mut view, &|one| one.rest_nanousd = None);
    let text = shown(&view, &Screen::plain(120));
    assert!(text.contains("a model without a price is to come"), "{text}");
    view.daemon.report.as_mut().unwrap().forecast = None;
    assert!(shown(&view, &Screen::plain(100)).contains("  Finishes  nobody can say yet   held"));
    view.counts.queued = 0;
    view.counts.running = 0;
    assert!(shown(&view, &Screen::plain(100)).contains("  Finishes  all done"));
}

#[test]
fn what_came_from_others_is_escaped() {
    let mut view = busy();
    view.failures = classes(&[("\u{1b}[2Jgone\u{202e}", 803)]);
    view.paused = vec!["\u{9b}31m".into()];
    view.limits.iter_mut().for_each(|limit| limit.snapshot.pool = "po\rol".into());
    let text = shown(&view, &Screen::coloured(100));
    for raw in ["\u{1b}[2J", "\u{202e}", "\u{9b}", "\r"] {
        assert!(!text.contains(raw), "{text:?}");
    }
}

#[test]
fn json_has_the_same_facts() {
    let value = json::value(&troubled());
    assert_eq!(value["daemon"]["running"], true);
    assert_eq!(value["counts"]["queued"], 41_720);
    assert_eq!(value["counts"]["held"], 2);
    assert_eq!(value["held_back_by"], "budget");
    assert!(value["finishes_at"].is_null());
    assert_eq!(value["limits"][1]["used"], 1_310_000);
    assert_eq!(value["cost"]["budgets"][0]["cap"], 300.0);
    assert_eq!(value["failures"][0]["error_class"], "invalid_request");
}

#[test]
fn a_line_for_a_pipe() {
    let screen = Screen::plain(120);
    let line = one_line(&busy(), &screen);
    assert!(
        line.ends_with(
            " running: 41,720 waiting · 64 running · 118,240 ok · 803 failed · 12 cancelled · 74 %"
        ),
        "{line}"
    );
}

#[test]
fn before_the_first_answer_nobody_blames_max_in_flight() {
    let said = |in_flight| {
        let mut view = View { limits: Vec::new(), ..busy() };
        let report = view.daemon.report.as_mut().unwrap();
        report.forecast = None;
        (report.in_flight, report.max_in_flight) = (in_flight, 64);
        report.held_back_by = Some(Reason::Concurrency);
        shown(&view, &Screen::plain(100))
    };
    assert!(
        said(1).contains("held back by: limits that the first answers will tell"),
        "{}",
        said(1)
    );
    assert!(said(64).contains("held back by: calls in flight (max_in_flight)"), "{}", said(64));
}
