//! The screen of status: one look, most important first, what is secondary dropped when narrow.

use super::limits;
use super::money;
use super::view::View;
use crate::cli::render::{Line, Screen, Tone, bar, format, wrap};
use crate::clock::calendar;
use crate::daemon::report::Report;
use crate::domain::gate::Closed;
use crate::domain::reason::Reason;
use crate::domain::time::Timestamp;
use crate::store::{FailureCount, GateRow};

/// Wider is not more readable.
const WIDTH_MOST: usize = 100;
/// Where values begin.
pub(super) const INDENT: usize = 12;
const BAR_MOST: usize = 25;
const BAR_LEAST: usize = 10;
/// Kinds of failures named one by one.
const CLASSES: usize = 4;

/// The whole screen.
pub(super) fn lines(view: &View, screen: &Screen) -> Vec<String> {
    let screen = screen.at_most(WIDTH_MOST);
    let blocks = [
        head(view, &screen),
        work(view, &screen),
        limits::block(view, &screen),
        rest(view, &screen),
    ];
    let mut out: Vec<String> = Vec::new();
    for block in blocks.iter().filter(|block| !block.is_empty()) {
        if !out.is_empty() {
            out.push(String::new());
        }
        out.extend(block.iter().map(|line| line.render(&screen)));
    }
    out
}

/// `claudeq ● running  pid 4121, up 6h 12m · queue.db (1.9 GB) · api.anthropic.com`
fn head(view: &View, screen: &Screen) -> Vec<Line> {
    let daemon = &view.daemon;
    let file = format!("{} ({})", view.database.display(), format::bytes(view.bytes));
    let place = [Line::plain(file), Line::plain(host_of(&view.base_url))];
    let mut line = Line::default().and(Tone::Strong, "claudeq ");
    if !daemon.running {
        line.push(Tone::Warn, "○ stopped");
        if view.remaining() > 0 {
            let waiting = format::count(view.remaining());
            line.push(Tone::Plain, format!(", {waiting} waiting: start it with `claudeq daemon`"));
            return vec![parts(line, " · ", &place[..1], screen)];
        }
        return vec![parts(line, "  ", &place, screen)];
    }
    let phase = match daemon.report.as_ref().map(|report| report.phase) {
        Some(crate::daemon::report::Phase::Draining) => (Tone::Warn, "● stopping"),
        _ => (Tone::Good, "● running"),
    };
    line.push(phase.0, phase.1);
    let mut life = Line::default();
    if let Some(pid) = daemon.pid {
        life.push(Tone::Plain, format!("pid {pid}"));
    }
    match (daemon.silent(view.now), &daemon.row) {
        (Some(silence), _) => {
            life.push(Tone::Bad, format!(", silent for {}", format::span(silence.0)));
        }
        (None, Some(row)) if row.stopped_at.is_none() => {
            let up = view.now.since(row.started_at);
            life.push(Tone::Plain, format!(", up {}", format::span_tight(up.0)));
        }
        _ => life.push(Tone::Plain, ", starting"),
    }
    let [file, host] = place;
    vec![parts(line, "  ", &[life, file, host], screen)]
}

/// What is queued, what is done, when it ends.
fn work(view: &View, screen: &Screen) -> Vec<Line> {
    let mut lines = Vec::new();
    if view.counts.total() == 0 {
        lines.push(labelled("Queue", Line::plain("empty: claudeq add \"Say hi\"")));
    } else {
        lines.extend(queue(view, screen));
        lines.push(done(view, screen));
        lines.extend(finishes(view, screen));
    }
    lines.extend(notes(view, screen));
    lines
}

