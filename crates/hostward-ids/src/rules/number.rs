//! Numbers in options, and comparisons with them.

use super::{Fault, Read};

/// How a number of the traffic is compared with what a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Comparison {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    AtMost(u64),
    Greater(u64),
    AtLeast(u64),
    /// Strictly between the two.
    Between(u64, u64),
    /// Not strictly between the two.
    NotBetween(u64, u64),
    /// `&mask`: some of the bits are set.
    AnyBit(u64),
    /// `!&mask`: not all of the bits are set.
    NotAllBits(u64),
}

impl Comparison {
    /// Whether `value` satisfies it.
    #[must_use]
    pub fn holds(self, value: u64) -> bool {
        match self {
            Self::Equal(x) => value == x,
            Self::NotEqual(x) => value != x,
            Self::Less(x) => value < x,
            Self::AtMost(x) => value <= x,
            Self::Greater(x) => value > x,
            Self::AtLeast(x) => value >= x,
            Self::Between(low, high) => low < value && value < high,
            Self::NotBetween(low, high) => !(low < value && value < high),
            Self::AnyBit(mask) => value & mask != 0,
            Self::NotAllBits(mask) => value & mask != mask,
        }
    }

    /// Reads `5`, `!5`, `=5`, `<5`, `>=5`, `5-9`, `5<>9`, `!5-9`, `&0x3`.
    ///
    /// # Errors
    /// What was expected.
    pub fn read(text: &str) -> Read<Self> {
        Self::read_with(text, &|word| unsigned(word).ok())
    }

    /// Likewise, where numbers can have names.
    ///
    /// # Errors
    /// What was expected.
    pub fn read_with(text: &str, value: &dyn Fn(&str) -> Option<u64>) -> Read<Self> {
        let number = |word: &str| value(word.trim()).ok_or_else(|| Fault::new(format!("no number: '{}'", word.trim())));
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("<=") {
            return Ok(Self::AtMost(number(rest)?));
        }
        if let Some(rest) = text.strip_prefix(">=") {
            return Ok(Self::AtLeast(number(rest)?));
        }
        if let Some(rest) = text.strip_prefix("!=") {
            return Ok(Self::NotEqual(number(rest)?));
        }
        if let Some(rest) = text.strip_prefix("!&") {
            return Ok(Self::NotAllBits(number(rest)?));
        }
        let (negated, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, text),
        };
        let range = rest.split_once("<>").or_else(|| rest.split_once('-').filter(|(low, _)| !low.trim().is_empty()));
        if let Some((low, high)) = range {
            let (low, high) = (number(low)?, number(high)?);
            if low >= high {
                return Err(Fault::new("the range is empty"));
            }
            return Ok(if negated { Self::NotBetween(low, high) } else { Self::Between(low, high) });
        }
        if negated {
            return Ok(Self::NotEqual(number(rest)?));
        }
        match rest.as_bytes().first() {
            Some(b'<') => Ok(Self::Less(number(&rest[1..])?)),
            Some(b'>') => Ok(Self::Greater(number(&rest[1..])?)),
            Some(b'=') => Ok(Self::Equal(number(&rest[1..])?)),
            Some(b'&') => Ok(Self::AnyBit(number(&rest[1..])?)),
            _ => Ok(Self::Equal(number(rest)?)),
        }
    }
}

/// Reads a decimal or `0x` number.
///
/// # Errors
/// What was expected.
pub fn unsigned(text: &str) -> Read<u64> {
    let text = text.trim();
    let read = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    };
    read.ok_or_else(|| Fault::new(format!("no number: '{text}'")))
}

/// Reads a number that fits `T`.
///
/// # Errors
/// What was expected.
pub fn narrow<T: TryFrom<u64>>(text: &str) -> Read<T> {
    T::try_from(unsigned(text)?).map_err(|_| Fault::new(format!("too large: '{}'", text.trim())))
}

/// Reads a signed decimal or `0x` number.
///
/// # Errors
/// What was expected.
pub fn signed(text: &str) -> Read<i64> {
    let text = text.trim();
    match text.strip_prefix('-') {
        Some(rest) => Ok(-i64::from(narrow::<u32>(rest)?)),
        None => Ok(i64::from(narrow::<u32>(text.strip_prefix('+').unwrap_or(text))?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_read() {
        assert_eq!(Comparison::read(" 7<>20 "), Ok(Comparison::Between(7, 20)));
        assert_eq!(Comparison::read("!0"), Ok(Comparison::NotEqual(0)));
        assert_eq!(Comparison::read("> 250"), Ok(Comparison::Greater(250)));
        assert_eq!(Comparison::read("0x10"), Ok(Comparison::Equal(16)));
        assert!(Comparison::read("").is_err());
        assert!(Comparison::read("9<>3").is_err());
        assert!(Comparison::Between(7, 20).holds(8) && !Comparison::Between(7, 20).holds(20));
    }
}
