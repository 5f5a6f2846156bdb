//! Rows of `jobs` on their way in, all of them as text: SQLite converts and checks them as it
//! would a producer's.

use std::borrow::Cow;
use std::ops::Range;

/// A column of `jobs` that a producer may give.
///
/// In the order in which a group of rows has them, the usual ones first: a row is read by the
/// place of its values, and ends with the last one that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as the contract describes them")]
pub enum Column {
    Prompt,
    Request,
    Key,
    System,
    Model,
    MaxTokens,
    Queue,
    Priority,
    Batch,
    RunAt,
    ExpiresAt,
    MaxAttempts,
    Metadata,
    Id,
    CreatedAt,
    CancelRequested,
}

impl Column {
    /// All of them.
    pub const ALL: [Column; 16] = [
        Column::Prompt,
        Column::Request,
        Column::Key,
        Column::System,
        Column::Model,
        Column::MaxTokens,
        Column::Queue,
        Column::Priority,
        Column::Batch,
        Column::RunAt,
        Column::ExpiresAt,
        Column::MaxAttempts,
        Column::Metadata,
        Column::Id,
        Column::CreatedAt,
        Column::CancelRequested,
    ];

    /// Its name in the schema.
    pub fn name(self) -> &'static str {
        match self {
            Column::Prompt => "prompt",
            Column::Request => "request",
            Column::Key => "key",
            Column::System => "system",
            Column::Model => "model",
            Column::MaxTokens => "max_tokens",
            Column::Queue => "queue",
            Column::Priority => "priority",
            Column::Batch => "batch",
            Column::RunAt => "run_at",
            Column::ExpiresAt => "expires_at",
            Column::MaxAttempts => "max_attempts",
            Column::Metadata => "metadata",
            Column::Id => "id",
            Column::CreatedAt => "created_at",
            Column::CancelRequested => "cancel_requested",
        }
    }

    /// The column of that name.
    pub fn parse(name: &str) -> Option<Column> {
        Column::ALL.into_iter().find(|column| column.name() == name)
    }
}

/// One row; what is left out has the value of [`ImportRule::defaults`](super::ImportRule), then
/// the schema's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncomingRow<'a>([Option<Cow<'a, str>>; Column::ALL.len()]);

impl<'a> IncomingRow<'a> {
    /// Gives a value.
    pub fn set(&mut self, column: Column, value: impl Into<Cow<'a, str>>) {
        self.0[column as usize] = Some(value.into());
    }

    /// What was given.
    pub fn get(&self, column: Column) -> Option<&str> {
        self.0[column as usize].as_deref()
    }
}

/// Rows that go in together, as a JSON array for `json_each`.
#[derive(Clone, Debug, Default)]
pub struct Incoming {
    json: String,
    ends: Vec<usize>,
}

impl Incoming {
    /// Adds a row.
    pub fn push(&mut self, row: &IncomingRow<'_>) {
        self.json.push('[');
        let given = row.0.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        for (at, value) in row.0[..given].iter().enumerate() {
            if at > 0 {
                self.json.push(',');
            }
            match value {
                Some(text) => push_text(&mut self.json, text),
                None => self.json.push_str("null"),
            }
        }
        self.json.push(']');
        self.ends.push(self.json.len());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How much of it there is.
    pub fn bytes(&self) -> usize {
        self.json.len()
    }

    /// Some of the rows as a JSON array.
    pub(super) fn array(&self, rows: impl ExactSizeIterator<Item = usize>) -> String {
        // Nearly always all of them, with a comma after each.
        let mut array = String::with_capacity(self.json.len() + rows.len() + 2);
        array.push('[');
        for (count, row) in rows.enumerate() {
            if count > 0 {
                array.push(',');
            }
            array.push_str(&self.json[self.span(row)]);
        }
        array.push(']');
        array
    }

    fn span(&self, row: usize) -> Range<usize> {
        let begin = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        begin..self.ends[row]
    }
}

fn push_text(json: &mut String, text: &str) {
    let special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    if text.bytes().any(special) {
        json.push_str(&serde_json::Value::from(text).to_string());
    } else {
        json.push('"');
        json.push_str(text);
        json.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_where_they_say() {
        for (at, column) in Column::ALL.into_iter().enumerate() {
            assert_eq!(column as usize, at);
            assert_eq!(Column::parse(column.name()), Some(column));
        }
        assert_eq!(Column::parse("text"), None);
    }

    #[test]
    fn a_row_ends_with_its_last_value() {
        let mut rows = Incoming::default();
        let mut row = IncomingRow::default();
        row.set(Column::Prompt, "say \"hi\"\n\u{0}ü");
        rows.push(&row);
        row.set(Column::Key, "k");
        rows.push(&row);
        rows.push(&IncomingRow::default());
        assert_eq!(rows.len(), 3);
        let array = |rows: &Incoming, some: &[usize]| rows.array(some.iter().copied());
        assert_eq!(array(&rows, &[]), "[]");
        assert_eq!(array(&rows, &[0]), r#"[["say \"hi\"\n\u0000ü"]]"#);
        assert_eq!(array(&rows, &[2, 1]), r#"[[],["say \"hi\"\n\u0000ü",null,"k"]]"#);
    }
}