fn queue(view: &View, screen: &Screen) -> Vec<Line> {
    let number = |count: i64, what: &str| Line::plain(format!("{} {what}", format::count(count)));
    let mut pieces =
        vec![number(view.waiting(), "waiting"), number(view.counts.running, "running")];
    if view.timed.retrying > 0 {
        pieces.push(number(view.timed.retrying, "retrying"));
    }
    if view.scheduled() > 0 {
        pieces.push(number(view.scheduled(), "scheduled"));
    }
    pieces.push(number(view.counts.held, "held"));
    let (finished, total) = (view.counts.finished(), view.counts.total());
    let share = Line::plain(format!("  {}", format::percent(finished, total)));
    let text = |pieces: &[Line]| parts(labelled("Queue", Line::default()), "", pieces, screen);
    let space = |text: &Line| screen.width.saturating_sub(text.width() + 3 + share.width());
    let mut beside = text(&pieces);
    if space(&beside) < BAR_LEAST && view.counts.held == 0 {
        pieces.pop();
        beside = text(&pieces);
    }
    let width = space(&beside).min(BAR_MOST);
    if width >= BAR_LEAST {
        let mut line = beside.pad_to(screen.width - width - share.width());
        line.append(bar::progress(finished, total, width, screen));
        line.append(share);
        return vec![line];
    }
    let width = (screen.width - INDENT - share.width()).min(BAR_MOST);
    let mut below = labelled("", bar::progress(finished, total, width, screen));
    below.append(share);
    vec![beside, below]
}

fn done(view: &View, screen: &Screen) -> Line {
    let counts = &view.counts;
    let share = if counts.finished() > 0 {
        format!(" ({})", format::percent_fine(counts.succeeded, counts.finished()))
    } else {
        String::new()
    };
    let ok = Line::plain(format!("{} ok{share}", format::count(counts.succeeded)));
    let tone = if counts.failed > 0 { Tone::Bad } else { Tone::Plain };
    let failed = Line::default().and(tone, format!("{} failed", format::count(counts.failed)));
    let mut pieces = vec![ok, failed];
    if counts.cancelled > 0 {
        pieces.push(Line::plain(format!("{} cancelled", format::count(counts.cancelled))));
    }
    parts(labelled("Done", Line::default()), "", &pieces, screen)
}

fn finishes(view: &View, screen: &Screen) -> Option<Line> {
    let label = |line| Some(labelled("Finishes", line));
    if view.remaining() == 0 {
        let text = if view.counts.held > 0 { "only held jobs are left" } else { "all done" };
        return label(Line::plain(text));
    }
    if !view.daemon.running {
        let line = Line::plain("–").and(Tone::Faint, "   claudeq plan says how long it would take");
        return label(line);
    }
    let report = view.daemon.report.as_ref()?;
    let mut line = end(view);
    if let Some(reason) = reason(view, report.held_back_by) {
        let what = if reason == Reason::Concurrency && learns(view, report) {
            "limits that the first answers will tell"
        } else {
            held_back_by(reason)
        };
        let why = Line::plain("held back by: ").and(Tone::Warn, what);
        if INDENT + line.width() + 3 + why.width() <= screen.width {
            line.push(Tone::Plain, "   ");
            line.append(why);
        }
    }
    label(line)
}

/// Whether calls go out one by one because no limit is known yet.
fn learns(view: &View, report: &Report) -> bool {
    view.limits.is_empty() && report.in_flight < report.max_in_flight
}

/// `in 2 h 05 m (02:41)`
fn end(view: &View) -> Line {
    let Some(forecast) = view.forecast() else {
        return Line::default().and(Tone::Faint, "nobody can say yet");
    };
    let line = match forecast.finishes_at {
        Some(at) if at > view.now => Line::plain(format!(
            "in {} ({})",
            format::span(at.since(view.now).0),
            calendar::local_clock(at, view.now)
        )),
        Some(_) => Line::plain("any moment now"),
        None => Line::default().and(Tone::Warn, "not by itself"),
    };
    let stuck: i64 = forecast.stuck.values().sum();
    match (stuck, forecast.finishes_at) {
        (1.., Some(_)) => line.and(Tone::Warn, format!(", all but {}", format::count(stuck))),
        _ => line,
    }
}

/// What to name: what never ends by itself, what stops everything just now, else what will be
/// waited for the longest.
fn reason(view: &View, now: Option<Reason>) -> Option<Reason> {
    let Some(forecast) = view.forecast() else { return now };
    let stuck = forecast.stuck.iter().max_by_key(|(_, jobs)| **jobs).map(|(reason, _)| *reason);
    let stops = |reason: &Reason| {
        reason.needs_a_person() || matches!(reason, Reason::Pause | Reason::Provider)
    };
    stuck.or(now.filter(stops)).or(forecast.bottleneck).or(now)
}

