//! The steps of one inspection against one buffer's bytes.

mod entropy;
mod numbers;

use memchr::{memchr, memchr2};

use super::step::{Ready, ReadyContent, ReadyPattern};
use crate::rules::content::{Content, Operand};
use crate::rules::pattern::Capture;
use crate::rules::rule::Entropy;

/// How many places one inspection may try.
const ATTEMPTS: u32 = 3000;
/// How many bytes one inspection may search.
const SEARCHED: usize = 4 << 20;

/// What the steps may ask of the outside.
pub trait Surroundings {
    /// Whether a dataset's operation on `value` succeeds.
    fn data_set(&mut self, number: u16, value: &[u8]) -> bool;
    /// Keeps what a pattern's group matched.
    fn capture(&mut self, capture: &Capture, value: &[u8]);
    /// Keeps an entropy that was asked for.
    fn entropy(&mut self, value: f64);
    /// The byte order that DCERPC's header tells.
    fn dce_little_endian(&self) -> bool;
}

/// The numbers that a rule extracted; they hold in all of its buffers.
pub type Numbers = [u64; 32];

/// A place in a buffer as a number that can be negative.
fn place(at: usize) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

/// One run over one buffer.
pub struct Run<'r, 'd> {
    data: &'d [u8],
    around: &'r mut dyn Surroundings,
    /// See [`Numbers`].
    pub numbers: Numbers,
    /// Where the furthest match ended: a stream is told only of what reaches into its new part.
    pub reached: usize,
    decoded: Vec<u8>,
    attempts: u32,
    searched: usize,
    /// Whether a limit ended the search.
    pub cut: bool,
}

impl<'r, 'd> Run<'r, 'd> {
    /// A new one.
    pub fn new(data: &'d [u8], numbers: Numbers, around: &'r mut dyn Surroundings) -> Self {
        Self {
            data,
            around,
            numbers,
            reached: 0,
            decoded: Vec::new(),
            attempts: ATTEMPTS,
            searched: SEARCHED,
            cut: false,
        }
    }

    /// Lets it search no more than `budget` bytes, and gives what is left of that afterwards.
    pub fn matches_within(&mut self, steps: &[Ready], budget: usize) -> (bool, usize) {
        let allowed = SEARCHED.min(budget);
        self.searched = allowed;
        let matched = self.matches(steps);
        (matched, budget - (allowed - self.searched.min(allowed)))
    }

    /// Whether all steps hold. The recursion is as deep as the rule has steps, which reading bounds.
    pub fn matches(&mut self, steps: &[Ready]) -> bool {
        self.from(steps, 0)
    }

    fn number(&self, operand: Operand) -> i64 {
        match operand {
            Operand::Value(value) => value,
            Operand::Variable(index) => {
                self.numbers.get(usize::from(index)).map_or(0, |&number| i64::try_from(number).unwrap_or(i64::MAX))
            }
        }
    }

    fn spend(&mut self, bytes: usize) -> bool {
        if let (Some(attempts), Some(searched)) = (self.attempts.checked_sub(1), self.searched.checked_sub(bytes)) {
            (self.attempts, self.searched) = (attempts, searched);
            true
        } else {
            self.cut = true;
            false
        }
    }

    fn from(&mut self, steps: &[Ready], position: usize) -> bool {
        let Some((step, rest)) = steps.split_first() else {
            return true;
        };
        let data = self.data;
        let to = match step {
            Ready::Content(content) => return self.content(content, rest, position),
            Ready::Pattern(pattern) => return self.pattern(pattern, rest, position),
            Ready::Base64Data => return self.decoded_matches(rest),
            Ready::ByteTest(test) => self.byte_test(test, position),
            Ready::ByteJump(jump) => self.byte_jump(jump, position),
            Ready::ByteExtract(extract) => self.byte_extract(extract, position),
            Ready::ByteMath(math) => self.byte_math(math, position),
            Ready::DataAt(at) => self.data_at(at, position).then_some(position),
            Ready::Size(comparison) => comparison.holds(data.len() as u64).then_some(position),
            Ready::DataSet(number) => self.around.data_set(*number, data).then_some(position),
            Ready::Entropy(entropy) => self.entropy(entropy).then_some(position),
            Ready::Base64Decode(decode) => self.base64_decode(decode, position).then_some(position),
        };
        to.is_some_and(|to| self.from(rest, to))
    }

