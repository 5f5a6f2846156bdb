//! `claudeq add`: one job, and with `--wait` its answer.

use super::context::{Context, busy};
use super::exit::{Exit, failure};
use super::job_args::JobArgs;
use super::output;
use super::render::escape;
use super::wait::{self, Ended, UntilArgs, Watched};
use crate::domain::job::{JobId, JobState};
use crate::domain::time::Timestamp;
use crate::store::{NewJob, Selector, Store};
use anyhow::Context as _;
use clap::{ArgGroup, Args};
use serde_json::json;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Standard input.
const STDIN: &str = "-";

/// Add a job
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("body").required(true),
    after_help = "Examples:\n  \
        claudeq add \"Say hi\"\n  \
        claudeq add --wait --model claude-haiku-4-5 \"Say hi\"\n  \
        git diff | claudeq add - --system \"Review this.\" --batch reviews\n  \
        claudeq add --file request.json --key invoice-17 --run-at 2h\n\n\
        Prints the job's id. A job with the same queue and key is added once.\n\
        With --wait: 0 answered, 1 failed or cancelled, 8 held, 69 no daemon runs."
)]
pub(crate) struct AddArgs {
    /// The user turn; - reads it from standard input (a line feed at the end is left out)
    #[arg(group = "body")]
    prompt: Option<String>,
    /// A Messages API body as JSON in place of a prompt; - is standard input
    #[arg(long, short, group = "body", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Wait for the answer and print its text
    #[arg(long, short)]
    wait: bool,
    #[command(flatten)]
    job: JobArgs,
    /// Your own id: the same queue and key are never added twice
    #[arg(long)]
    key: Option<String>,
    /// Text of your own, given back with the result
    #[arg(long, value_name = "TEXT")]
    metadata: Option<String>,
}

pub(crate) async fn run(args: &AddArgs, context: &Context) -> anyhow::Result<Exit> {
    let job = new_job(args, context.now())?;
    let store = context.store().await?;
    let id = store.add_job(&job).await.map_err(|error| busy(&store, error))?;
    if args.wait {
        return answer(&store, id, context).await;
    }
    if context.global.json {
        output::json_lines(&context.screen, &[json!({ "id": id })])?;
    } else {
        output::line(&id.to_string())?;
    }
    if context.screen.terminal && !store.holder().held {
        output::note("no daemon runs: it starts when `claudeq daemon` does");
    }
    Ok(Exit::Ok)
}

fn new_job(args: &AddArgs, now: Timestamp) -> anyhow::Result<NewJob> {
    let (prompt, request) = match (&args.prompt, &args.file) {
        (_, Some(path)) => (None, Some(request_from(path)?)),
        (Some(prompt), None) if prompt == STDIN => (Some(prompt_from_stdin()?), None),
        (prompt, None) => (prompt.clone(), None),
    };
    let values = args.job.values(now);
    Ok(NewJob {
        prompt,
        request,
        system: values.system,
        model: values.model,
        max_tokens: values.max_tokens,
        queue: Some(values.queue),
        batch: values.batch,
        key: args.key.clone(),
        priority: values.priority,
        run_at: values.run_at,
        expires_at: values.expires_at,
        max_attempts: values.max_attempts,
        metadata: args.metadata.clone(),
    })
}

fn prompt_from_stdin() -> anyhow::Result<String> {
    let mut text = read_text(Path::new(STDIN))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// A body from a file; refused here when it is no JSON object, before anything is inserted.
fn request_from(path: &Path) -> anyhow::Result<String> {
    let text = read_text(path)?;
    let name = name_of(path);
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
        let message = error.to_string();
        let what = message.split(" at line ").next().unwrap_or_default();
        let message = format!("{name}:{}:{}: no JSON: {what}", error.line(), error.column());
        failure(Exit::BadInput, message)
    })?;
    if !value.is_object() {
        let message =
            format!("{name}: a Messages API body is a JSON object, such as {{\"messages\": […]}}");
        return Err(failure(Exit::BadInput, message));
    }
    Ok(text)
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let name = name_of(path);
    let mut bytes = Vec::new();
    if path == Path::new(STDIN) {
        std::io::stdin().lock().read_to_end(&mut bytes)
    } else {
        std::fs::read(path).map(|read| {
            bytes = read;
            bytes.len()
        })
    }
    .with_context(|| format!("cannot read {name}"))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        failure(Exit::BadInput, format!("{name} is not UTF-8 text (byte {})", at + 1))
    })
}

fn name_of(path: &Path) -> String {
    if path == Path::new(STDIN) { "standard input".to_owned() } else { path.display().to_string() }
}

/// Waits for one job and prints what it answered.
async fn answer(store: &Store, id: JobId, context: &Context) -> anyhow::Result<Exit> {
    let which = Selector { ids: vec![id], ..Selector::default() };
    let until = UntilArgs::default();
    let watched = Watched { store, which: &which, until, pause: wait::PAUSE, talkative: false };
    match wait::until_still(&watched, context, async |_| Ok(())).await? {
        Ended::Still(counts) if counts.held > 0 => {
            output::note(&format!("claudeq: job {id} is held: claudeq show {id}"));
            return Ok(Exit::Unfinished);
        }
        Ended::Still(_) => {}
        Ended::NoDaemon(_) => {
            let message = format!(
                "job {id} is added, but no daemon runs: start it with `claudeq daemon`, then \
                 `claudeq wait {id}`"
            );
            return Err(failure(Exit::Unavailable, message));
        }
        Ended::TimeUp(_) | Ended::FailedFast(_) => return Ok(Exit::Unfinished),
        Ended::Interrupted => {
            output::note(&format!("job {id} goes on; see `claudeq show {id}`"));
            return Ok(Exit::Interrupted);
        }
    }
    let Some(detail) = store.detail(id).await? else {
        return Err(failure(Exit::Failed, format!("job {id} was deleted while it was waited for")));
    };
    if context.global.json {
        output::json_lines(&context.screen, &[&detail])?;
    }
    let text = detail.text.unwrap_or_default();
    if !context.global.json && !text.is_empty() {
        let text = if context.screen.terminal { escape::text(&text) } else { text.as_str().into() };
        output::line(&text)?;
    }
    if JobState::parse(&detail.state) == Some(JobState::Succeeded) {
        return Ok(Exit::Ok);
    }
    let class = detail.error_class.unwrap_or_else(|| detail.state.clone());
    let error = detail.error.map(|error| format!(": {error}")).unwrap_or_default();
    // One line, whatever the provider said.
    let message = format!("claudeq: job {id} {}: {class}{error}", detail.state);
    output::note(&escape::line(&message));
    Ok(Exit::Failed)
}
