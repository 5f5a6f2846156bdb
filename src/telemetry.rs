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
        let code = u32::from(c);
        let invisible =
            matches!(code, 0x061c | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff);
        if c.is_control() || invisible {
            // Writing to a string never fails.
            let _ = write!(out, "\\u{code:04x}");
        } else {
            out.push(c);
        }
    }
    out.push_str(end);
    out
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn nothing_forges_a_line() {
        let forged = "error=bad\nINFO all is well\u{1b}[2J\u{202e}\n";
        assert_eq!(harmless(forged), "error=bad\\u000aINFO all is well\\u001b[2J\\u202e\n");
    }
}
