//! The steps of one inspection against one buffer's bytes.

use memchr::{memchr, memchr2};

use super::field;
use super::step::{Ready, ReadyContent, ReadyPattern};
use super::transform::base64;
use crate::rules::byte::{Compare, JumpFrom, Operator};
use crate::rules::content::{Content, Operand};
use crate::rules::pattern::Capture;
use crate::rules::rule::{Entropy, EntropyCompare};
use crate::rules::transform::Base64Mode;

/// How many places one inspection may try.
const ATTEMPTS: u32 = 3000;
/// How many bytes one inspection may search.
const SEARCHED: usize = 32 << 20;

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
        match (self.attempts.checked_sub(1), self.searched.checked_sub(bytes)) {
            (Some(attempts), Some(searched)) => {
                (self.attempts, self.searched) = (attempts, searched);
                true
            }
            _ => {
                self.cut = true;
                false
            }
        }
    }

    fn from(&mut self, steps: &[Ready], position: usize) -> bool {
        let Some((step, rest)) = steps.split_first() else {
            return true;
        };
        let data = self.data;
        match step {
            Ready::Content(content) => self.content(content, rest, position),
            Ready::Pattern(pattern) => self.pattern(pattern, rest, position),
            Ready::ByteTest(test) => {
                let Some((value, end)) = self.read(&test.field, position) else {
                    return false;
                };
                let wanted = self.number(test.value).cast_unsigned();
                let holds = match test.compare {
                    Compare::Less => value < wanted,
                    Compare::Greater => value > wanted,
                    Compare::Equal => value == wanted,
                    Compare::AtMost => value <= wanted,
                    Compare::AtLeast => value >= wanted,
                    Compare::And => value & wanted != 0,
                    Compare::Xor => value ^ wanted != 0,
                };
                self.reached = self.reached.max(end);
                holds != test.negated && self.from(rest, position)
            }
            Ready::ByteJump(jump) => {
                let Some((value, end)) = self.read(&jump.field, position) else {
                    return false;
                };
                let Ok(value) = i64::try_from(value) else {
                    return false;
                };
                let mut value = value.saturating_mul(jump.multiplier);
                if jump.align {
                    value = value.saturating_add(3) & !3;
                }
                let from = match jump.from {
                    JumpFrom::Here => end,
                    JumpFrom::Beginning => 0,
                    JumpFrom::End => data.len(),
                };
                let to = (from as i64).saturating_add(value).saturating_add(self.number(jump.post_offset));
                match usize::try_from(to) {
                    Ok(to) if to <= data.len() => self.from(rest, to),
                    _ => false,
                }
            }
            Ready::ByteExtract(extract) => {
                let Some((value, end)) = self.read(&extract.field, position) else {
                    return false;
                };
                let mut value = value.wrapping_mul(extract.multiplier.cast_unsigned());
                if let Some(align) = extract.align {
                    let mask = u64::from(align) - 1;
                    value = value.saturating_add(mask) & !mask;
                }
                self.set(extract.variable, value);
                self.from(rest, end)
            }
            Ready::ByteMath(math) => {
                let Some((value, end)) = self.read(&math.field, position) else {
                    return false;
                };
                let right = self.number(math.value).cast_unsigned();
                let result = match math.operator {
                    Operator::Add => Some(value.wrapping_add(right)),
                    Operator::Subtract => Some(value.wrapping_sub(right)),
                    Operator::Multiply => Some(value.wrapping_mul(right)),
                    Operator::Divide => value.checked_div(right),
                    Operator::ShiftLeft => u32::try_from(right).ok().and_then(|right| value.checked_shl(right)),
                    Operator::ShiftRight => u32::try_from(right).ok().and_then(|right| value.checked_shr(right)),
                };
                let Some(result) = result else {
                    return false;
                };
                self.set(math.variable, result);
                self.from(rest, end)
            }
            Ready::DataAt(at) => {
                let offset = self.number(at.offset);
                let there = if at.relative {
                    (position as i64).saturating_add(offset) <= data.len() as i64
                        && (offset > 0 || position < data.len())
                } else {
                    offset < data.len() as i64
                };
                there != at.negated && self.from(rest, position)
            }
            Ready::Size(comparison) => comparison.holds(data.len() as u64) && self.from(rest, position),
            Ready::DataSet(number) => self.around.data_set(*number, data) && self.from(rest, position),
            Ready::Entropy(entropy) => {
                let Some(value) = entropy_of(entropy, data) else { return false };
                self.around.entropy(value);
                holds(entropy.compare, value) && self.from(rest, position)
            }
            Ready::Base64Decode(decode) => {
                let start =
                    self.number(decode.offset).saturating_add(if decode.relative { position as i64 } else { 0 });
                let Some(text) = usize::try_from(start).ok().and_then(|start| data.get(start..)) else {
                    return false;
                };
                let text = match decode.bytes {
                    Some(bytes) => {
                        let len = usize::try_from(self.number(bytes)).unwrap_or(0);
                        text.get(..len).unwrap_or(text)
                    }
                    None => text,
                };
                self.decoded = base64::decode(text, Base64Mode::Rfc4648);
                !self.decoded.is_empty() && self.from(rest, position)
            }
            Ready::Base64Data => {
                let decoded = std::mem::take(&mut self.decoded);
                let mut inner = Run {
                    data: &decoded,
                    around: &mut *self.around,
                    numbers: self.numbers,
                    reached: 0,
                    decoded: Vec::new(),
                    attempts: self.attempts,
                    searched: self.searched,
                    cut: false,
                };
                let matched = inner.from(rest, 0);
                let (attempts, searched, cut) = (inner.attempts, inner.searched, inner.cut);
                (self.attempts, self.searched) = (attempts, searched);
                self.cut |= cut;
                self.reached = data.len();
                matched
            }
        }
    }

    fn set(&mut self, variable: u8, value: u64) {
        if let Some(place) = self.numbers.get_mut(usize::from(variable)) {
            *place = value;
        }
    }

    fn read(&self, field: &crate::rules::byte::Field, position: usize) -> Option<(u64, usize)> {
        let len = usize::try_from(self.number(field.len)).ok()?;
        let base = if field.relative { position as i64 } else { 0 };
        let start = usize::try_from(base.checked_add(self.number(field.offset))?).ok()?;
        field::read(self.data, start, len, field, self.around.dce_little_endian())
    }

    /// The range of places at which `content` may begin, and the end that it must not pass.
    fn bounds(&self, content: &Content, position: usize) -> Option<(usize, usize)> {
        let size = self.data.len() as i64;
        let (mut low, mut high) = (0, size);
        if content.relative() {
            low = (position as i64).saturating_add(content.distance.map_or(0, |distance| self.number(distance)));
            if let Some(within) = content.within {
                high = low.saturating_add(self.number(within));
            }
        } else if content.startswith {
            high = content.bytes.len() as i64;
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
        if high < low.saturating_add(content.bytes.len() as i64) {
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
            let found = match regex.find_at(subject, start) {
                Ok(found) => found,
                Err(_) => {
                    self.cut = true;
                    return false;
                }
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

/// Shannon's entropy of a part of `data`, in bits a byte; `None` if there is none.
fn entropy_of(entropy: &Entropy, data: &[u8]) -> Option<f64> {
    let data = data.get(entropy.offset..).unwrap_or_default();
    let data = entropy.len.and_then(|len| data.get(..len)).unwrap_or(data);
    if data.is_empty() {
        return None;
    }
    let mut counts = [0_u32; 256];
    for &byte in data {
        counts[usize::from(byte)] += 1;
    }
    let total = f64::from(u32::try_from(data.len()).ok()?);
    let shares = counts.iter().filter(|&&count| count > 0).map(|&count| f64::from(count) / total);
    Some(shares.map(|share| -share * share.log2()).sum())
}

/// Whether an entropy is as wanted.
fn holds(compare: EntropyCompare, value: f64) -> bool {
    match compare {
        EntropyCompare::Equal(x) => (value - x).abs() < 1e-9,
        EntropyCompare::NotEqual(x) => (value - x).abs() >= 1e-9,
        EntropyCompare::Less(x) => value < x,
        EntropyCompare::AtMost(x) => value <= x,
        EntropyCompare::Greater(x) => value > x,
        EntropyCompare::AtLeast(x) => value >= x,
        EntropyCompare::Between(low, high) => low < value && value < high,
        EntropyCompare::NotBetween(low, high) => !(low < value && value < high),
    }
}

#[cfg(test)]
mod tests;
