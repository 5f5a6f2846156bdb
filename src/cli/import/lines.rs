//! Lines of a file with their numbers, however long they are.
//!
//! Invariant: no more of a line is held than a job may have.

use super::input::Bytes;
use std::io::{self, BufRead as _, Read as _};

/// A longer line is no job: the daemon reads none above this.
pub(super) const BYTES_MAX: usize = 64 << 20;
pub(super) const TOO_LONG: &str = "longer than 64 MiB, which no job may be";

/// Reads line by line.
pub(super) struct LineReader {
    bytes: Bytes,
    most: usize,
    line: Vec<u8>,
    /// Lines read so far.
    pub(super) number: u64,
    /// Bytes read so far.
    pub(super) read: u64,
}

impl LineReader {
    /// Of a line that is longer than `most` bytes only that is seen.
    pub(super) fn new(bytes: Bytes, most: usize) -> LineReader {
        LineReader { bytes, most, line: Vec::new(), number: 0, read: 0 }
    }

    /// Whether the next line may have to be waited for.
    pub(super) fn may_wait(&self) -> bool {
        self.bytes.buffer().is_empty()
    }

    /// Reads the next line, if there is one.
    pub(super) fn next(&mut self) -> io::Result<bool> {
        self.line.clear();
        // One that was very long does not hold its memory for good.
        self.line.shrink_to(1 << 20);
        // The line, its end, and one byte that tells that there is more.
        let most = self.most as u64 + 3;
        let read = (&mut self.bytes).take(most).read_until(b'\n', &mut self.line)? as u64;
        self.number += u64::from(read > 0);
        self.read += read;
        if read == most && self.line.last() != Some(&b'\n') {
            self.read += self.bytes.skip_until(b'\n')? as u64;
        }
        Ok(read > 0)
    }

    /// It without its end; `None` where it is too long.
    pub(super) fn line(&self) -> Option<&[u8]> {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (line.len() <= self.most).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Read};

    const MOST: usize = 50;

    fn reader(bytes: impl Read + Send + 'static) -> LineReader {
        LineReader::new(BufReader::with_capacity(16, Box::new(bytes)), MOST)
    }

    #[test]
    fn lines_end_in_either_way() {
        let mut lines = reader(&b"one\r\n\ntwo\r\r\nthree"[..]);
        let mut seen = Vec::new();
        while lines.next().unwrap() {
            seen.push(String::from_utf8(lines.line().unwrap().to_vec()).unwrap());
        }
        assert_eq!(seen, ["one", "", "two\r", "three"]);
        assert_eq!((lines.number, lines.read), (4, 17));
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out_and_the_next_is_read() {
        let long = |bytes: usize| io::repeat(b'x').take(bytes as u64);
        for end in [&b"\n"[..], &b"\r\n"[..]] {
            let all = long(MOST).chain(end).chain(long(MOST + 1)).chain(end);
            let mut lines = reader(all.chain(long(2 * MOST)).chain(&b"\nshort"[..]));
            let mut lengths = Vec::new();
            while lines.next().unwrap() {
                lengths.push(lines.line().map(<[u8]>::len));
            }
            assert_eq!(lengths, [Some(MOST), None, None, Some(5)]);
            assert_eq!(lines.read, (4 * MOST + 1 + 2 * end.len() + 6) as u64);
        }
    }
}
