//! Rows of a file in any format, one after the other, each with its line.

use super::ImportArgs;
use super::input::{Format, Input};
use super::json_line::{self, FromMembers};
use super::lines::{BYTES_MAX, LineReader, TOO_LONG};
use super::table::{TableError, TableReader};
use super::template::{Template, place_of};
use crate::cli::exit::{Exit, failure};
use crate::store::{Column, IncomingRow};
use anyhow::Context as _;

/// The column of plain lines in a template.
const LINE: &str = "line";
const NUL: &str = "it has a NUL byte: is it text in UTF-8?";

/// A line that is no job, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    pub(super) line: u64,
    pub(super) why: String,
    /// Whether it would be good if a job were not there already.
    pub(super) is_duplicate: bool,
}

/// What comes next.
pub(super) enum Next {
    /// A row, which was handed over; it began on this line.
    Row(u64),
    Bad(BadLine),
    End,
}

/// Reads rows.
pub(super) struct RowReader {
    name: String,
    /// Lines up to this one are left out.
    skip: u64,
    source: Source,
}

enum Source {
    Json(LineReader, Option<FromMembers>),
    Lines(LineReader, Option<Template>),
    Table(TableReader, Plan),
}

/// What the fields of a table are for.
enum Plan {
    /// Each is a column of `jobs`.
    Columns(Vec<Column>),
    /// So many; a prompt is made of some of them, and one may be the key.
    Prompt { fields: usize, template: Template, key: Option<usize> },
}

impl RowReader {
    /// Reads the head of a table; all that is wrong with the options is known afterwards.
    pub(super) fn new(mut input: Input, args: &ImportArgs) -> anyhow::Result<RowReader> {
        let format = input.format(args.format, &args.file)?;
        let Input { name, bytes, .. } = input;
        let template = args.template.as_deref();
        if args.key_col.is_some() && format == Format::Lines {
            return Err(usage("--key-col is for jsonl, csv and tsv"));
        }
        if args.key_col.is_some() && template.is_none() {
            return Err(usage("--key-col goes with --template"));
        }
        let source = match format {
            Format::Jsonl => {
                let key = args.key_col.as_deref();
                let made = template.map(|text| FromMembers::new(text, key)).transpose();
                Source::Json(LineReader::new(bytes, BYTES_MAX), made.map_err(usage)?)
            }
            Format::Lines => {
                let columns = [LINE.to_owned()];
                let template = template.map(|text| Template::parse(text, &columns));
                Source::Lines(
                    LineReader::new(bytes, BYTES_MAX),
                    template.transpose().map_err(usage)?,
                )
            }
            Format::Csv | Format::Tsv => {
                let delimiter = if format == Format::Csv { b',' } else { b'\t' };
                let mut table = TableReader::new(bytes, delimiter, BYTES_MAX);
                let plan = plan(&mut table, &name, args)?;
                Source::Table(table, plan)
            }
        };
        Ok(RowReader { name, skip: args.skip_lines, source })
    }

    /// The last line that was read.
    pub(super) fn line(&self) -> u64 {
        match &self.source {
            Source::Json(lines, _) | Source::Lines(lines, _) => lines.number,
            Source::Table(table, _) => table.number,
        }
    }

    /// Bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        match &self.source {
            Source::Json(lines, _) | Source::Lines(lines, _) => lines.read,
            Source::Table(table, _) => table.read,
        }
    }

    /// Whether the next row may have to be waited for.
    pub(super) fn may_wait(&self) -> bool {
        match &self.source {
            Source::Json(lines, _) | Source::Lines(lines, _) => lines.may_wait(),
            Source::Table(table, _) => table.may_wait(),
        }
    }

    /// The next row, handed over. After an error there is nothing more.
    pub(super) fn next(&mut self, take: impl FnOnce(&IncomingRow<'_>)) -> anyhow::Result<Next> {
        let Some(line) = self.advance()? else { return Ok(Next::End) };
        let mut row = IncomingRow::default();
        let made = match &self.source {
            Source::Json(lines, made) => text_of(lines.line()).and_then(|text| match made {
                Some(made) => made.fill(text, &mut row),
                None => json_line::parse(text, &mut row),
            }),
            Source::Lines(lines, template) => {
                text_of(lines.line()).and_then(|text| plain(text, template.as_ref(), &mut row))
            }
            Source::Table(table, plan) => plan.fill(table, &mut row),
        };
        Ok(match made {
            Ok(()) => {
                take(&row);
                Next::Row(line)
            }
            Err(why) => Next::Bad(BadLine { line, why, is_duplicate: false }),
        })
    }

    /// Goes to the next line that counts; its number.
    fn advance(&mut self) -> anyhow::Result<Option<u64>> {
        let name = &self.name;
        loop {
            let (line, is_blank) = match &mut self.source {
                Source::Json(lines, _) | Source::Lines(lines, _) => {
                    if !lines.next().with_context(|| format!("cannot read {name}"))? {
                        return Ok(None);
                    }
                    let is_blank = |line: &[u8]| line.trim_ascii().is_empty();
                    (lines.number, lines.line().is_some_and(is_blank))
                }
                Source::Table(table, _) => {
                    match table.next().map_err(|error| broken(name, error))? {
                        Some(line) => (line, false),
                        None => return Ok(None),
                    }
                }
            };
            if line > self.skip && !is_blank {
                return Ok(Some(line));
            }
        }
    }
}

