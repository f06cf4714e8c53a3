//! Captures in files: run through an engine, told as EVE lines. The only part of the crate that does I/O.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::capture::{Capture, CaptureError};
use crate::detect::{BuildError, BuildOptions, Detector};
use crate::engine::{Engine, Frame, Settings, Sink, Stats};
use crate::flow::Owner;
use crate::rules::{Loaded, Variables, read_text};

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
    /// No detector could be made.
    #[error(transparent)]
    Build(#[from] BuildError),
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

/// Loads rules from files; data sets that they name are looked for beside them, then where the process is. Compiled
/// databases are kept in `cache`, if there is one.
///
/// # Errors
/// [`Error::Read`]: a file of rules. [`Error::Build`]: the matcher refuses the whole.
pub fn load_rules(rules: &[PathBuf], cache: Option<PathBuf>) -> Result<(Detector, Vec<String>), Error> {
    let (variables, mut loaded) = (Variables::default(), Loaded::default());
    for path in rules {
        let text = String::from_utf8_lossy(&read(path)?).into_owned();
        read_text(&path.display().to_string(), &text, &variables, &mut loaded);
    }
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
    let options = BuildOptions { variables, cache_folder: cache, read: &read_named };
    let (detector, problems) = Detector::build(loaded.rules, &options)?;
    Ok((detector, loaded.problems.iter().chain(&problems).map(ToString::to_string).collect()))
}

/// Runs a capture through a new engine and writes EVE lines.
///
/// # Errors
/// [`Error`]: a file that cannot be read or is no capture, or events that cannot be written. A capture that ends in the
/// midst of a frame is no error: what came before it is told.
pub fn run(capture: &Path, detector: Arc<Detector>, settings: Settings, out: &mut impl Write) -> Result<Stats, Error> {
    let file = File::open(capture).map_err(|source| Error::Read { path: capture.to_owned(), source })?;
    let wrong = |source| Error::Capture { path: capture.to_owned(), source };
    let mut reader = Capture::new(file).map_err(wrong)?;
    let mut engine = Engine::new(detector, settings);
    let mut lines = Lines { out, failed: None };
    let (mut number, mut last) = (0, 0);
    while let Some(captured) = reader.next_frame().map_err(wrong)? {
        number += 1;
        last = captured.time;
        let frame = Frame {
            time: captured.time,
            number,
            link_type: captured.link_type,
            data: captured.data,
            owner: Owner::default(),
        };
        engine.frame(&frame, &mut lines);
    }
    if reader.is_cut_off() {
        engine.capture_cut_off(last, number, &mut lines);
    }
    engine.finish(&mut lines);
    match lines.failed {
        Some(failed) => Err(Error::Write(failed)),
        None => Ok(engine.stats()),
    }
}
