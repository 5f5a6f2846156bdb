//! A result as a line to look at.

use crate::cli::list::{error_of, state_tone};
use crate::cli::render::{Line, Tone};
use crate::store::ResultRow;

/// Where the state begins, and what follows it.
const STATE_AT: usize = 10;
const KEY_AT: usize = 21;

/// `        17  succeeded  invoice-17  Paris is the capital of France.`
pub(super) fn line(row: &ResultRow) -> Line {
    let mut line = Line::plain(row.id.to_string()).align_right(STATE_AT - 2);
    line = line.and(Tone::Plain, "  ").and(state_tone(&row.state), row.state.clone());
    line = line.pad_to(KEY_AT);
    if let Some(key) = &row.key {
        line.push(Tone::Strong, key.clone());
        line.push(Tone::Plain, "  ");
    }
    if row.state != "succeeded" {
        let error = error_of(row.error_class.as_deref(), row.error.as_deref());
        return line.and(Tone::Bad, error);
    }
    let text = row.text.as_deref().unwrap_or_default();
    match row.stop_reason.as_deref() {
        Some("end_turn" | "stop_sequence") | None => {}
        Some(reason) => line.push(Tone::Warn, format!("({reason}) ")),
    }
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.and(Tone::Plain, first.trim())
}

/// Why a result has no text, in a word.
pub(super) fn why(row: &ResultRow) -> String {
    let word = row.error_class.as_ref().or(row.stop_reason.as_ref()).unwrap_or(&row.state);
    word.clone()
}
