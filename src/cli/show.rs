//! `claudeq show`: everything about a job.

use super::context::Context;
use super::exit::{Exit, failure};
use super::list::{error_of, state_tone};
use super::output;
use super::render::{Line, Screen, Tone, escape, format, wrap};
use super::select::{SelectArgs, no_such};
use crate::clock::calendar;
use crate::domain::job::{JobId, JobState};
use crate::domain::time::Timestamp;
use crate::store::{JobDetail, Store};
use clap::Args;

/// Lines of a long text on a terminal.
const TEXT_LINES: usize = 40;
/// Where values begin.
const INDENT: usize = 12;

/// Everything about a job: a page on a terminal, JSON in a pipe
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq show 17\n  \
    claudeq show 17 --text > answer.md\n  \
    claudeq show --key invoice-17 --json | jq .response.usage")]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Only the text of the answer
    #[arg(long, conflicts_with_all = ["json", "table"])]
    text: bool,
}

pub(crate) async fn run(args: &ShowArgs, context: &Context) -> anyhow::Result<Exit> {
    let which = args.select.explicit("show")?;
    let store = context.store().await?;
    let jobs = if args.select.only_ids() {
        which.ids.clone()
    } else {
        store.select(&which).await?.into_iter().map(|(id, _)| id).collect()
    };
    if jobs.is_empty() {
        return Err(failure(Exit::Failed, "no job fits these selectors"));
    }
    let mut missing = Vec::new();
    for (at, id) in jobs.iter().enumerate() {
        match store.detail(*id).await? {
            Some(detail) => print(args, &store, detail, at > 0, context).await?,
            None => missing.push(*id),
        }
    }
    if missing.is_empty() {
        return Ok(Exit::Ok);
    }
    Err(failure(Exit::Failed, no_such(&missing)))
}

async fn print(
    args: &ShowArgs,
    store: &Store,
    mut detail: JobDetail,
    another: bool,
    context: &Context,
) -> anyhow::Result<()> {
    let finished = JobState::parse(&detail.state).is_some_and(JobState::is_finished);
    if !finished {
        // What an earlier life of the job answered is history.
        (detail.text, detail.response, detail.stop_reason) = (None, None, None);
    }
    if args.text {
        let Some(text) = detail.text else { return Err(no_answer(&detail)) };
        let text = if context.screen.terminal { escape::text(&text) } else { text.as_str().into() };
        return output::line(&text);
    }
    if context.wants_json() {
        return output::json_lines(&context.screen, &[detail]);
    }
    let model = match &detail.model {
        Some(model) => Some(model.clone()),
        None => store.attempts(JobId(detail.id)).await?.pop().map(|attempt| attempt.model),
    };
    if another {
        output::line("")?;
    }
    output::lines(&page(&detail, model, context.now(), &context.screen))
}

/// Why there is no text: somebody may be about to write it into a file.
fn no_answer(job: &JobDetail) -> anyhow::Error {
    let (id, state) = (job.id, &job.state);
    match JobState::parse(state) {
        Some(JobState::Failed | JobState::Cancelled) => {
            let why = error_of(job.error_class.as_deref(), job.error.as_deref());
            failure(Exit::Failed, format!("job {id} {state}, it has no answer: {why}"))
        }
        _ => failure(Exit::Unfinished, format!("job {id} is {state}: it has no answer yet")),
    }
}

fn page(job: &JobDetail, model: Option<String>, now: Timestamp, screen: &Screen) -> Vec<String> {
    let mut page = Page { screen, lines: Vec::new() };
    let title = Line::default()
        .and(Tone::Strong, format!("job {}", job.id))
        .and(Tone::Plain, "  ")
        .and(state_tone(&job.state), job.state.clone());
    page.lines.push(title.render(screen));
    page.field("queue", Some(queue_of(job)));
    page.field("batch", job.batch.clone());
    page.field("key", job.key.clone());
    page.field("model", model);
    page.field("max_tokens", max_tokens_of(job));
    page.field("created", Some(moment(job.created_at, now)));
    page.field("run at", job.run_at.map(|at| moment(at, now)));
    page.field("expires", job.expires_at.map(|at| moment(at, now)));
    page.field("next try", job.next_attempt_at.map(|at| moment(at, now)));
    page.field("finished", job.finished_at.map(|at| moment(at, now)));
    page.field("attempts", Some(attempts_of(job)));
    page.field("cost", job.cost_usd.filter(|_| job.attempts > 0).map(cost));
    page.field("metadata", job.metadata.clone());
    if job.cancel_requested > 0 && job.finished_at.is_none() {
        page.field("cancel", Some("asked for".to_owned()));
    }
    let error = error_of(job.error_class.as_deref(), job.error.as_deref());
    if !error.is_empty() {
        page.toned("error", Tone::Bad, &error);
    }
    if let Some(reason) = job.stop_reason.as_deref() {
        page.toned("stopped", tone_of(reason), &stop_words(reason, job.id));
    }
    page.text("system", job.system.as_deref());
    page.text("prompt", job.prompt.as_deref());
    page.text("request", job.request.as_deref());
    page.text("answer", job.text.as_deref());
    page.lines
}

