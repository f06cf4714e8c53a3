//! Reads and compiles files of rules, tells what was not understood, and how long it took: `rules [--cache FOLDER] FILE…`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use hostward_ids::detect::{BuildOptions, Detector};

fn main() -> ExitCode {
    let mut paths: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    let mut options = BuildOptions { read: &|name| std::fs::read(name), ..BuildOptions::default() };
    if paths.first().is_some_and(|word| word == Path::new("--cache")) {
        options.cache_folder = paths.get(1).cloned();
        paths.drain(..2.min(paths.len()));
    }
    let begun = Instant::now();
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    match Detector::load_files(&paths, &options) {
        Ok((detector, problems)) => {
            for problem in &problems {
                println!("{problem}");
            }
            let took = begun.elapsed().as_millis();
            println!("{} signatures, {} problems, {took} ms", detector.len(), problems.len());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rules: {error}");
            ExitCode::FAILURE
        }
    }
}
