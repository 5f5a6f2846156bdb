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
    for (at, c) in text.char_indices() {
        used += char_width(c);
        if used > columns {
            return &text[..at];
        }
    }
    text
}

/// Columns a text takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
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
        0xfe00..=0xfe0f | 0xfe20..=0xfe2f => 0,
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xac00..=0xd7a3 => 2,
        0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 => 2,
        0x1f300..=0x1f64f | 0x1f680..=0x1f6ff | 0x1f900..=0x1f9ff | 0x20000..=0x3fffd => 2,
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
        assert_eq!(cut("你好你好", 5, &Screen::plain(80)), "你好…");
    }

    #[test]
    fn pieces_are_escaped_before_they_are_coloured() {
        let line = Line::plain("a\u{1b}[31mb\nc");
        assert_eq!(line.render(&Screen::plain(80)), "a\\x1b[31mb\\nc");
    }
}
