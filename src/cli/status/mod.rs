//! `claudeq status`: what is going on, in one screen.
//!
//! Invariant: it reads the file itself, so it works with the daemon down.

mod json;
mod limits;
mod money;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use super::context::Context;
use super::exit::{self, Exit, failure};
use super::output;
use super::render::{Line, Screen, format};
use crate::clock::calendar;
use crate::config::Config;
use crate::store::Store;
use clap::Args;
pub(super) use screen::held_back_by;
use std::io::Write;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use view::View;

/// Between two looks of `--watch`.
const EVERY: Duration = Duration::from_secs(1);

/// A larger file is not looked through for damage: nobody waits longer for a status.
const CHECKED_BYTES_MAX: u64 = 32 << 20;

/// What is going on, in one screen; works with the daemon down
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq status --watch\n  \
    claudeq status --json | jq .counts.failed")]
pub(crate) struct StatusArgs {
    /// Look again every second: in place on a terminal, a line each in a pipe; Ctrl-C ends it
    #[arg(long, short)]
    watch: bool,
}

pub(crate) async fn run(args: &StatusArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let store = Store::open(&config.database).await?;
    if args.watch {
        return watch(&store, &config, context).await;
    }
    let view = View::read(&store, &config, context.now()).await?;
    if context.global.json {
        output::json_lines(&context.screen, &[json::value(&view)])?;
    } else {
        output::lines(&screen::lines(&view, &context.screen))?;
    }
    // The numbers lie in few of the pages. While a daemon runs, it notices itself.
    if !view.daemon.running && view.bytes <= CHECKED_BYTES_MAX && !store.is_sound().await? {
        return Err(failure(Exit::BadInput, exit::damaged(&config.database)));
    }
    Ok(Exit::Ok)
}

async fn watch(store: &Store, config: &Config, context: &Context) -> anyhow::Result<Exit> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    if context.global.json || !context.screen.can_redraw(&context.environment) {
        loop {
            let view = View::read(store, config, context.now()).await?;
            if context.global.json {
                output::json_lines(&context.screen, &[json::value(&view)])?;
            } else {
                output::line(&one_line(&view, &context.screen))?;
            }
            if ended(&mut interrupt, &mut terminate).await {
                return Ok(Exit::Ok);
            }
        }
    }
    let mut drawing = Drawing::default();
    loop {
        let view = View::read(store, config, context.now()).await?;
        // The window may have been resized.
        let screen = Screen::stdout(&context.environment);
        drawing.draw(screen::lines(&view, &screen), &screen)?;
        if ended(&mut interrupt, &mut terminate).await {
            return Ok(Exit::Ok);
        }
    }
}

/// Waits for the next look; true when somebody ended it.
async fn ended(interrupt: &mut Signal, terminate: &mut Signal) -> bool {
    tokio::select! {
        () = tokio::time::sleep(EVERY) => false,
        _ = interrupt.recv() => true,
        _ = terminate.recv() => true,
    }
}

/// A screen drawn over the last one; the cursor is hidden until it is dropped.
#[derive(Default)]
struct Drawing {
    rows: usize,
    drawn: bool,
}

impl Drawing {
    fn draw(&mut self, mut lines: Vec<String>, screen: &Screen) -> anyhow::Result<()> {
        // The last row stays free for the cursor; lines that scrolled away cannot be redrawn.
        lines.truncate(screen.rows.map_or(usize::MAX, |rows| rows.saturating_sub(1)));
        let mut out = String::new();
        if !self.drawn {
            out.push_str("\u{1b}[?25l");
        }
        if self.rows > 0 {
            out.push_str(&format!("\u{1b}[{}A", self.rows));
        }
        out.push('\r');
        for line in &lines {
            out.push_str(line);
            out.push_str("\u{1b}[K\n");
        }
        out.push_str("\u{1b}[J");
        (self.rows, self.drawn) = (lines.len(), true);
        output::raw(&out)
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        if self.drawn {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(b"\x1b[?25h");
            let _ = out.flush();
        }
    }
}

/// The screen as it changes, for commands that have a daemon of their own.
pub(crate) struct Live {
    drawing: Drawing,
    line_every: u32,
    looks: u32,
}

impl Live {
    /// Where nothing can be redrawn, a line at every `line_every`th look.
    pub(crate) fn new(line_every: u32) -> Live {
        Live { drawing: Drawing::default(), line_every, looks: 0 }
    }

    /// Draws over what it drew before.
    pub(crate) async fn show(
        &mut self,
        store: &Store,
        config: &Config,
        context: &Context,
    ) -> anyhow::Result<()> {
        let redraws = context.screen.can_redraw(&context.environment);
        self.looks += 1;
        if !redraws && !self.looks.is_multiple_of(self.line_every) {
            return Ok(());
        }
        let view = View::read(store, config, context.now()).await?;
        if redraws {
            let screen = Screen::stdout(&context.environment);
            return self.drawing.draw(screen::lines(&view, &screen), &screen);
        }
        output::line(&one_line(&view, &context.screen))
    }

    /// What was drawn stays; the next screen goes below.
    pub(crate) fn pause(&mut self) {
        self.drawing = Drawing::default();
    }
}

/// `02:41 running: 41,208 waiting · 64 running · 118,240 ok · 803 failed · 74 %`
fn one_line(view: &View, screen: &Screen) -> String {
    let counts = &view.counts;
    let number = |count: i64, what: &str| format!("{} {what}", format::count(count));
    let mut parts = vec![
        number(counts.queued, "waiting"),
        number(counts.running, "running"),
        number(counts.succeeded, "ok"),
        number(counts.failed, "failed"),
    ];
    for (count, what) in [(counts.cancelled, "cancelled"), (counts.held, "held")] {
        if count > 0 {
            parts.push(number(count, what));
        }
    }
    parts.push(format::percent(counts.finished(), counts.total()));
    let daemon = if view.daemon.running { "running" } else { "stopped" };
    let clock = calendar::rfc3339(view.now);
    // Whoever reads it later wants the end as well.
    Line::plain(format!("{clock} {daemon}: {}", parts.join(" · "))).render(&screen.uncut())
}
