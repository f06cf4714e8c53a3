//! `hostward-inspector`: finds intrusions in packets.
//!
//! `pcap FILE --rules FILE… [--set KEY=VALUE]…` reads a capture and prints EVE JSON, one event a line.
//! `serve …` is started by the agent, which hands it the datapath's ring; see `serve`.

mod control;
mod log;
mod owners;
mod ring;
mod sandbox;
mod serve;
mod shared;
mod signatures;
mod sink;

use std::io::BufWriter;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use hostward_ids::engine::Settings;
use hostward_ids::offline;

/// Transactions come and go by the thousand: with glibc's allocator a third of the time went there (measured).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "hostward-inspector pcap FILE --rules FILE... [--set KEY=VALUE]... [--cache FOLDER]";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.split_first() {
        Some((first, rest)) if first == "pcap" => read_capture(rest),
        Some((first, rest)) if first == "serve" => serve::run(rest).map(|()| ExitCode::SUCCESS),
        _ => Err(Failure::Usage(USAGE.into())),
    };
    result.unwrap_or_else(|failure| match failure {
        Failure::Usage(what) => {
            eprintln!("hostward-inspector: {what}");
            ExitCode::from(2)
        }
        Failure::Work(what) => {
            eprintln!("hostward-inspector: {what}");
            ExitCode::FAILURE
        }
    })
}

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
    /// The command line is none.
    Usage(String),
    /// What happened, to what.
    Work(String),
}

impl Failure {
    fn work(what: impl std::fmt::Display) -> Self {
        Self::Work(what.to_string())
    }
}

fn read_capture(words: &[String]) -> Result<ExitCode, Failure> {
    let (mut capture, mut rules, mut settings, mut cache) = (None, Vec::new(), Settings::default(), None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| Failure::Usage(format!("{word} wants a value; {USAGE}")));
        match word.as_str() {
            "--rules" => rules.push(PathBuf::from(value()?)),
            "--cache" => cache = Some(PathBuf::from(value()?)),
            "--set" => {
                let pair = value()?;
                let (key, setting) = pair.split_once('=').unwrap_or((pair, "true"));
                settings.set(key, setting).map_err(|error| Failure::Usage(error.to_string()))?;
            }
            _ if word.starts_with('-') || capture.is_some() => {
                return Err(Failure::Usage(format!("{word:?} is unexpected; {USAGE}")));
            }
            _ => capture = Some(PathBuf::from(word)),
        }
    }
    let capture = capture.ok_or_else(|| Failure::Usage(format!("no capture; {USAGE}")))?;
    let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    let (detector, problems) = offline::load_rules(&rules, cache).map_err(Failure::work)?;
    for problem in &problems {
        eprintln!("{problem}");
    }
    offline::run(&capture, Arc::new(detector), settings, &mut out).map_err(Failure::work)?;
    out.flush().map_err(Failure::work)?;
    Ok(ExitCode::SUCCESS)
}
