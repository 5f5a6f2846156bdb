//! The forms in which results are printed.

use super::{as_batch, as_csv, as_line};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, failure};
use crate::cli::output;
use crate::cli::render::{escape, format};
use crate::store::ResultRow;
use as_csv::Column;
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;

/// How results are printed.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ShapeArgs {
    /// How they are written [default: lines to look at on a terminal, else jsonl]
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with_all = ["json", "table"])]
    format: Option<Format>,
    /// The texts of the answers alone: --format text
    #[arg(long, conflicts_with_all = ["json", "table", "format"])]
    text: bool,
    /// Columns of csv, with commas [default: all but response]
    #[arg(
        long,
        value_enum,
        value_name = "COLUMN",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    columns: Vec<Column>,
    /// csv without its first line, to go on in a file
    #[arg(long)]
    no_header: bool,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// JSON lines with the columns of the view
    Jsonl,
    /// A table with a head line
    Csv,
    /// The texts of the answers, each ended by a line feed
    Text,
    /// As the Message Batches API writes results
    Batch,
}

enum Shape {
    Lines,
    Json,
    Csv(Vec<Column>),
    Text,
    Batch,
}

/// Prints results in one form.
pub(crate) struct Printer<'a> {
    context: &'a Context,
    shape: Shape,
    header: bool,
    /// Results printed.
    pub(crate) printed: u64,
    /// Where only texts are wanted: those without, by why.
    textless: BTreeMap<String, i64>,
}

impl Printer<'_> {
    pub(crate) fn new<'a>(args: &ShapeArgs, context: &'a Context) -> anyhow::Result<Printer<'a>> {
        let format = if args.text { Some(Format::Text) } else { args.format };
        if format != Some(Format::Csv) && (args.no_header || !args.columns.is_empty()) {
            let message = "--columns and --no-header go with --format csv";
            return Err(failure(Exit::Usage, message));
        }
        let shape = match format {
            Some(Format::Csv) if args.columns.is_empty() => Shape::Csv(as_csv::usual()),
            Some(Format::Csv) => Shape::Csv(args.columns.clone()),
            Some(Format::Text) => Shape::Text,
            Some(Format::Batch) => Shape::Batch,
            Some(Format::Jsonl) => Shape::Json,
            None if context.wants_json() => Shape::Json,
            None => Shape::Lines,
        };
        let header = !args.no_header;
        Ok(Printer { context, shape, header, printed: 0, textless: BTreeMap::new() })
    }

    pub(crate) fn is_text(&self) -> bool {
        matches!(self.shape, Shape::Text)
    }

    /// What stands before the first.
    pub(crate) fn begin(&self) -> anyhow::Result<()> {
        match &self.shape {
            Shape::Csv(columns) if self.header => output::raw(&as_csv::head(columns)),
            _ => Ok(()),
        }
    }

    pub(crate) fn print(&mut self, rows: &[ResultRow]) -> anyhow::Result<()> {
        self.printed += rows.len() as u64;
        let screen = &self.context.screen;
        match &self.shape {
            Shape::Json => output::json_lines(screen, rows),
            Shape::Batch => {
                let lines: Vec<_> = rows.iter().map(as_batch::Line::of).collect();
                output::json_lines(screen, &lines)
            }
            Shape::Lines => {
                let lines: Vec<String> =
                    rows.iter().map(|row| as_line::line(row).render(screen)).collect();
                output::lines(&lines)
            }
            Shape::Csv(columns) => {
                self.raw(&rows.iter().map(|row| as_csv::record(row, columns)).collect::<String>())
            }
            Shape::Text => {
                for row in rows.iter().filter(|row| row.text.as_ref().is_none_or(String::is_empty))
                {
                    *self.textless.entry(as_line::why(row)).or_default() += 1;
                }
                self.raw(&texts(rows))
            }
        }
    }

    /// Harmless where a person looks at it.
    fn raw(&self, text: &str) -> anyhow::Result<()> {
        if self.context.screen.terminal {
            return output::raw(&escape::text(text));
        }
        output::raw(text)
    }

    /// What should be known of them.
    pub(crate) fn end(&self) {
        let jobs = self.textless.values().sum();
        if jobs > 0 {
            let parts = self.textless.iter().map(|(why, n)| format!("{} {why}", format::count(*n)));
            let parts = parts.collect::<Vec<_>>().join(", ");
            let have = if jobs == 1 { "has" } else { "have" };
            output::note(&format!("{} {have} no text: {parts}", format::jobs(jobs)));
        }
    }
}

/// The answers' texts, each ended by a line feed.
fn texts(rows: &[ResultRow]) -> String {
    let mut out = String::new();
    for text in rows.iter().filter_map(|row| row.text.as_deref()) {
        out.push_str(text);
        out.push('\n');
    }
    out
}
