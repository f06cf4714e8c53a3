//! Captures in files: read whole, run through an engine, told as EVE lines. The only part of the crate that does I/O.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::capture::{self, CaptureError};
use crate::detect::{Detector, RuleFile};
use crate::engine::{Engine, Frame, Settings, Sink, Stats};
use crate::flow::Owner;

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A capture is no capture.
    #[error("{path}: {source}")]
    Capture {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: CaptureError,
    },
    /// Events could not be written.
    #[error("events cannot be written: {0}")]
    Write(io::Error),
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Report {
    /// What the engine counted.
    pub stats: Stats,
    /// Rules that were left out, and why.
    pub skipped_rules: Vec<String>,
}

struct Lines<'a, W: Write> {
    out: &'a mut W,
    failed: Option<io::Error>,
}

impl<W: Write> Sink for Lines<'_, W> {
    fn event(&mut self, _owner: Owner, event: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(event).and_then(|()| self.out.write_all(b"\n")).err();
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Loads rules from files; data sets that they name are looked for beside them, then where the process is.
///
/// # Errors
/// [`Error::Read`]: a file of rules.
pub fn load_rules(rules: &[PathBuf]) -> Result<(Detector, Vec<String>), Error> {
    let mut texts = Vec::new();
    for path in rules {
        texts.push((path.display().to_string(), String::from_utf8_lossy(&read(path)?).into_owned()));
    }
    let files: Vec<_> = texts.iter().map(|(name, text)| RuleFile { name, text }).collect();
    let beside: Vec<_> = rules.iter().filter_map(|path| path.parent()).collect();
    let read_named = |name: &str| {
        let mut result = Err(io::Error::from(io::ErrorKind::NotFound));
        for folder in beside.iter().copied().chain([Path::new("")]) {
            result = std::fs::read(folder.join(name));
            if result.is_ok() {
                break;
            }
        }
        result
    };
    Ok(Detector::load(&files, &read_named))
}

/// Runs a capture through a new engine and writes EVE lines.
///
/// # Errors
/// [`Error`]: a file that cannot be read or is no capture, or events that cannot be written. A capture that ends in the
/// midst of a frame is no error: what came before it is told.
pub fn run(capture: &Path, detector: Arc<Detector>, settings: Settings, out: &mut impl Write) -> Result<Stats, Error> {
    let data = read(capture)?;
    let wrong = |source| Error::Capture { path: capture.to_owned(), source };
    let mut engine = Engine::new(detector, settings);
    let mut lines = Lines { out, failed: None };
    for (index, captured) in capture::Frames::new(&data).map_err(wrong)?.enumerate() {
        let captured = captured.map_err(wrong)?;
        let frame = Frame {
            time: captured.time,
            number: index as u64 + 1,
            link_type: captured.link_type,
            data: captured.data,
            owner: Owner::default(),
        };
        engine.frame(&frame, &mut lines);
    }
    engine.finish(&mut lines);
    match lines.failed {
        Some(failed) => Err(Error::Write(failed)),
        None => Ok(engine.stats()),
    }
}
