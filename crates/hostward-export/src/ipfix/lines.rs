//! Lines in a file that is replaced by a new one when it has its size; so many of the old are kept.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::ipfix::counts::Counts;

/// Octets that wait to be written together.
const BUFFER: usize = 1 << 16;
/// Who has these addresses is nobody else's business.
const MODE: u32 = 0o640;

/// A file of lines: `PATH`, and behind it `PATH.1`, `PATH.2` …, which are older.
pub struct Lines {
    path: PathBuf,
    limit: u64,
    kept: u32,
    file: Option<File>,
    length: u64,
    buffer: Vec<u8>,
    waiting: u64,
}

impl Lines {
    /// Appends to a file of at most `limit` octets, and keeps `kept` that are full.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path, limit: u64, kept: u32) -> io::Result<Self> {
        let mut lines = Self {
            path: path.to_owned(),
            limit,
            kept,
            file: None,
            length: 0,
            buffer: Vec::with_capacity(BUFFER),
            waiting: 0,
        };
        lines.reopen()?;
        Ok(lines)
    }

    /// Adds a line; `write` writes it without its end.
    pub fn add(&mut self, counts: &mut Counts, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.buffer.len();
        write(&mut self.buffer);
        self.buffer.push(b'\n');
        if self.length + self.buffer.len() as u64 > self.limit && self.length + before as u64 > 0 {
            let next = self.buffer.split_off(before);
            self.flush(counts);
            self.rotate();
            self.buffer = next;
        }
        self.waiting += 1;
        if self.buffer.len() >= BUFFER {
            self.flush(counts);
        }
    }

    /// Writes what waits. What the file system refuses is lost whole: half a line would spoil the next.
    pub fn flush(&mut self, counts: &mut Counts) {
        if self.buffer.is_empty() {
            return;
        }
        let (lines, length) = (std::mem::take(&mut self.waiting), self.buffer.len() as u64);
        if self.write().is_ok() {
            counts.lines += lines;
            self.length += length;
        } else {
            counts.lines_lost += lines;
            if let Some(file) = self.file.take() {
                // Else the next line begins behind half a one.
                let _ = file.set_len(self.length);
            }
        }
        self.buffer.clear();
    }

    fn write(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.reopen()?;
        }
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(&self.buffer)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().append(true).create(true).mode(MODE).open(&self.path)?;
        self.length = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Moves every file one further; the last is no more. What cannot be moved is appended to.
    fn rotate(&mut self) {
        self.file = None;
        let older = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.kept == 0 {
            let _ = fs::remove_file(&self.path);
        } else {
            for number in (1..self.kept).rev() {
                let _ = fs::rename(older(number), older(number + 1));
            }
            let _ = fs::rename(&self.path, older(1));
        }
        self.length = 0;
        let _ = self.reopen();
    }
}
