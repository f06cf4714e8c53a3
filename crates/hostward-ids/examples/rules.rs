//! Reads files of rules and tells what was not understood: `rules FILE…`.

use hostward_ids::rules::{Loaded, Variables, read_file};

fn main() -> std::io::Result<()> {
    let mut loaded = Loaded::default();
    for path in std::env::args().skip(1) {
        read_file(std::path::Path::new(&path), &Variables::default(), &mut loaded)?;
    }
    for problem in &loaded.problems {
        println!("{problem}");
    }
    println!("{} rules, {} problems", loaded.rules.len(), loaded.problems.len());
    Ok(())
}
