//! Standard output and standard error: data on the one, messages on the other.

use super::render::{Screen, escape};
use serde::Serialize;
use std::io::{self, Write};

/// Writes text as it is.
pub(crate) fn raw(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes lines that are ready for the screen.
pub(crate) fn lines<T: AsRef<str>>(lines: &[T]) -> anyhow::Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(line.as_ref());
        text.push('\n');
    }
    raw(&text)
}

/// Writes one line of text.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    lines(&[text])
}

/// Writes values as JSON lines, harmless where a person looks at them.
pub(crate) fn json_lines<T: Serialize>(screen: &Screen, values: &[T]) -> anyhow::Result<()> {
    let mut text = String::new();
    for value in values {
        let json = serde_json::to_string(value)?;
        let json = if screen.terminal { escape::json(&json) } else { escape::json_line(&json) };
        text.push_str(&json);
        text.push('\n');
    }
    raw(&text)
}

/// A message on standard error; several lines are allowed.
pub(crate) fn note(text: &str) {
    // Who cannot be told is not told.
    let _ = writeln!(io::stderr().lock(), "{}", escape::text(text));
}
