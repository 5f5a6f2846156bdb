//! A line of styled pieces: its width is known before it is coloured.

use super::escape;
use super::screen::{Screen, Tone};

/// Text in pieces, each with a tone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pieces: Vec<(Tone, String)>,
}

impl Line {
    /// One plain piece.
    pub(crate) fn plain(text: impl Into<String>) -> Line {
        Line::default().and(Tone::Plain, text)
    }

    /// Adds a piece; what in it could harm a terminal is made visible.
    pub(crate) fn and(mut self, tone: Tone, text: impl Into<String>) -> Line {
        self.push(tone, text);
        self
    }

    /// As [`Line::and`].
    pub(crate) fn push(&mut self, tone: Tone, text: impl Into<String>) {
        let text = text.into();
        if !text.is_empty() {
            self.pieces.push((tone, escape::line(&text).into_owned()));
        }
    }

    /// Adds all of another line's pieces.
    pub(crate) fn append(&mut self, other: Line) {
        self.pieces.extend(other.pieces);
    }

    /// Columns it takes.
    pub(crate) fn width(&self) -> usize {
        self.pieces.iter().map(|(_, text)| width(text)).sum()
    }

    /// Spaces up to a column.
    pub(crate) fn pad_to(mut self, column: usize) -> Line {
        let missing = column.saturating_sub(self.width());
        self.push(Tone::Plain, " ".repeat(missing));
        self
    }

    /// Puts spaces before it, so that it ends at a column.
    pub(crate) fn align_right(self, column: usize) -> Line {
        let missing = column.saturating_sub(self.width());
        let mut line = Line::plain(" ".repeat(missing));
        line.append(self);
        line
    }

    /// As it goes to the terminal, cut to its width.
    pub(crate) fn render(&self, screen: &Screen) -> String {
        let mut left = screen.width;
        let cut = self.width() > screen.width;
        if cut {
            left = left.saturating_sub(width(screen.glyphs().more));
        }
        let mut out = String::new();
        for (tone, text) in &self.pieces {
            let text = screen.glyphs().translate(text);
            let fitting = fitting(&text, left);
            left -= width(fitting);
            out.push_str(&screen.paint(*tone, fitting));
            if fitting.len() < text.len() {
                break;
            }
        }
        if cut {
            out.push_str(screen.glyphs().more);
        }
        out.truncate(out.trim_end_matches(' ').len());
        out
    }
}

/// As much of the text's beginning as fits into that many columns.
pub(super) fn fitting(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (at, width) in widths(text) {
        used += width;
        if used > columns {
            return &text[..at];
        }
    }
    text
}

/// Columns a text takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    widths(text).map(|(_, width)| width).sum()
}

/// Where each character begins, and the columns it adds.
fn widths(text: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut before = 0;
    text.char_indices().map(move |(at, c)| {
        // The sign for "as a picture" makes the character before it a wide one.
        let width = if c == '\u{fe0f}' { usize::from(before == 1) } else { char_width(c) };
        before = if width == 0 { before } else { width };
        (at, width)
    })
}

/// Cut to a number of columns, with a mark where something is missing.
pub(crate) fn cut(text: &str, columns: usize, screen: &Screen) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mark = screen.glyphs().more;
    format!("{}{mark}", fitting(text, columns.saturating_sub(width(mark))))
}

/// The common blocks of double width and of combining marks; close enough for tables.
fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff | 0x20d0..=0x20ff => 0,
        0xfe00..=0xfe0e | 0xfe20..=0xfe2f => 0,
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xac00..=0xd7a3 => 2,
        0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 => 2,
        0xa960..=0xa97c | 0x16fe0..=0x18cff | 0x1aff0..=0x1b2ff | 0x20000..=0x3fffd => 2,
        // Pictures; those of one column in these blocks are rare.
        0x1f004 | 0x1f0cf | 0x1f18e | 0x1f191..=0x1f19a | 0x1f200..=0x1f64f => 2,
        0x1f680..=0x1f6ff | 0x1f7e0..=0x1f7eb | 0x1f90c..=0x1f9ff | 0x1fa70..=0x1faff => 2,
        0x231a | 0x231b | 0x2329 | 0x232a | 0x23e9..=0x23ec | 0x23f0 | 0x23f3 => 2,
        0x25fd | 0x25fe | 0x2614 | 0x2615 | 0x2648..=0x2653 | 0x267f | 0x2693 | 0x26a1 => 2,
        0x26aa | 0x26ab | 0x26bd | 0x26be | 0x26c4 | 0x26c5 | 0x26ce | 0x26d4 | 0x26ea => 2,
        0x26f2 | 0x26f3 | 0x26f5 | 0x26fa | 0x26fd | 0x2705 | 0x270a | 0x270b | 0x2728 => 2,
        0x274c | 0x274e | 0x2753..=0x2755 | 0x2757 | 0x2795..=0x2797 | 0x27b0 | 0x27bf => 2,
        0x2b1b | 0x2b1c | 0x2b50 | 0x2b55 => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_to_the_screen() {
        let line = Line::plain("0123456789").and(Tone::Bad, "abc");
        assert_eq!(line.render(&Screen::plain(13)), "0123456789abc");
        assert_eq!(line.render(&Screen::plain(12)), "0123456789a…");
        assert_eq!(line.render(&Screen::plain(5)), "0123…");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(width("你好"), 4);
        assert_eq!(width("e\u{301}"), 1);
        assert_eq!(width("⚡✅⭐🀄🫠🎉"), 12);
        // A heart is a sign of one column until it is asked for as a picture.
        assert_eq!((width("❤"), width("❤\u{fe0f}"), width("⚡\u{fe0f}")), (1, 2, 2));
        assert_eq!(fitting("❤\u{fe0f}", 1), "❤");
        assert_eq!(cut("你好你好", 5, &Screen::plain(80)), "你好…");
    }

    #[test]
    fn pieces_are_escaped_before_they_are_coloured() {
        let line = Line::plain("a\u{1b}[31mb\nc");
        assert_eq!(line.render(&Screen::plain(80)), "a\\x1b[31mb\\nc");
    }
}
