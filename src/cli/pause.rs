//! `claudeq pause` and `claudeq resume`: no new calls, of one queue or of all.

use super::context::{Context, busy};
use super::exit::{Exit, failure};
use super::output;
use crate::domain::job::is_plain_name;
use crate::store::Selector;
use clap::Args;
use serde_json::json;

/// Stands for every queue.
const EVERY: &str = "*";

/// Start no new calls, of one queue or of all; calls in flight end
#[derive(Args, Debug)]
pub(crate) struct PauseArgs {
    /// The queue
    #[arg(value_name = "QUEUE", default_value = EVERY, hide_default_value = true)]
    queue: String,
}

/// End a pause, of one queue or all of them
#[derive(Args, Debug)]
pub(crate) struct ResumeArgs {
    /// The queue
    #[arg(value_name = "QUEUE", default_value = EVERY, hide_default_value = true)]
    queue: String,
}

pub(crate) async fn pause(args: &PauseArgs, context: &Context) -> anyhow::Result<Exit> {
    if args.queue != EVERY && !is_plain_name(&args.queue) {
        let message = format!(
            "no queue can be called {:?}: a name is 1 to 200 printable ASCII characters",
            args.queue
        );
        return Err(failure(Exit::BadInput, message));
    }
    let store = context.store().await?;
    let now = context.now();
    store.pause(&args.queue, now).await.map_err(|error| busy(&store, error))?;
    let what = name(&args.queue);
    if args.queue != EVERY {
        let which = Selector { queue: Some(args.queue.clone()), ..Selector::default() };
        if store.counts_among(&which).await?.total() == 0 {
            output::note(&format!("claudeq: there is no job in {what} so far"));
        }
    }
    say(
        context,
        &store.paused().await?,
        &format!("paused {what}: calls in flight end, no new ones start"),
    )
}

pub(crate) async fn resume(args: &ResumeArgs, context: &Context) -> anyhow::Result<Exit> {
    let store = context.store().await?;
    let queue = (args.queue != EVERY).then_some(args.queue.as_str());
    let was_paused = store.resume(queue).await.map_err(|error| busy(&store, error))?;
    let paused = store.paused().await?;
    let every = paused.iter().any(|queue| queue == EVERY);
    let sentence = match (was_paused, queue) {
        (_, Some(_)) if every => {
            "every queue is still paused: `claudeq resume` ends that".to_owned()
        }
        (true, Some(queue)) => format!("resumed {}", name(queue)),
        (true, None) => "resumed every queue".to_owned(),
        (false, Some(queue)) => format!("{} was not paused", name(queue)),
        (false, None) => "nothing was paused".to_owned(),
    };
    say(context, &paused, &sentence)
}

fn name(queue: &str) -> String {
    if queue == EVERY { "every queue".to_owned() } else { format!("queue {queue}") }
}

fn say(context: &Context, paused: &[String], sentence: &str) -> anyhow::Result<Exit> {
    if context.global.json {
        output::json_lines(&context.screen, &[json!({ "paused": paused })])?;
    } else {
        let sentence = super::render::escape::line(sentence);
        output::line(&sentence)?;
    }
    Ok(Exit::Ok)
}
