//! What is looked for in a buffer, ready to be matched.

use std::sync::OnceLock;

use memchr::memmem;
use pcre2::bytes::{Regex, RegexBuilder};

use crate::rules::byte::{ByteExtract, ByteJump, ByteMath, ByteTest, DataAt};
use crate::rules::content::Content;
use crate::rules::number::Comparison;
use crate::rules::pattern::{Capture, Pattern};
use crate::rules::rule::{Entropy, Step};
use crate::rules::transform::Base64Decode;
use crate::rules::{Fault, Read};

/// A [`Step`] with what it needs to run.
#[derive(Debug)]
pub enum Ready {
    /// Bytes.
    Content(Box<ReadyContent>),
    /// A regular expression.
    Pattern(Box<ReadyPattern>),
    /// See [`ByteTest`].
    ByteTest(ByteTest),
    /// See [`ByteJump`].
    ByteJump(ByteJump),
    /// See [`ByteExtract`].
    ByteExtract(ByteExtract),
    /// See [`ByteMath`].
    ByteMath(ByteMath),
    /// See [`DataAt`].
    DataAt(DataAt),
    /// The buffer's size.
    Size(Comparison),
    /// A set by its number, and what is done with it.
    DataSet(u16),
    /// See [`Entropy`].
    Entropy(Entropy),
    /// See [`Base64Decode`].
    Base64Decode(Base64Decode),
    /// What follows looks at what was decoded.
    Base64Data,
}

/// A content with its searcher.
#[derive(Debug)]
pub struct ReadyContent {
    /// As it was read.
    pub content: Content,
    /// Looks for it; absent where case is ignored.
    pub finder: Option<memmem::Finder<'static>>,
    /// Whether another place has to be tried if what follows fails: something that follows is relative to it.
    pub retry: bool,
}

/// A pattern, compiled when it is used first: most never are.
#[derive(Debug)]
pub struct ReadyPattern {
    expression: Box<str>,
    regex: OnceLock<Option<Regex>>,
    /// Must not match.
    pub negated: bool,
    /// Begins where the last match ended.
    pub relative: bool,
    /// See [`Pattern::captures`].
    pub captures: Vec<Capture>,
    /// See [`ReadyContent::retry`].
    pub retry: bool,
}

impl ReadyPattern {
    /// The expression with its machine code; `None` if it could not be compiled, which [`check`] has excluded.
    pub fn regex(&self) -> Option<&Regex> {
        self.regex.get_or_init(|| compile(&self.expression, true).ok()).as_ref()
    }
}

/// Compiles an expression.
pub fn compile(expression: &str, jit: bool) -> Result<Regex, pcre2::Error> {
    let mut builder = RegexBuilder::new();
    if jit {
        builder.jit_if_available(true).max_jit_stack_size(Some(256 * 1024));
    }
    builder.build(expression)
}

/// Checks an expression without making machine code.
///
/// # Errors
/// What the library says of it.
pub fn check(expression: &str) -> Read<()> {
    compile(expression, false).map(|_| ()).map_err(|error| Fault::new(error.to_string()).at("pcre"))
}

/// Whether a step begins where the last match ended.
fn relative(step: &Step) -> bool {
    match step {
        Step::Content(content) => content.relative(),
        Step::Pattern(pattern) => pattern.relative,
        Step::ByteTest(test) => test.field.relative,
        Step::ByteJump(jump) => jump.field.relative,
        Step::ByteExtract(extract) => extract.field.relative,
        Step::ByteMath(math) => math.field.relative,
        Step::DataAt(at) => at.relative,
        Step::Base64Decode(decode) => decode.relative,
        _ => false,
    }
}

/// Whether a step moves the place that relative ones begin at, wherever the last match was.
fn anchors(step: &Step) -> bool {
    match step {
        Step::Content(content) => !content.negated && !content.relative(),
        Step::Pattern(pattern) => !pattern.negated && !pattern.relative,
        Step::ByteJump(jump) => !jump.field.relative,
        Step::Base64Data => true,
        _ => false,
    }
}

/// Whether something in `after` depends on where the step before it matched.
fn depended_on(after: &[Step]) -> bool {
    for step in after {
        if relative(step) {
            return true;
        }
        if anchors(step) {
            return false;
        }
    }
    false
}

/// Whether `steps` can only be judged once a buffer is complete.
pub fn need_complete(steps: &[Step]) -> bool {
    steps.iter().any(|step| match step {
        Step::Content(content) => content.negated || content.endswith,
        Step::Pattern(pattern) => pattern.negated,
        Step::DataAt(at) => at.negated,
        Step::Size(_) | Step::DataSet(_) | Step::Entropy(_) => true,
        _ => false,
    })
}

/// Makes steps ready. `data_set` numbers sets.
///
/// # Errors
/// A pattern or a set is not usable.
pub fn ready(
    steps: &[Step],
    checked: bool,
    data_set: &mut dyn FnMut(&crate::rules::dataset::DataSet) -> Read<u16>,
) -> Read<Box<[Ready]>> {
    let mut made = Vec::with_capacity(steps.len());
    for (at, step) in steps.iter().enumerate() {
        let retry = depended_on(&steps[at + 1..]);
        made.push(match step {
            Step::Content(content) => {
                let finder = (!content.nocase).then(|| memmem::Finder::new(&*content.bytes).into_owned());
                Ready::Content(Box::new(ReadyContent { content: content.clone(), finder, retry }))
            }
            Step::Pattern(pattern) => Ready::Pattern(Box::new(ready_pattern(pattern, checked, retry)?)),
            Step::ByteTest(test) => Ready::ByteTest(*test),
            Step::ByteJump(jump) => Ready::ByteJump(*jump),
            Step::ByteExtract(extract) => Ready::ByteExtract(*extract),
            Step::ByteMath(math) => Ready::ByteMath(*math),
            Step::DataAt(at) => Ready::DataAt(*at),
            Step::Size(comparison) => Ready::Size(*comparison),
            Step::DataSet(set) => Ready::DataSet(data_set(set)?),
            Step::Entropy(entropy) => Ready::Entropy(*entropy),
            Step::Base64Decode(decode) => Ready::Base64Decode(*decode),
            Step::Base64Data => Ready::Base64Data,
        });
    }
    Ok(made.into_boxed_slice())
}

fn ready_pattern(pattern: &Pattern, checked: bool, retry: bool) -> Read<ReadyPattern> {
    if !checked {
        check(&pattern.expression)?;
    }
    Ok(ReadyPattern {
        expression: pattern.expression.clone().into_boxed_str(),
        regex: OnceLock::new(),
        negated: pattern.negated,
        relative: pattern.relative,
        captures: pattern.captures.clone(),
        retry,
    })
}