/// What holds jobs back, as people say it.
pub(in crate::cli) fn held_back_by(reason: Reason) -> &'static str {
    match reason {
        Reason::Requests => "requests",
        Reason::InputTokens => "input tokens",
        Reason::OutputTokens => "output tokens",
        Reason::Tokens => "tokens",
        Reason::Concurrency => "calls in flight (max_in_flight)",
        Reason::Budget => "a budget",
        Reason::Pause => "a 429's pause",
        Reason::Paused => "a paused queue",
        Reason::Provider => "the provider's trouble",
        Reason::Account => "the account's spend limit",
        Reason::Key => "a rejected API key",
        Reason::Schedule => "their time has not come",
    }
}

/// What somebody should know before he reads on.
fn notes(view: &View, screen: &Screen) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(row) = view.daemon.died() {
        let ago = format::span(view.now.since(row.heartbeat_at).0);
        let mut text = format!("the last daemon (pid {}) ended {ago} ago without a word", row.pid);
        if view.counts.running > 0 {
            let jobs = format::jobs(view.counts.running);
            text.push_str(&format!("; {jobs} in flight then will be taken up by the next"));
        }
        lines.extend(wrapped("Note", Tone::Warn, &text, screen));
    }
    if let Some(trouble) = view.daemon.report.as_ref().and_then(|report| report.trouble.as_ref()) {
        lines.extend(wrapped("Trouble", Tone::Bad, trouble, screen));
    }
    if let Some(pid) = view.locked_by {
        let text = format!("process {pid} holds the write lock: nobody else can write");
        lines.extend(wrapped("Locked", Tone::Bad, &text, screen));
    }
    for gate in &view.gates {
        lines.extend(wrapped("Closed", Tone::Warn, &gate_sentence(gate, view), screen));
    }
    if !view.paused.is_empty() {
        lines.push(paused(&view.paused));
    }
    lines
}

fn paused(queues: &[String]) -> Line {
    let every = queues.iter().any(|queue| queue == "*");
    let (what, command) = match queues {
        _ if every => ("every queue".to_owned(), "claudeq resume".to_owned()),
        [one] => (one.clone(), format!("claudeq resume {one}")),
        many => (many.join(", "), "claudeq resume QUEUE".to_owned()),
    };
    labelled("Paused", Line::default().and(Tone::Warn, what))
        .and(Tone::Faint, format!("   {command}"))
}

fn gate_sentence(gate: &GateRow, view: &View) -> String {
    let whose = if gate.name == "*" { "the account" } else { gate.name.as_str() };
    let why = match Closed::parse(&gate.reason) {
        Some(Closed::Pause) => format!("{whose} is paused by a 429"),
        Some(Closed::Provider) => {
            return format!("{}{}", ailing(whose, view), next_try(gate.until, view.now));
        }
        Some(Closed::Account) => format!("{whose} is parked: its spend limit is reached"),
        Some(Closed::Key) => {
            return format!("the API key was rejected: {}", key_cure(view));
        }
        None => format!("{whose} is closed ({})", gate.reason),
    };
    format!("{why}{}", until(gate.until, view.now))
}

/// A gate does not say whether calls failed there or did not get there: those that wait do.
fn ailing(whose: &str, view: &View) -> String {
    const UNREACHED: [&str; 3] = ["connection", "redirect", "not_the_api"];
    let host = host_of(&view.base_url);
    let met = view.retries.first().map(|class| class.error_class.as_str());
    if met.is_some_and(|class| UNREACHED.contains(&class)) {
        return format!("{whose} cannot reach the API at {host}");
    }
    format!("{whose} waits: too many calls to {host} failed")
}

fn next_try(until: Option<Timestamp>, now: Timestamp) -> String {
    match until {
        Some(at) if at > now => format!(
            "; next try {} (in {})",
            calendar::local_clock(at, now),
            format::span(at.since(now).0)
        ),
        _ => "; the next try is due".to_owned(),
    }
}

/// How to give the daemon another key: it can only read a file anew, and which of the three
/// places it has its key from stands nowhere.
fn key_cure(view: &View) -> String {
    match (&view.api_key_file, view.daemon.running, view.daemon.pid) {
        (_, false, _) => "start the daemon with a valid one".to_owned(),
        (Some(file), true, Some(pid)) => format!(
            "put a valid one into {}, then kill -HUP {pid}; if it comes from ANTHROPIC_API_KEY or \
             systemd, start the daemon again with a valid one",
            file.display()
        ),
        _ => "stop the daemon and start it with a valid one".to_owned(),
    }
}

