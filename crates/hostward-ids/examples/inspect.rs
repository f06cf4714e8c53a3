//! Runs a capture through the detector and prints EVE lines:
//! `inspect CAPTURE --rules FILE… [--set KEY=VALUE]… [--quiet]`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use hostward_ids::engine::Settings;
use hostward_ids::offline;

struct Arguments {
    capture: PathBuf,
    rules: Vec<PathBuf>,
    settings: Settings,
    quiet: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut words = std::env::args().skip(1);
    let mut capture = None;
    let (mut rules, mut settings, mut quiet) = (Vec::new(), Settings::default(), false);
    while let Some(word) = words.next() {
        let mut value = |what: &str| words.next().ok_or(format!("{what} needs a value"));
        match word.as_str() {
            "--rules" => rules.push(PathBuf::from(value("--rules")?)),
            "--set" => {
                let setting = value("--set")?;
                let (key, value) = setting.split_once('=').ok_or("--set takes KEY=VALUE")?;
                settings.set(key, value).map_err(|error| error.to_string())?;
            }
            "--quiet" => quiet = true,
            _ if capture.is_none() => capture = Some(PathBuf::from(word)),
            _ => return Err(format!("\"{word}\" is one argument too many")),
        }
    }
    let capture = capture.ok_or("usage: inspect CAPTURE --rules FILE [--set KEY=VALUE] [--quiet]")?;
    Ok(Arguments { capture, rules, settings, quiet })
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("inspect: {message}");
            return ExitCode::from(2);
        }
    };
    let loaded = offline::load_rules(&arguments.rules, None);
    let (detector, skipped) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("inspect: {error}");
            return ExitCode::FAILURE;
        }
    };
    if !arguments.quiet {
        for line in skipped {
            eprintln!("inspect: {line}");
        }
    }
    let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    let done = offline::run(&arguments.capture, Arc::new(detector), arguments.settings, &mut out);
    let flushed = out.flush();
    match done {
        Ok(_) if flushed.is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("inspect: {error}");
            ExitCode::FAILURE
        }
    }
}
