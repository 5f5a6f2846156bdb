//! Where the rows come from: a file or standard input, and which format it has.

use crate::cli::exit::{Exit, failure};
use anyhow::Context as _;
use clap::ValueEnum;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Cursor, Read};
use std::os::fd::AsFd as _;
use std::path::Path;

/// Standard input.
const STDIN: &str = "-";
/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a line
    Jsonl,
    /// Comma-separated, with a head line
    Csv,
    /// The same with tabs
    Tsv,
    /// One prompt a line
    Lines,
}

/// Bytes without a mark of their order before them.
pub(super) type Bytes = BufReader<Box<dyn Read + Send>>;

/// An open file.
pub(super) struct Input {
    /// As people know it.
    pub(super) name: String,
    /// Its length, when it is a file and no pipe.
    pub(super) size: Option<u64>,
    pub(super) bytes: Bytes,
}

impl Input {
    pub(super) fn open(path: &Path) -> anyhow::Result<Input> {
        let is_stdin = path == Path::new(STDIN);
        let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
        let file = if is_stdin { standard_input() } else { File::open(path) };
        let file = file.with_context(|| format!("cannot read {name}"))?;
        let about = file.metadata().with_context(|| format!("cannot read {name}"))?;
        if about.is_dir() {
            return Err(failure(Exit::BadInput, format!("{name} is a directory")));
        }
        let size = about.is_file().then_some(about.len());
        let bytes = unmarked(file, &name)?;
        Ok(Input { name, size, bytes })
    }

    /// What was asked for, what the name says, or what it looks like.
    pub(super) fn format(&mut self, asked: Option<Format>, path: &Path) -> anyhow::Result<Format> {
        if let Some(format) = asked.or_else(|| by_extension(path)) {
            return Ok(format);
        }
        let first = self.bytes.fill_buf().with_context(|| format!("cannot read {}", self.name))?;
        match first.first() {
            // An empty file has no rows in any format.
            Some(b'{') | None => Ok(Format::Jsonl),
            Some(_) => {
                let message = format!(
                    "which format has {}? say it with --format jsonl, csv, tsv or lines",
                    self.name
                );
                Err(failure(Exit::Usage, message))
            }
        }
    }
}

/// Without the library's own, smaller buffer.
fn standard_input() -> io::Result<File> {
    io::stdin().as_fd().try_clone_to_owned().map(File::from)
}

fn by_extension(path: &Path) -> Option<Format> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "jsonl" | "ndjson" | "json" => Some(Format::Jsonl),
        "csv" => Some(Format::Csv),
        "tsv" | "tab" => Some(Format::Tsv),
        "txt" => Some(Format::Lines),
        _ => None,
    }
}

/// What follows the byte order mark, where there is one; refuses what is surely no UTF-8.
fn unmarked(file: File, name: &str) -> anyhow::Result<Bytes> {
    let mut start = Vec::new();
    let read = (&file).take(3).read_to_end(&mut start);
    read.with_context(|| format!("cannot read {name}"))?;
    let wrong = match *start.as_slice() {
        [0xef, 0xbb, 0xbf] => {
            start.clear();
            None
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16; write it as UTF-8 first (iconv)"),
        [0x1f, 0x8b, ..] => Some("compressed; unpack it first (gzip -dc)"),
        _ => None,
    };
    if let Some(wrong) = wrong {
        return Err(failure(Exit::BadInput, format!("{name} is {wrong}")));
    }
    let whole: Box<dyn Read + Send> = Box::new(Cursor::new(start).chain(file));
    Ok(BufReader::with_capacity(CHUNK, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_the_format() {
        for (name, format) in [
            ("a.jsonl", Some(Format::Jsonl)),
            ("a.NDJSON", Some(Format::Jsonl)),
            ("a.b.csv", Some(Format::Csv)),
            ("a.tsv", Some(Format::Tsv)),
            ("a.txt", Some(Format::Lines)),
            ("a.csv.gz", None),
            ("csv", None),
            ("-", None),
        ] {
            assert_eq!(by_extension(Path::new(name)), format, "{name}");
        }
    }
}
