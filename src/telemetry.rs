//! The log: structured lines on standard error.
//!
//! Invariant: a log line is one line, and nothing in it moves a cursor or colours: what came from
//! a job or the provider cannot forge a line or speak to a terminal.

use std::fmt::Write as _;
use std::io::{self, Write};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends the log to standard error: `RUST_LOG` says how much, `info` when it says nothing.
///
/// A second call changes nothing.
pub fn start(format: Format) {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Harmless)
        .with_ansi(false)
        .with_target(false);
    // An error means that somebody has started it before.
    let _ = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Standard error without anything but visible characters and the line's end.
#[derive(Clone, Copy, Debug)]
struct Harmless;

impl<'a> MakeWriter<'a> for Harmless {
    type Writer = Harmless;

    fn make_writer(&'a self) -> Harmless {
        Harmless
    }
}

impl Write for Harmless {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The formatter hands over whole events, each with its line feed.
        let text = String::from_utf8_lossy(bytes);
        io::stderr().lock().write_all(harmless(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

fn harmless(event: &str) -> String {
    let (text, end) = event.strip_suffix('\n').map_or((event, ""), |text| (text, "\n"));
    let mut out = String::with_capacity(event.len());
    for c in text.chars() {
        if !is_unsafe(c) {
            out.push(c);
            continue;
        }
        // As JSON has it, so that a line of JSON stays one.
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string never fails.
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out.push_str(end);
    out
}

/// Control characters, and what is invisible or turns the direction of text around.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            u32::from(c),
            0x00ad | 0x034f | 0x061c | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x3164 | 0xfeff | 0xffa0
                | 0x180b..=0x180f
                | 0x200b..=0x200f
                | 0x2028..=0x202e
                | 0x2060..=0x206f
                | 0xfff0..=0xfffb
                | 0x1bca0..=0x1bca3
                | 0x1d173..=0x1d17a
                | 0xe0000..=0xe0fff
        )
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn nothing_forges_a_line() {
        let forged = "error=bad\nINFO all is well\u{1b}[2J\u{202e}\n";
        assert_eq!(harmless(forged), "error=bad\\u000aINFO all is well\\u001b[2J\\u202e\n");
    }

    #[test]
    fn nothing_is_hidden_in_a_line_of_json() {
        let hidden = "{\"error\":\"\u{e0041}\u{ad}\u{202e}\"}\n";
        let shown = harmless(hidden);
        assert_eq!(shown, "{\"error\":\"\\udb40\\udc41\\u00ad\\u202e\"}\n");
        let (one, other): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(hidden).unwrap(), serde_json::from_str(&shown).unwrap());
        assert_eq!(one, other);
    }
}