    fn entropy(&mut self, entropy: &Entropy) -> bool {
        entropy::of(entropy, self.data).is_some_and(|value| {
            self.around.entropy(value);
            entropy::holds(entropy.compare, value)
        })
    }

    /// The range of places at which `content` may begin, and the end that it must not pass.
    fn bounds(&self, content: &Content, position: usize) -> Option<(usize, usize)> {
        let size = place(self.data.len());
        let (mut low, mut high) = (0, size);
        if content.relative() {
            low = (place(position)).saturating_add(content.distance.map_or(0, |distance| self.number(distance)));
            if let Some(within) = content.within {
                high = low.saturating_add(self.number(within));
            }
        } else if content.startswith {
            high = place(content.bytes.len());
        } else {
            low = content.offset.map_or(0, |offset| self.number(offset));
            if let Some(depth) = content.depth {
                high = low.saturating_add(self.number(depth));
            }
        }
        let (low, high) = (low.max(0), high.min(size));
        if content.endswith && high < size {
            return None;
        }
        if high < low.saturating_add(place(content.bytes.len())) {
            return None;
        }
        Some((usize::try_from(low).ok()?, usize::try_from(high).ok()?))
    }

    fn content(&mut self, ready: &ReadyContent, rest: &[Ready], position: usize) -> bool {
        let content = &ready.content;
        let Some((mut low, high)) = self.bounds(content, position) else {
            return content.negated && self.from(rest, position);
        };
        if content.endswith {
            low = low.max(high - content.bytes.len());
        }
        loop {
            let Some(range) = self.data.get(low..high) else {
                return content.negated && self.from(rest, position);
            };
            if !self.spend(range.len()) {
                return false;
            }
            let Some(found) = find(ready, range) else {
                return content.negated && self.from(rest, position);
            };
            if content.negated {
                return false;
            }
            let end = low + found + content.bytes.len();
            let reached = self.reached;
            self.reached = reached.max(end);
            if self.from(rest, end) {
                return true;
            }
            self.reached = reached;
            if !ready.retry {
                return false;
            }
            low += found + 1;
        }
    }

    fn pattern(&mut self, pattern: &ReadyPattern, rest: &[Ready], position: usize) -> bool {
        let Some(regex) = pattern.regex() else {
            return false;
        };
        let base = if pattern.relative { position } else { 0 };
        let Some(subject) = self.data.get(base..) else {
            return false;
        };
        let mut start = 0;
        loop {
            if !self.spend(subject.len() - start) {
                return false;
            }
            let Ok(found) = regex.find_at(subject, start) else {
                self.cut = true;
                return false;
            };
            let Some(found) = found else {
                return pattern.negated && self.from(rest, position);
            };
            if pattern.negated {
                return false;
            }
            let (from, to) = (found.start(), found.end());
            let reached = self.reached;
            self.reached = reached.max(base + to);
            if self.from(rest, base + to) {
                self.capture(pattern, regex, subject, start);
                return true;
            }
            self.reached = reached;
            start = from + 1;
            if !pattern.retry || start > subject.len() {
                return false;
            }
        }
    }

    fn capture(&mut self, pattern: &ReadyPattern, regex: &pcre2::bytes::Regex, subject: &[u8], start: usize) {
        if pattern.captures.is_empty() {
            return;
        }
        let mut places = regex.capture_locations();
        if let Ok(Some(_)) = regex.captures_read_at(&mut places, subject, start) {
            for (group, capture) in pattern.captures.iter().enumerate() {
                if let Some((from, to)) = places.get(group + 1)
                    && let Some(value) = subject.get(from..to)
                {
                    self.around.capture(capture, value);
                }
            }
        }
    }
}

/// Where a content begins in `range`.
fn find(ready: &ReadyContent, range: &[u8]) -> Option<usize> {
    let wanted = &*ready.content.bytes;
    match &ready.finder {
        Some(finder) => finder.find(range),
        None => find_nocase(wanted, range),
    }
}

/// Likewise, ASCII letters of either case; `wanted` is lower case.
pub fn find_nocase(wanted: &[u8], range: &[u8]) -> Option<usize> {
    let (&first, last) = (wanted.first()?, range.len().checked_sub(wanted.len())?);
    let upper = first.to_ascii_uppercase();
    let mut at = 0;
    while at <= last {
        let area = range.get(at..=last)?;
        let step = if upper == first { memchr(first, area) } else { memchr2(first, upper, area) }?;
        at += step;
        if range.get(at..at + wanted.len())?.eq_ignore_ascii_case(wanted) {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests;
