//! CSV and TSV, record by record.
//!
//! Invariant: the number of a record is that of the line on which it begins; a quote that is not
//! closed is noticed, and takes no more memory than one job may.

use super::input::Bytes;
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use std::io::{self, BufRead as _};

/// More columns than any table has.
const COLUMNS_MAX: usize = 65_536;

/// Why nothing can be read any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    #[error("cannot be read")]
    Io(#[from] io::Error),
    #[error("a quote on line {0} is not closed")]
    OpenQuote(u64),
    #[error("the row on line {0} is longer than 64 MiB or too wide: is a quote there not closed?")]
    TooLong(u64),
}

/// Reads record by record.
pub(super) struct TableReader {
    /// Its tables are large.
    core: Box<Reader>,
    bytes: Bytes,
    most: usize,
    fields: Vec<u8>,
    ends: Vec<usize>,
    /// Fields of the record that was read.
    count: usize,
    /// Lines of the records read so far.
    pub(super) number: u64,
    /// Bytes read so far.
    pub(super) read: u64,
}

impl TableReader {
    /// Records of more than `most` bytes end the reading.
    pub(super) fn new(bytes: Bytes, delimiter: u8, most: usize) -> TableReader {
        TableReader {
            core: Box::new(ReaderBuilder::new().delimiter(delimiter).build()),
            bytes,
            most,
            fields: vec![0; 4 << 10],
            ends: vec![0; 16],
            count: 0,
            number: 0,
            read: 0,
        }
    }

    /// Whether the next record may have to be waited for.
    pub(super) fn may_wait(&self) -> bool {
        self.bytes.buffer().is_empty()
    }

    /// Fields of the record.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// One of them.
    pub(super) fn field(&self, place: usize) -> &[u8] {
        let begin = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.fields[begin..self.ends[place]]
    }

    /// Reads the next record; the line on which it begins.
    pub(super) fn next(&mut self) -> Result<Option<u64>, TableError> {
        self.skip_line_ends()?;
        let (line, before) = (self.number + 1, self.read);
        let (mut filled, mut count, mut lines) = (0, 0, 0);
        loop {
            let input = self.bytes.fill_buf()?;
            let at_end = input.is_empty();
            if at_end && self.read == before {
                return Ok(None);
            }
            // A record that has begun ends with its line, unless it is within quotes.
            let input = if at_end { b"\n" } else { input };
            let (result, read, written, ended) =
                self.core.read_record(input, &mut self.fields[filled..], &mut self.ends[count..]);
            filled += written;
            count += ended;
            if !at_end {
                lines += input[..read].iter().filter(|byte| **byte == b'\n').count() as u64;
                self.bytes.consume(read);
                self.read += read as u64;
            }
            match result {
                ReadRecordResult::InputEmpty if at_end => return Err(TableError::OpenQuote(line)),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if filled > self.most => {
                    return Err(TableError::TooLong(line));
                }
                ReadRecordResult::OutputFull => self.fields.resize(self.fields.len() * 2, 0),
                ReadRecordResult::OutputEndsFull if count > COLUMNS_MAX => {
                    return Err(TableError::TooLong(line));
                }
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => {
                    self.count = count;
                    self.number += lines;
                    return Ok(Some(line));
                }
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    /// Empty lines, and what is left of the last record's.
    fn skip_line_ends(&mut self) -> io::Result<()> {
        loop {
            let input = self.bytes.fill_buf()?;
            let ends = input.iter().take_while(|byte| matches!(byte, b'\n' | b'\r'));
            let (skipped, lines) = ends
                .fold((0, 0), |(all, lines), byte| (all + 1, lines + u64::from(*byte == b'\n')));
            let more = skipped > 0;
            self.bytes.consume(skipped);
            self.number += lines;
            self.read += skipped as u64;
            if !more {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Read};

    const MOST: usize = 10_000;

    fn reader(bytes: impl Read + Send + 'static, delimiter: u8) -> TableReader {
        TableReader::new(BufReader::with_capacity(5, Box::new(bytes)), delimiter, MOST)
    }

    /// Records with the lines on which they begin: `1:a/b 2:c/d`.
    fn records(text: &'static str, delimiter: u8) -> Result<String, String> {
        let mut table = reader(text.as_bytes(), delimiter);
        let mut seen = Vec::new();
        while let Some(line) = table.next().map_err(|error| error.to_string())? {
            let fields = (0..table.len()).map(|at| String::from_utf8_lossy(table.field(at)));
            seen.push(format!("{line}:{}", fields.collect::<Vec<_>>().join("/")));
        }
        assert_eq!(table.read, text.len() as u64);
        Ok(seen.join(" "))
    }

    #[test]
    fn records_have_the_number_of_their_first_line() {
        for (text, seen) in [
            ("a,b\nc,d\n", "1:a/b 2:c/d"),
            ("a,b\r\nc,d", "1:a/b 2:c/d"),
            ("\n\na\r\n\r\n\nb\n", "3:a 6:b"),
            ("a,\"x\ny\r\nz\"\nb,\"q\"\"q\"", "1:a/x\ny\r\nz 4:b/q\"q"),
            ("a,\nb,c,d\n,\n", "1:a/ 2:b/c/d 3:/"),
            ("5\" disk,x\n\"\"", "1:5\" disk/x 2:"),
            ("", ""),
            ("\r\n\n", ""),
            ("a", "1:a"),
        ] {
            assert_eq!(records(text, b',').as_deref(), Ok(seen), "{text:?}");
        }
        assert_eq!(records("a,b\t\"c\tc\"\n", b'\t').as_deref(), Ok("1:a,b/c\tc"));
    }

    #[test]
    fn a_quote_that_is_not_closed_is_noticed() {
        for text in ["a\nb,\"c\nd,e\n", "a\n\"", "a\nb,\"c\"\"", "a\n\"b,c\r\n"] {
            let said = records(text, b',').unwrap_err();
            assert_eq!(said, "a quote on line 2 is not closed", "{text:?}");
        }
    }

    #[test]
    fn a_quote_that_is_never_closed_is_given_up_in_time() {
        let mut table = reader((&b"a\n\""[..]).chain(io::repeat(b'x')), b',');
        table.next().unwrap();
        assert!(matches!(table.next(), Err(TableError::TooLong(2))));
        assert!(table.fields.len() <= 4 * MOST);
        let mut wide = reader(io::repeat(b','), b',');
        assert!(matches!(wide.next(), Err(TableError::TooLong(1))));
    }
}
