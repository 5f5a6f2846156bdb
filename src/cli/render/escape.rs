//! What came from a job or the provider, made harmless for a terminal.
//!
//! Invariant: after [`line()`] and [`text`] nothing is left that moves a cursor, colours, links,
//! reorders or hides text; after [`line()`] it is a single line.

use crate::telemetry::is_unsafe;
use std::borrow::Cow;
use std::fmt::Write;

/// One line: every control, bidirectional and invisible character as a visible escape.
pub(crate) fn line(raw: &str) -> Cow<'_, str> {
    replaced(raw, |c| is_unsafe(c).then(|| visible(c)))
}

/// Text of several lines: as [`line()`], but line feeds and tabs stay.
pub(crate) fn text(raw: &str) -> Cow<'_, str> {
    replaced(raw, |c| (is_unsafe(c) && c != '\n' && c != '\t').then(|| visible(c)))
}

/// A JSON document for a terminal: the same document, unsafe characters as `\u` escapes.
///
/// Valid JSON has such characters only inside strings, but for line feeds between its tokens.
pub(crate) fn json(raw: &str) -> Cow<'_, str> {
    replaced(raw, |c| match c {
        '\n' | '\r' | '\t' => Some(" ".to_owned()),
        c if is_unsafe(c) => Some(json_escape(c)),
        _ => None,
    })
}

/// A JSON document on one line: line feeds between its tokens become spaces.
pub(crate) fn json_line(raw: &str) -> Cow<'_, str> {
    replaced(raw, |c| matches!(c, '\n' | '\r').then(|| " ".to_owned()))
}

fn replaced(raw: &str, by: impl Fn(char) -> Option<String>) -> Cow<'_, str> {
    let Some(first) = raw.char_indices().find_map(|(at, c)| by(c).map(|_| at)) else {
        return Cow::Borrowed(raw);
    };
    let mut out = String::with_capacity(raw.len() + 16);
    out.push_str(&raw[..first]);
    for c in raw[first..].chars() {
        match by(c) {
            Some(other) => out.push_str(&other),
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn visible(c: char) -> String {
    match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        c if u32::from(c) <= 0xff => format!("\\x{:02x}", u32::from(c)),
        c => format!("\\u{{{:x}}}", u32::from(c)),
    }
}

fn json_escape(c: char) -> String {
    let mut units = [0_u16; 2];
    let mut out = String::new();
    for unit in c.encode_utf16(&mut units) {
        // Writing to a string never fails.
        let _ = write!(out, "\\u{unit:04x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_text_is_left_alone() {
        for harmless in ["", "Say hi", "Grüße, 你好, 🎉", "a\\nb"] {
            assert!(matches!(line(harmless), Cow::Borrowed(same) if same == harmless));
        }
        assert!(matches!(text("two\nlines\tand a tab"), Cow::Borrowed(_)));
    }

    #[test]
    fn hostile_text_becomes_visible() {
        for (hostile, shown) in [
            ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
            ("\u{1b}[2Jgone", "\\x1b[2Jgone"),
            ("\u{1b}]8;;http://x\u{7}link", "\\x1b]8;;http://x\\x07link"),
            ("\u{9b}31mred", "\\x9b31mred"),
            ("\u{7f}\u{0}", "\\x7f\\x00"),
            ("\u{202e}txt.exe\u{2066}", "\\u{202e}txt.exe\\u{2066}"),
            ("pay\u{200b}pal\u{feff}", "pay\\u{200b}pal\\u{feff}"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(line(hostile), shown);
        }
        assert_eq!(text("a\nb\u{1b}c\r\n"), "a\nb\\x1bc\\r\n");
    }

    #[test]
    fn json_stays_the_same_document() {
        let raw = "{\"a\": \"\u{202e}\u{9b}\u{e0041}\u{7f} ü\",\r\n \"b\": 1}";
        let shown = json(raw);
        assert!(!shown.chars().any(is_unsafe), "{shown}");
        let (one, other): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(raw).unwrap(), serde_json::from_str(&shown).unwrap());
        assert_eq!(one, other);
        assert_eq!(json_line("{\n \"b\": 1}"), "{  \"b\": 1}");
    }
}
