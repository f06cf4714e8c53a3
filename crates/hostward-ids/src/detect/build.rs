//! Rules compiled into a [`Detector`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};

use super::cache::Cache;
use super::datasets;
use super::index::Index;
use super::signature::{Compiled, Shared, order};
use super::{Action, Detector, RuleFile, Signature};
use crate::rules::test::TransactionTest;
use crate::rules::{Loaded, Problem, Rule, Variables, read_file, read_text};

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// How rules are compiled.
pub struct BuildOptions<'r> {
    /// What `$HOME_NET` and the like stand for.
    pub variables: Variables,
    /// Where compiled databases are kept between starts, if anywhere. Only whoever runs the detector may write there.
    pub cache_folder: Option<PathBuf>,
    /// Reads a file that a rule names: a dataset, a list of digests. By default none are read.
    pub read: datasets::ReadFile<'r>,
}

impl Default for BuildOptions<'_> {
    fn default() -> Self {
        Self {
            variables: Variables::default(),
            cache_folder: None,
            read: &|_| Err(std::io::Error::other("no files are read")),
        }
    }
}

/// Why no detector could be made at all.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The multi-pattern matcher failed.
    #[error(transparent)]
    Matcher(#[from] super::vectorscan::Error),
}

impl Detector {
    /// Compiles rules. Those that cannot be used are left out and told.
    ///
    /// # Errors
    /// The multi-pattern matcher refuses the whole.
    pub fn build(mut rules: Vec<Rule>, options: &BuildOptions<'_>) -> Result<(Self, Vec<Problem>), BuildError> {
        rules.sort_by_key(order);
        let mut shared = Shared { sets: datasets::Builder::new(options.read), ..Shared::default() };
        let mut compiled = Vec::with_capacity(rules.len());
        let mut signatures = Vec::with_capacity(rules.len());
        let mut problems = Vec::new();
        for rule in rules {
            let (place, sid) = (rule.place.clone(), rule.sid);
            match Compiled::new(rule, &mut shared) {
                Ok(mut one) => {
                    signatures.push(describe(&mut one));
                    // What was made ready is not needed twice.
                    one.rule.inspections = Vec::new();
                    compiled.push(one);
                }
                Err(fault) => problems.push(Problem {
                    file: place.0.to_string(),
                    line: place.1,
                    sid: Some(sid),
                    keyword: fault.keyword,
                    reason: fault.reason,
                }),
            }
        }
        let mut cache = Cache::new(options.cache_folder.clone());
        let index = Index::build(&compiled, &mut cache)?;
        let asks_digest = |one: &Compiled| {
            one.rule.transaction_tests.iter().any(|test| matches!(test, TransactionTest::FileDigest { .. }))
        };
        let detector = Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            digests: compiled.iter().any(asks_digest),
            decides: compiled.iter().any(|one| matches!(one.action, Action::Drop | Action::Reject)),
            signatures,
            compiled,
            index,
            sets: shared.sets.finish(),
            flow_bits: shared.flow_bits,
        };
        Ok((detector, problems))
    }

    /// Reads and compiles files of rules.
    ///
    /// # Errors
    /// A file cannot be read (as a problem of the whole), or the multi-pattern matcher refuses.
    pub fn load_files(paths: &[&Path], options: &BuildOptions<'_>) -> Result<(Self, Vec<Problem>), BuildError> {
        let mut loaded = Loaded::default();
        for path in paths {
            if let Err(error) = read_file(path, &options.variables, &mut loaded) {
                loaded.problems.push(Problem {
                    file: path.display().to_string(),
                    line: 0,
                    sid: None,
                    keyword: None,
                    reason: error.to_string(),
                });
            }
        }
        let (detector, problems) = Self::build(loaded.rules, options)?;
        loaded.problems.extend(problems);
        Ok((detector, loaded.problems))
    }

    /// Compiles rules. `read` gives the contents of a file that a rule names (a dataset), by that name. What could not
    /// be understood is left out and told, one line a rule.
    #[must_use]
    pub fn load(files: &[RuleFile<'_>], read: &dyn Fn(&str) -> std::io::Result<Vec<u8>>) -> (Self, Vec<String>) {
        let options = BuildOptions { read, ..BuildOptions::default() };
        let mut loaded = Loaded::default();
        for file in files {
            read_text(file.name, file.text, &options.variables, &mut loaded);
        }
        let mut told: Vec<String> = loaded.problems.iter().map(Problem::to_string).collect();
        match Self::build(loaded.rules, &options) {
            Ok((detector, problems)) => {
                told.extend(problems.iter().map(Problem::to_string));
                (detector, told)
            }
            Err(error) => {
                told.push(error.to_string());
                (Self::default(), told)
            }
        }
    }
}

/// What the outside needs of a signature.
fn describe(one: &mut Compiled) -> Signature {
    let rule = &mut one.rule;
    let mut values: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (key, value) in &rule.metadata {
        values.entry(key).or_default().push(Value::String(value.clone()));
    }
    let metadata: Map<String, Value> =
        values.into_iter().map(|(key, values)| (key.to_owned(), Value::Array(values))).collect();
    let references = rule.references.iter().map(|(scheme, content)| address(scheme, content)).collect();
    rule.metadata = Vec::new();
    rule.references = Vec::new();
    Signature {
        id: rule.sid,
        gid: rule.gid,
        revision: rule.rev,
        message: std::mem::take(&mut rule.message),
        category: std::mem::take(&mut rule.category),
        priority: rule.priority,
        action: one.action,
        metadata,
        references,
    }
}

/// A reference as an address (Suricata's `reference.config` lists the schemes).
fn address(scheme: &str, content: &str) -> String {
    let before = match scheme {
        "url" if content.contains("://") => "",
        "url" => "https://",
        "cve" => "https://cve.mitre.org/cgi-bin/cvename.cgi?name=",
        "bugtraq" => "http://www.securityfocus.com/bid/",
        "md5" => "http://www.threatexpert.com/report.aspx?md5=",
        "nessus" => "http://cgi.nessus.org/plugins/dump.php3?id=",
        "arachnids" => "http://www.whitehats.com/info/IDS",
        "mcafee" => "http://vil.nai.com/vil/content/v_",
        "et" => "http://doc.emergingthreats.net/",
        "msft" => "http://technet.microsoft.com/security/bulletin/",
        "exploitdb" => "http://www.exploit-db.com/exploits/",
        "secunia" => "http://www.secunia.com/advisories/",
        other => return format!("{other}:{content}"),
    };
    format!("{before}{content}")
}