fn until(until: Option<Timestamp>, now: Timestamp) -> String {
    match until {
        Some(at) if at > now => format!(
            " until {} (in {})",
            calendar::local_clock(at, now),
            format::span(at.since(now).0)
        ),
        Some(_) => ", a probe is due".to_owned(),
        None => String::new(),
    }
}

/// Money, retries, failures.
fn rest(view: &View, screen: &Screen) -> Vec<Line> {
    let mut lines = money::lines(view, screen);
    if view.timed.retrying > 0 {
        let mut pieces =
            vec![Line::plain(format!("{} waiting", format::count(view.timed.retrying)))];
        if let (0, Some(at)) = (view.scheduled(), view.timed.next_at) {
            let next = at.since(view.now).0;
            let next = match next {
                ..1_000 => "next one now".to_owned(),
                _ => format!("next in {}", format::span(next)),
            };
            pieces.push(Line::plain(next));
        }
        pieces.extend(classes(&view.retries));
        lines.push(parts(labelled("Retries", Line::default()), "", &pieces, screen));
    }
    lines.extend(counted("Failed", Tone::Bad, view.counts.failed, &view.failures, screen));
    lines.extend(counted("Held", Tone::Warn, view.counts.held, &view.held, screen));
    if view.unknown > 0 {
        let calls = if view.unknown == 1 { "call" } else { "calls" };
        let text = format!(
            "{} {calls} of unknown fate, counted at their worst",
            format::count(view.unknown)
        );
        lines.push(labelled("Unknown", Line::plain(text)));
    }
    lines
}

/// `803 · invalid_request 771 · refusal 32       claudeq list --state failed`
fn counted(
    label: &str,
    tone: Tone,
    jobs: i64,
    found: &[FailureCount],
    screen: &Screen,
) -> Vec<Line> {
    if jobs == 0 {
        return Vec::new();
    }
    let mut pieces = vec![Line::default().and(tone, format::count(jobs))];
    pieces.extend(classes(found));
    let line = parts(labelled(label, Line::default()), "", &pieces, screen);
    let state = label.to_lowercase();
    let command = Line::default().and(Tone::Faint, format!("claudeq list --state {state}"));
    if line.width() + 3 + command.width() <= screen.width {
        let mut line = line.pad_to(screen.width - command.width());
        line.append(command);
        return vec![line];
    }
    vec![line, labelled("", command)]
}

fn classes(found: &[FailureCount]) -> Vec<Line> {
    let name = |class: &str| if class.is_empty() { "other".to_owned() } else { class.to_owned() };
    let mut pieces: Vec<Line> = found
        .iter()
        .take(CLASSES)
        .map(|class| {
            Line::plain(format!("{} {}", name(&class.error_class), format::count(class.jobs)))
        })
        .collect();
    if found.len() > CLASSES {
        let more = found.len() - CLASSES;
        let kinds = if more == 1 { "kind" } else { "kinds" };
        pieces.push(Line::plain(format!("{more} other {kinds}")));
    }
    pieces
}

/// A label and what follows it.
pub(super) fn labelled(label: &str, line: Line) -> Line {
    let mut out = Line::default().and(Tone::Faint, format!("  {label}")).pad_to(INDENT);
    out.append(line);
    out
}

/// As many of the pieces as fit, with dots between them.
pub(super) fn parts(mut line: Line, first: &str, pieces: &[Line], screen: &Screen) -> Line {
    for (at, piece) in pieces.iter().enumerate() {
        let gap = if at == 0 { first } else { " · " };
        // What follows a label stays, cut if it must be.
        if (at > 0 || !first.is_empty())
            && line.width() + gap.chars().count() + piece.width() > screen.width
        {
            break;
        }
        line.push(Tone::Plain, gap);
        line.append(piece.clone());
    }
    line
}

/// A sentence on as many lines as it needs.
fn wrapped(label: &str, tone: Tone, text: &str, screen: &Screen) -> Vec<Line> {
    let rows = wrap(text, screen.width.saturating_sub(INDENT));
    rows.into_iter()
        .enumerate()
        .map(|(at, row)| labelled(if at == 0 { label } else { "" }, Line::default().and(tone, row)))
        .collect()
}

/// `api.anthropic.com` of its URL.
fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    // A password may stand before it.
    host.rsplit('@').next().unwrap_or(host).to_owned()
}
