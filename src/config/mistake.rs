//! Mistakes in the file: where they are, in whose words, and without what is secret there.
//!
//! Invariant: no key is shown: it stands in the wrong place exactly when there is a mistake.

use super::ConfigError;
use super::raw::RawConfig;
use std::fmt;
use std::path::{Path, PathBuf};

/// As much of a long line as is shown, and how much of that before the place.
const SHOWN: usize = 160;
const BEFORE: usize = 80;

/// A mistake, and where it is.
#[derive(Debug)]
pub struct Mistake {
    file: PathBuf,
    message: String,
    /// Line and column from 1, and the line's text.
    place: Option<(usize, usize, String)>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        let Some((line, column, text)) = &self.place else {
            return write!(f, "{file}: {}", self.message);
        };
        writeln!(f, "{file}:{line}:{column}: {}", self.message)?;
        let skipped = if *column > SHOWN { column - BEFORE } else { 0 };
        let shown: String = text.chars().skip(skipped).take(SHOWN).collect();
        let number = line.to_string();
        writeln!(f, "  {number} | {shown}")?;
        let indent = " ".repeat(number.len() + 5 + (column - skipped).saturating_sub(1));
        write!(f, "{indent}^")
    }
}

/// One text and the name it goes by in errors.
pub(super) struct Source<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    pub(super) fn mistake(&self, message: impl Into<String>, offset: Option<usize>) -> ConfigError {
        let place = offset.map(|offset| {
            let before = &self.text[..self.text.floor_char_boundary(offset)];
            let line = before.matches('\n').count();
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            let text = self.text.lines().nth(line).unwrap_or("");
            (line + 1, column, discreet(text))
        });
        let message = without_keys(&message.into());
        ConfigError::Wrong(Mistake { file: self.file.to_owned(), message, place })
    }

    pub(super) fn parse(&self) -> Result<RawConfig, ConfigError> {
        toml::from_str(self.text).map_err(|error| {
            self.mistake(in_our_words(error.message()), error.span().map(|span| span.start))
        })
    }
}

/// The parser's message for who never heard of its types.
fn in_our_words(message: &str) -> String {
    let message = message.lines().map(str::trim).collect::<Vec<_>>().join("; ");
    let message = message
        .replace("missing field", "missing key")
        .replace(
            "invalid type: map, expected a sequence",
            "there may be several of these, so it is written in two pairs of brackets: [[…]]",
        )
        .replace("expected a sequence", "expected a list, such as [\"…\"]");
    match message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        Some((key, rest)) => unknown_key(key, rest),
        None => message,
    }
}

fn unknown_key(key: &str, rest: &str) -> String {
    if ["api_key", "key", "anthropic_api_key", "x-api-key"].contains(&&*key.to_lowercase()) {
        return format!(
            "unknown key `{key}`: the API key does not stand here; write it into a file that \
             only you can read, and name that as `api_key_file` in [provider]"
        );
    }
    let known = rest.split('`').skip(1).step_by(2);
    let near = known.map(|known| (distance(key, known), known)).min();
    match near {
        Some((steps, known)) if steps <= (key.len() / 4).max(1) => {
            format!("unknown key `{key}`; did you mean `{known}`?")
        }
        _ => format!("unknown key `{key}`{rest}"),
    }
}

/// Letters to add, drop or change to make one word of another.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, c) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, wanted) in other.iter().enumerate() {
            let changed = diagonal + usize::from(c != *wanted);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// The line without a value that may be secret, and as wide as its characters are many.
fn discreet(line: &str) -> String {
    let line = match line.split_once('=') {
        Some((key, _)) if is_secret(key) => format!("{key}= …"),
        _ => without_keys(line),
    };
    line.replace('\t', " ")
}

fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["key", "secret", "password", "auth", "proxy"].iter().any(|word| key.contains(word))
}

/// `sk-…` in place of what has the shape of a key.
fn without_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("sk-") {
        let (before, key) = rest.split_at(at);
        out.push_str(before);
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let is_word = before.chars().next_back().is_some_and(is_part);
        let end = key.find(|c: char| !is_part(c)).unwrap_or(key.len());
        out.push_str(if is_word { &key[..end] } else { "sk-…" });
        rest = &key[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_told_from_far_ones() {
        assert_eq!(distance("max_in_fligt", "max_in_flight"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("wieght", "weight"), 2);
    }

    #[test]
    fn what_looks_like_a_key_is_not_shown() {
        assert_eq!(without_keys("a \"sk-ant-api03_x\", sk-"), "a \"sk-…\", sk-…");
        assert_eq!(without_keys("task-force"), "task-force");
        assert_eq!(discreet("\tAPI_KEY = \"canary\""), " API_KEY = …");
        assert_eq!(discreet("max_tokens = 5"), "max_tokens = 5");
    }
}
