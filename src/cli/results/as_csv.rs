//! Results as a table: a record each, quoted where it must be.

use crate::store::ResultRow;
use clap::ValueEnum;
use csv_core::{WriteResult, Writer};
use std::borrow::Cow;

/// A column of the view `results`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Column {
    Seq,
    Id,
    Key,
    Queue,
    Batch,
    State,
    Text,
    Response,
    StopReason,
    ErrorClass,
    Error,
    Attempts,
    Model,
    InputTokens,
    OutputTokens,
    CacheReadTokens,
    CacheWriteTokens,
    CostUsd,
    CreatedAt,
    FinishedAt,
    Metadata,
}

impl Column {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Its value; nothing for NULL.
    fn of(self, row: &ResultRow) -> Cow<'_, str> {
        let text = |text: &'_ Option<String>| text.as_deref().unwrap_or_default().to_owned();
        let number = |number: Option<i64>| number.map(|n| n.to_string()).unwrap_or_default();
        let owned = match self {
            Column::Text => return Cow::Borrowed(row.text.as_deref().unwrap_or_default()),
            Column::Response => {
                return Cow::Borrowed(row.response.as_ref().map_or("", |response| response.get()));
            }
            Column::Metadata => return Cow::Borrowed(row.metadata.as_deref().unwrap_or_default()),
            Column::Seq => row.seq.to_string(),
            Column::Id => row.id.to_string(),
            Column::Key => text(&row.key),
            Column::Queue => row.queue.clone(),
            Column::Batch => text(&row.batch),
            Column::State => row.state.clone(),
            Column::StopReason => text(&row.stop_reason),
            Column::ErrorClass => text(&row.error_class),
            Column::Error => text(&row.error),
            Column::Attempts => row.attempts.to_string(),
            Column::Model => text(&row.model),
            Column::InputTokens => number(row.input_tokens),
            Column::OutputTokens => number(row.output_tokens),
            Column::CacheReadTokens => number(row.cache_read_tokens),
            Column::CacheWriteTokens => number(row.cache_write_tokens),
            Column::CostUsd => row.cost_usd.map(|usd| usd.to_string()).unwrap_or_default(),
            Column::CreatedAt => row.created_at.to_string(),
            Column::FinishedAt => row.finished_at.to_string(),
        };
        Cow::Owned(owned)
    }
}

/// All but the whole message, which has the text once more.
pub(super) fn usual() -> Vec<Column> {
    let all = Column::value_variants().iter().copied();
    all.filter(|column| *column != Column::Response).collect()
}

/// The line with the names.
pub(super) fn head(columns: &[Column]) -> String {
    joined(columns.iter().map(|column| Cow::Owned(column.name())))
}

/// A result's line.
pub(super) fn record(row: &ResultRow, columns: &[Column]) -> String {
    joined(columns.iter().map(|column| column.of(row)))
}

fn joined<'a>(fields: impl Iterator<Item = Cow<'a, str>>) -> String {
    let mut writer = Writer::new();
    let mut out: Vec<u8> = Vec::new();
    for (at, field) in fields.enumerate() {
        if at > 0 {
            written(&mut out, 0, |_, room| {
                let (result, wrote) = writer.delimiter(room);
                (result, 0, wrote)
            });
        }
        written(&mut out, field.len(), |from, room| writer.field(&field.as_bytes()[from..], room));
    }
    written(&mut out, 0, |_, room| {
        let (result, wrote) = writer.terminator(room);
        (result, 0, wrote)
    });
    String::from_utf8(out).unwrap_or_default()
}

/// Lets the writer write until it is done, with more room each time.
fn written(
    out: &mut Vec<u8>,
    bytes: usize,
    mut write: impl FnMut(usize, &mut [u8]) -> (WriteResult, usize, usize),
) {
    let mut from = 0;
    loop {
        let end = out.len();
        out.resize(end + bytes - from + 64, 0);
        let (result, read, wrote) = write(from, &mut out[end..]);
        from += read;
        out.truncate(end + wrote);
        if result == WriteResult::InputEmpty {
            return;
        }
    }
}
