//! Signatures in Suricata's syntax, read into values. What is not understood is told with file, line and keyword.
//!
//! Nothing here matches: a [`Rule`] is what its text says, checked and bounded; [`crate::detect`] compiles it.

pub mod address;
pub mod byte;
pub mod classification;
pub mod content;
pub mod dataset;
pub mod header;
mod keyword;
pub mod number;
pub mod option;
pub mod pattern;
mod reader;
pub mod rule;
pub mod test;
pub mod transform;
pub mod variables;

pub use reader::{Loaded, read_file, read_text};
pub use rule::{Inspection, Rule, Step, Target};
pub use variables::Variables;

/// Longest rule that is read, in bytes.
pub const RULE_LEN: usize = 32 * 1024;
/// Most contents, patterns and the like in one rule.
pub const RULE_STEPS: usize = 256;
/// Longest regular expression, in bytes.
pub const PATTERN_LEN: usize = 8 * 1024;
/// Most options of one rule.
pub const RULE_OPTIONS: usize = 1024;

/// Why a rule, or one of its options, was not accepted. The rule is left out; the others load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named, empty for text without one.
    pub file: String,
    /// The line on which the rule begins, from 1.
    pub line: usize,
    /// The signature, where its number could be read.
    pub sid: Option<u32>,
    /// The keyword that is at fault, where it is one.
    pub keyword: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if let Some(sid) = self.sid {
            write!(f, "sid {sid}: ")?;
        }
        if let Some(keyword) = &self.keyword {
            write!(f, "{keyword}: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// What is wrong with a part of a rule; becomes a [`Problem`] where file and line are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// See [`Problem::keyword`].
    pub keyword: Option<String>,
    /// See [`Problem::reason`].
    pub reason: String,
}

impl Fault {
    /// One that no keyword is named for yet.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { keyword: None, reason: reason.into() }
    }

    /// Names the keyword, if none is named.
    #[must_use]
    pub fn at(mut self, keyword: &str) -> Self {
        self.keyword.get_or_insert_with(|| keyword.to_owned());
        self
    }
}

/// Shorthand for what reading a part of a rule gives.
pub type Read<T> = Result<T, Fault>;
