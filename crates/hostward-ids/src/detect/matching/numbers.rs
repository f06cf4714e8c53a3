//! The steps that read numbers.

use super::{Run, place};
use crate::detect::field;
use crate::detect::step::Ready;
use crate::detect::transform::base64;
use crate::rules::byte::{ByteExtract, ByteJump, ByteMath, ByteTest, Compare, DataAt, Field, JumpFrom, Operator};
use crate::rules::transform::{Base64Decode, Base64Mode};

impl Run<'_, '_> {
    fn set(&mut self, variable: u8, value: u64) {
        if let Some(place) = self.numbers.get_mut(usize::from(variable)) {
            *place = value;
        }
    }

    /// The number that a field holds, and where it ends.
    fn read(&self, field: &Field, position: usize) -> Option<(u64, usize)> {
        let len = usize::try_from(self.number(field.len)).ok()?;
        let base = if field.relative { place(position) } else { 0 };
        let start = usize::try_from(base.checked_add(self.number(field.offset))?).ok()?;
        field::read(self.data, start, len, field, self.around.dce_little_endian())
    }

    pub(super) fn byte_test(&mut self, test: &ByteTest, position: usize) -> Option<usize> {
        let (value, end) = self.read(&test.field, position)?;
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
        (holds != test.negated).then_some(position)
    }

    pub(super) fn byte_jump(&mut self, jump: &ByteJump, position: usize) -> Option<usize> {
        let (value, end) = self.read(&jump.field, position)?;
        let mut value = i64::try_from(value).ok()?.saturating_mul(jump.multiplier);
        if jump.align {
            value = value.saturating_add(3) & !3;
        }
        let from = match jump.from {
            JumpFrom::Here => end,
            JumpFrom::Beginning => 0,
            JumpFrom::End => self.data.len(),
        };
        let to = place(from).saturating_add(value).saturating_add(self.number(jump.post_offset));
        usize::try_from(to).ok().filter(|&to| to <= self.data.len())
    }

    pub(super) fn byte_extract(&mut self, extract: &ByteExtract, position: usize) -> Option<usize> {
        let (value, end) = self.read(&extract.field, position)?;
        let mut value = value.wrapping_mul(extract.multiplier.cast_unsigned());
        if let Some(align) = extract.align {
            let mask = u64::from(align) - 1;
            value = value.saturating_add(mask) & !mask;
        }
        self.set(extract.variable, value);
        Some(end)
    }

    pub(super) fn byte_math(&mut self, math: &ByteMath, position: usize) -> Option<usize> {
        let (value, end) = self.read(&math.field, position)?;
        let right = self.number(math.value).cast_unsigned();
        let shift = || u32::try_from(right).ok();
        let result = match math.operator {
            Operator::Add => value.wrapping_add(right),
            Operator::Subtract => value.wrapping_sub(right),
            Operator::Multiply => value.wrapping_mul(right),
            Operator::Divide => value.checked_div(right)?,
            Operator::ShiftLeft => value.checked_shl(shift()?)?,
            Operator::ShiftRight => value.checked_shr(shift()?)?,
        };
        self.set(math.variable, result);
        Some(end)
    }

    pub(super) fn data_at(&self, at: &DataAt, position: usize) -> bool {
        let (offset, size) = (self.number(at.offset), place(self.data.len()));
        let there = if at.relative {
            place(position).saturating_add(offset) <= size && (offset > 0 || place(position) < size)
        } else {
            offset < size
        };
        there != at.negated
    }

    pub(super) fn base64_decode(&mut self, decode: &Base64Decode, position: usize) -> bool {
        let from = if decode.relative { place(position) } else { 0 };
        let start = self.number(decode.offset).saturating_add(from);
        let Some(text) = usize::try_from(start).ok().and_then(|start| self.data.get(start..)) else {
            return false;
        };
        let len = decode.bytes.map(|bytes| usize::try_from(self.number(bytes)).unwrap_or(0));
        let text = len.and_then(|len| text.get(..len)).unwrap_or(text);
        self.decoded = base64::decode(text, Base64Mode::Rfc4648);
        !self.decoded.is_empty()
    }

    /// Whether the rest holds of what was decoded.
    pub(super) fn decoded_matches(&mut self, rest: &[Ready]) -> bool {
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
        (self.attempts, self.searched) = (inner.attempts, inner.searched);
        self.cut |= inner.cut;
        self.reached = self.data.len();
        matched
    }
}