impl Plan {
    fn fill<'a>(&self, table: &'a TableReader, row: &mut IncomingRow<'a>) -> Result<(), String> {
        let fields = match self {
            Plan::Columns(columns) => columns.len(),
            Plan::Prompt { fields, .. } => *fields,
        };
        if table.len() != fields {
            return Err(format!("{} fields, but the head line has {fields}", table.len()));
        }
        match self {
            Plan::Columns(columns) => {
                for (place, column) in columns.iter().enumerate() {
                    let value = text_of(Some(table.field(place)))?;
                    if *column == Column::Request
                        && !value.is_empty()
                        && !json_line::is_object(value)
                    {
                        return Err(json_line::NO_REQUEST.to_owned());
                    }
                    if !value.is_empty() {
                        row.set(*column, value);
                    }
                }
            }
            Plan::Prompt { template, key, .. } => {
                row.set(Column::Prompt, template.fill(|place| text_of(Some(table.field(place))))?);
                if let Some(place) = key {
                    row.set(Column::Key, text_of(Some(table.field(*place)))?);
                }
            }
        }
        Ok(())
    }
}

/// What the columns of a table are for, by its head line and the options.
fn plan(table: &mut TableReader, name: &str, args: &ImportArgs) -> anyhow::Result<Plan> {
    let head = table.next().map_err(|error| broken(name, error))?;
    if head.is_none() {
        let message = format!("{name} is empty: it has no head line with the names of its columns");
        return Err(failure(Exit::BadInput, message));
    }
    let columns: Result<Vec<String>, String> = (0..table.len())
        .map(|place| text_of(Some(table.field(place))).map(|text| text.trim().to_owned()))
        .collect();
    let columns =
        columns.map_err(|why| failure(Exit::BadInput, format!("{name}: the head line: {why}")))?;
    let Some(template) = &args.template else {
        return as_columns(&columns).map(Plan::Columns).map_err(usage);
    };
    let key = args.key_col.as_deref().map(|name| place_of(name, &columns)).transpose();
    let template = Template::parse(template, &columns).map_err(usage)?;
    Ok(Plan::Prompt { fields: columns.len(), template, key: key.map_err(usage)? })
}

/// A table without a template has the columns of `jobs`.
fn as_columns(names: &[String]) -> Result<Vec<Column>, String> {
    let mut columns = Vec::new();
    for name in names {
        let column = Column::parse(name).ok_or_else(|| {
            format!(
                "\"{name}\" is no column of jobs: say how to make a prompt of these columns, as by \
                 --template 'Summarise: {{{{{name}}}}}'"
            )
        })?;
        if columns.contains(&column) {
            return Err(format!("there are two columns \"{name}\""));
        }
        columns.push(column);
    }
    Ok(columns)
}

fn plain<'a>(
    text: &'a str,
    template: Option<&Template>,
    row: &mut IncomingRow<'a>,
) -> Result<(), String> {
    match template {
        None => row.set(Column::Prompt, text),
        Some(template) => {
            row.set(Column::Prompt, template.fill(|_| Ok::<_, String>(text))?);
        }
    }
    Ok(())
}

fn text_of(bytes: Option<&[u8]>) -> Result<&str, String> {
    let bytes = bytes.ok_or(TOO_LONG)?;
    if bytes.contains(&0) {
        return Err(NUL.to_owned());
    }
    std::str::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 text (byte {})", error.valid_up_to() + 1))
}

fn usage(message: impl Into<String>) -> anyhow::Error {
    failure(Exit::Usage, message)
}

/// Nothing behind it can be read: not even a line that is wrong can be left out.
fn broken(name: &str, error: TableError) -> anyhow::Error {
    match error {
        TableError::Io(error) => anyhow::Error::new(error).context(format!("cannot read {name}")),
        error => failure(Exit::BadInput, format!("{name}: {error}")),
    }
}
