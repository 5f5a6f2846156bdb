//! Long lines on several rows.

use super::line::{fitting, width};

/// Breaks a line at its spaces, and a word only where it is longer than a row.
pub(crate) fn wrap(line: &str, columns: usize) -> Vec<String> {
    // Two columns hold any character.
    let columns = columns.max(2);
    let mut rows = vec![String::new()];
    for word in line.split_inclusive(' ') {
        let mut word = word;
        // Measured once: a word may be a whole file in base64.
        let mut wide = width(word.trim_end());
        let is_begun = rows.last().is_some_and(|row| !row.is_empty());
        let used = rows.last().map_or(0, |row| width(row));
        if is_begun && used + wide > columns {
            rows.push(String::new());
        }
        while wide > columns {
            let (head, rest) = word.split_at(fitting(word, columns).len());
            push(&mut rows, head);
            rows.push(String::new());
            wide -= width(head);
            word = rest;
        }
        push(&mut rows, word);
    }
    for row in &mut rows {
        row.truncate(row.trim_end().len());
    }
    rows
}

fn push(rows: &mut [String], text: &str) {
    if let Some(row) = rows.last_mut() {
        row.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_wrapped_at_spaces() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("    indented code", 12), ["    indented", "code"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn long_words_are_broken() {
        assert_eq!(wrap("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrap("你好你好", 5), ["你好", "你好"]);
        assert_eq!(wrap("你好", 0), ["你", "好"]);
        assert_eq!(wrap("a abcde  f", 2), ["a", "ab", "cd", "e", "f"]);
    }
}