fn queue_of(job: &JobDetail) -> String {
    if job.priority == 0 {
        return job.queue.clone();
    }
    format!("{}, priority {}", job.queue, job.priority)
}

/// That of its row, and what a person asked instead.
fn max_tokens_of(job: &JobDetail) -> Option<String> {
    match (job.max_tokens, job.retry_max_tokens) {
        (own, Some(asked)) => {
            let own = own.map(|own| format!(", {} at first", format::count(own)));
            Some(format!("{} by retry{}", format::count(asked), own.unwrap_or_default()))
        }
        (own, None) => own.map(format::count),
    }
}

fn tone_of(stop_reason: &str) -> Tone {
    match stop_reason {
        "end_turn" | "stop_sequence" => Tone::Plain,
        _ => Tone::Warn,
    }
}

/// Why the answer stopped, and what a person may want to do about it.
fn stop_words(reason: &str, job: i64) -> String {
    match reason {
        "max_tokens" => format!("{reason}: cut off; claudeq retry {job} --max-tokens N"),
        "model_context_window_exceeded" => format!("{reason}: cut off, the context is full"),
        "tool_use" => format!("{reason}: the model calls a tool of yours; see .response.content"),
        "pause_turn" => format!("{reason}: the turn was not gone on with to its end"),
        _ => reason.to_owned(),
    }
}

fn attempts_of(job: &JobDetail) -> String {
    let most = job.max_attempts.map(|most| format!(" of {most}")).unwrap_or_default();
    if job.attempts == 0 {
        return format!("0{most}");
    }
    format!("{}{most}   claudeq attempts {}", job.attempts, job.id)
}

fn cost(usd: f64) -> String {
    // Below 2^53 nano-dollars, which an f64 holds.
    #[expect(clippy::cast_possible_truncation, reason = "see above")]
    let nanousd = (usd * 1e9).round() as i64;
    format::usd(nanousd)
}

/// `2026-08-31 02:41, 3 m ago`.
fn moment(at: i64, now: Timestamp) -> String {
    let clock = calendar::local_clock(Timestamp(at), now);
    if at > now.0 {
        format!("{clock}, in {}", format::span(at - now.0))
    } else {
        format!("{clock}, {} ago", format::span(now.0 - at))
    }
}

struct Page<'a> {
    screen: &'a Screen,
    lines: Vec<String>,
}

impl Page<'_> {
    fn field(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.toned(name, Tone::Plain, &value);
        }
    }

    fn toned(&mut self, name: &str, tone: Tone, value: &str) {
        let line = Line::default()
            .and(Tone::Faint, format!("  {name}"))
            .pad_to(INDENT)
            .and(Tone::Plain, "  ")
            .and(tone, value);
        self.lines.push(line.render(self.screen));
    }

    /// A block of text, cut where it gets long.
    fn text(&mut self, name: &str, text: Option<&str>) {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return;
        };
        self.lines.push(String::new());
        self.lines.push(Line::default().and(Tone::Faint, format!("  {name}")).render(self.screen));
        let all = text.lines().count();
        let columns = self.screen.width - 4;
        let wrapped = text.lines().flat_map(|line| wrap(&escape::line(line), columns));
        let shown: Vec<String> = wrapped.take(TEXT_LINES + 1).collect();
        let cut = shown.len() > TEXT_LINES;
        let shown = shown.into_iter().take(TEXT_LINES);
        self.lines.extend(shown.map(|line| format!("    {line}").trim_end().to_owned()));
        if cut {
            let more = format!(
                "    … cut; the whole of it ({} lines) with --json",
                format::count(i64::try_from(all).unwrap_or(0))
            );
            self.lines.push(Line::default().and(Tone::Faint, more).render(self.screen));
        }
    }
}
