//! What the other end of a stream can show: width, colours, glyphs.

use crate::cli::environment::Environment;
use std::borrow::Cow;
use std::io::IsTerminal;

/// Columns where nobody says how many there are.
const WIDTH_IN_PIPE: usize = 100;
/// Narrower than this nothing is laid out.
const WIDTH_LEAST: usize = 40;
const WIDTH_MOST: usize = 200;

/// A stream's other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Whether a person looks.
    pub(crate) terminal: bool,
    /// Columns.
    pub(crate) width: usize,
    /// Rows, where they are known.
    pub(crate) rows: Option<usize>,
    colour: bool,
    unicode: bool,
}

/// What a piece of text means; the screen decides what that looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it is.
    Plain,
    /// What the eye should find.
    Strong,
    /// Secondary.
    Faint,
    /// All is well.
    Good,
    /// Under way.
    Active,
    /// Look here.
    Warn,
    /// Something is lost or wrong.
    Bad,
}

/// Characters that an ASCII screen does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Glyphs {
    unicode: bool,
    /// A part is missing here.
    pub(crate) more: &'static str,
    /// Done, its head, and still to do, of a progress bar.
    pub(crate) progress: [&'static str; 3],
    /// Used and free, of a level.
    pub(crate) level: [&'static str; 2],
}

impl Screen {
    /// Standard output.
    pub(crate) fn stdout(environment: &Environment) -> Screen {
        let stdout = std::io::stdout();
        let size = rustix::termios::tcgetwinsize(&stdout).ok();
        Screen::of(environment, stdout.is_terminal(), size)
    }

    /// Standard error.
    pub(crate) fn stderr(environment: &Environment) -> Screen {
        let stderr = std::io::stderr();
        let size = rustix::termios::tcgetwinsize(&stderr).ok();
        Screen::of(environment, stderr.is_terminal(), size)
    }

    fn of(
        environment: &Environment,
        terminal: bool,
        size: Option<rustix::termios::Winsize>,
    ) -> Screen {
        let size = size.filter(|size| terminal && size.ws_col > 0);
        let width = environment
            .columns
            .or(size.map(|size| usize::from(size.ws_col)))
            .unwrap_or(if terminal { 80 } else { WIDTH_IN_PIPE });
        Screen {
            terminal,
            width: width.clamp(WIDTH_LEAST, WIDTH_MOST),
            rows: size.map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0),
            colour: terminal && !environment.no_color && !environment.dumb_terminal,
            unicode: environment.utf8,
        }
    }

    /// A pipe of that width, for tests.
    #[cfg(test)]
    pub(crate) fn plain(width: usize) -> Screen {
        Screen { terminal: false, width, rows: None, colour: false, unicode: true }
    }

    /// The same in ASCII, for tests.
    #[cfg(test)]
    pub(crate) fn ascii(width: usize) -> Screen {
        Screen { unicode: false, ..Screen::plain(width) }
    }

    /// The same with colours, for tests.
    #[cfg(test)]
    pub(crate) fn coloured(width: usize) -> Screen {
        Screen { colour: true, terminal: true, ..Screen::plain(width) }
    }

    /// The same, no wider than that.
    pub(crate) fn at_most(&self, width: usize) -> Screen {
        Screen { width: self.width.min(width), ..*self }
    }

    /// The same, where no line is too long.
    pub(crate) fn uncut(&self) -> Screen {
        Screen { width: usize::MAX, ..*self }
    }

    /// Whether lines may be drawn over.
    pub(crate) fn can_redraw(&self, environment: &Environment) -> bool {
        self.terminal && !environment.dumb_terminal
    }

    /// The characters it has.
    pub(crate) fn glyphs(&self) -> Glyphs {
        if self.unicode {
            Glyphs {
                unicode: true, more: "…", progress: ["━", "╸", "─"], level: ["█", "░"]
            }
        } else {
            Glyphs { unicode: false, more: "...", progress: ["=", ">", "-"], level: ["#", "."] }
        }
    }

    /// The text in its tone.
    pub(crate) fn paint<'a>(&self, tone: Tone, text: &'a str) -> Cow<'a, str> {
        let code = match tone {
            Tone::Plain => return Cow::Borrowed(text),
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Active => "36",
            Tone::Warn => "33",
            Tone::Bad => "31",
        };
        if self.colour && !text.is_empty() {
            Cow::Owned(format!("\u{1b}[{code}m{text}\u{1b}[0m"))
        } else {
            Cow::Borrowed(text)
        }
    }
}

impl Glyphs {
    /// Our own signs in what the screen has; other people's characters stay.
    pub(crate) fn translate<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.unicode || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '●' => out.push('*'),
                '○' => out.push('o'),
                '·' => out.push('|'),
                '≈' => out.push('~'),
                '…' => out.push_str("..."),
                '–' => out.push('-'),
                '✓' => out.push('+'),
                '✗' => out.push('x'),
                c => out.push(c),
            }
        }
        Cow::Owned(out)
    }
}
