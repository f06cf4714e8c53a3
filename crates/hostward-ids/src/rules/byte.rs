//! `byte_test`, `byte_jump`, `byte_extract`, `byte_math`, `isdataat`: numbers inside buffers.

use super::content::Operand;
use super::number::{narrow, signed, unsigned};
use super::{Fault, Read};

/// How a number lies in the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Most significant byte first.
    #[default]
    Big,
    /// Least significant byte first.
    Little,
    /// As the DCERPC header says.
    Dce,
    /// Digits to this base.
    Digits(u32),
}

/// How the extracted number is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Compare {
    Less,
    Greater,
    Equal,
    AtMost,
    AtLeast,
    /// Some common bit.
    And,
    /// Exclusive or gives something.
    Xor,
}

/// Where a number is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// How many bytes.
    pub len: Operand,
    /// Where.
    pub offset: Operand,
    /// Counted from the end of the last match.
    pub relative: bool,
    /// How it is written.
    pub encoding: Encoding,
    /// Which of its bits count; what is left is shifted to the lowest.
    pub mask: Option<u64>,
}

/// `byte_test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ByteTest {
    pub field: Field,
    pub negated: bool,
    pub compare: Compare,
    pub value: Operand,
}

/// Where `byte_jump` counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum JumpFrom {
    Here,
    Beginning,
    End,
}

/// `byte_jump`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ByteJump {
    pub field: Field,
    pub multiplier: i64,
    pub align: bool,
    pub from: JumpFrom,
    pub post_offset: Operand,
}

/// `byte_extract`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ByteExtract {
    pub field: Field,
    pub variable: u8,
    pub multiplier: i64,
    pub align: Option<u8>,
}

/// What `byte_math` computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    ShiftLeft,
    ShiftRight,
}

/// `byte_math`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ByteMath {
    pub field: Field,
    pub operator: Operator,
    pub value: Operand,
    pub variable: u8,
}

/// `isdataat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DataAt {
    pub offset: Operand,
    pub relative: bool,
    pub negated: bool,
}

/// The names that a rule's options extracted so far.
#[derive(Clone, Debug, Default)]
pub struct Names(pub Vec<String>);

impl Names {
    /// The number of a name, new or known.
    ///
    /// # Errors
    /// Too many.
    pub fn define(&mut self, name: &str) -> Read<u8> {
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return Err(Fault::new(format!("'{name}' cannot be a variable")));
        }
        if let Some(known) = self.0.iter().position(|known| known == name) {
            return Ok(known as u8);
        }
        if self.0.len() >= 32 {
            return Err(Fault::new("more than 32 variables"));
        }
        self.0.push(name.to_owned());
        Ok((self.0.len() - 1) as u8)
    }

    /// A number, or a name that is known.
    ///
    /// # Errors
    /// Neither.
    pub fn operand(&self, text: &str) -> Read<Operand> {
        let text = text.trim();
        if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            let known = self.0.iter().position(|known| known == text);
            return known
                .map(|index| Operand::Variable(index as u8))
                .ok_or_else(|| Fault::new(format!("no earlier option extracts '{text}'")));
        }
        Ok(Operand::Value(signed(text)?))
    }
}

/// The words that all of them share; false if `word` is none of them.
fn common(word: &str, field: &mut Field, string: &mut bool) -> Read<bool> {
    match word {
        "relative" => field.relative = true,
        "big" => field.encoding = Encoding::Big,
        "little" => field.encoding = Encoding::Little,
        "dce" => field.encoding = Encoding::Dce,
        "string" => {
            *string = true;
            if !matches!(field.encoding, Encoding::Digits(_)) {
                field.encoding = Encoding::Digits(0);
            }
        }
        "hex" => field.encoding = Encoding::Digits(16),
        "dec" => field.encoding = Encoding::Digits(10),
        "oct" => field.encoding = Encoding::Digits(8),
        _ => match word.strip_prefix("bitmask") {
            Some(mask) => {
                let mask = mask.trim();
                let hex = mask.strip_prefix("0x").or_else(|| mask.strip_prefix("0X")).unwrap_or(mask);
                let mask = u64::from_str_radix(hex, 16).map_err(|_| Fault::new("the mask is not hexadecimal"))?;
                if mask == 0 {
                    return Err(Fault::new("the mask is empty"));
                }
                field.mask = Some(mask);
            }
            None => return Ok(false),
        },
    }
    Ok(true)
}

fn new_field(len: Operand, offset: Operand) -> Field {
    Field { len, offset, relative: false, encoding: Encoding::Big, mask: None }
}

/// Checks that a length that is written can be read.
fn check(field: &Field, string: bool) -> Read<()> {
    let longest = if string { 23 } else { 8 };
    match field.len {
        Operand::Value(len) if len < 0 || len > longest => Err(Fault::new(format!("cannot read {len} bytes"))),
        _ => Ok(()),
    }
}

fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

/// Reads the value of `byte_test`.
///
/// # Errors
/// What was expected.
pub fn test(value: &str, names: &Names) -> Read<ByteTest> {
    let mut words = words(value);
    let mut next = |what: &str| words.next().ok_or_else(|| Fault::new(format!("{what} is missing")));
    let len = names.operand(next("the length")?)?;
    let operator = next("the operator")?;
    let wanted = next("the value")?;
    let offset = names.operand(next("the offset")?)?;
    let (negated, operator) = match operator.strip_prefix('!') {
        Some(rest) => (true, rest.trim()),
        None => (false, operator),
    };
    let compare = match operator {
        "<" => Compare::Less,
        ">" => Compare::Greater,
        "=" => Compare::Equal,
        "" if negated => Compare::Equal,
        "<=" => Compare::AtMost,
        ">=" => Compare::AtLeast,
        "&" => Compare::And,
        "^" => Compare::Xor,
        _ => return Err(Fault::new(format!("'{operator}' is no operator"))),
    };
    let value = match unsigned(wanted) {
        Ok(number) => Operand::Value(number.cast_signed()),
        Err(_) => names.operand(wanted)?,
    };
    let mut field = new_field(len, offset);
    let mut string = false;
    for word in words {
        if !common(word, &mut field, &mut string)? {
            return Err(Fault::new(format!("'{word}' is not understood")));
        }
    }
    check(&field, string)?;
    Ok(ByteTest { field, negated, compare, value })
}

/// Reads the value of `byte_jump`.
///
/// # Errors
/// What was expected.
pub fn jump(value: &str, names: &Names) -> Read<ByteJump> {
    let mut words = words(value);
    let mut next = |what: &str| words.next().ok_or_else(|| Fault::new(format!("{what} is missing")));
    let len = names.operand(next("the length")?)?;
    let offset = names.operand(next("the offset")?)?;
    let mut jump = ByteJump {
        field: new_field(len, offset),
        multiplier: 1,
        align: false,
        from: JumpFrom::Here,
        post_offset: Operand::Value(0),
    };
    let mut string = false;
    for word in words {
        if common(word, &mut jump.field, &mut string)? {
            continue;
        }
        match word {
            "align" => jump.align = true,
            "from_beginning" => jump.from = JumpFrom::Beginning,
            "from_end" => jump.from = JumpFrom::End,
            _ => match word.split_once(' ') {
                Some(("multiplier", number)) => jump.multiplier = i64::from(narrow::<u16>(number)?),
                Some(("post_offset", number)) => jump.post_offset = names.operand(number)?,
                _ => return Err(Fault::new(format!("'{word}' is not understood"))),
            },
        }
    }
    check(&jump.field, string)?;
    Ok(jump)
}

/// Reads the value of `byte_extract`.
///
/// # Errors
/// What was expected.
pub fn extract(value: &str, names: &mut Names) -> Read<ByteExtract> {
    let mut words = words(value);
    let mut next = |what: &str| words.next().ok_or_else(|| Fault::new(format!("{what} is missing")));
    let len = names.operand(next("the length")?)?;
    let offset = names.operand(next("the offset")?)?;
    let name = next("the name")?;
    let mut extract = ByteExtract { field: new_field(len, offset), variable: 0, multiplier: 1, align: None };
    let mut string = false;
    for word in words {
        if common(word, &mut extract.field, &mut string)? {
            continue;
        }
        match word.split_once(' ') {
            Some(("multiplier", number)) => extract.multiplier = i64::from(narrow::<u16>(number)?),
            Some(("align", number)) => match number.trim() {
                "2" => extract.align = Some(2),
                "4" => extract.align = Some(4),
                other => return Err(Fault::new(format!("cannot align to '{other}'"))),
            },
            _ => return Err(Fault::new(format!("'{word}' is not understood"))),
        }
    }
    check(&extract.field, string)?;
    extract.variable = names.define(name)?;
    Ok(extract)
}

/// Reads the value of `byte_math`.
///
/// # Errors
/// What was expected.
pub fn math(value: &str, names: &mut Names) -> Read<ByteMath> {
    let mut field = new_field(Operand::Value(0), Operand::Value(0));
    let (mut len, mut offset, mut operator, mut right, mut result) = (None, None, None, None, None);
    let mut string = false;
    for word in words(value) {
        if common(word, &mut field, &mut string)? {
            continue;
        }
        let (key, rest) = word.split_once(' ').ok_or_else(|| Fault::new(format!("'{word}' is not understood")))?;
        let rest = rest.trim();
        match key {
            "bytes" => len = Some(names.operand(rest)?),
            "offset" => offset = Some(names.operand(rest)?),
            "rvalue" => right = Some(names.operand(rest)?),
            "result" => result = Some(rest),
            "endian" => {
                common(rest, &mut field, &mut string)?;
            }
            "string" => {
                string = true;
                common(rest, &mut field, &mut string)?;
            }
            "oper" => {
                operator = Some(match rest {
                    "+" => Operator::Add,
                    "-" => Operator::Subtract,
                    "*" => Operator::Multiply,
                    "/" => Operator::Divide,
                    "<<" => Operator::ShiftLeft,
                    ">>" => Operator::ShiftRight,
                    _ => return Err(Fault::new(format!("'{rest}' is no operator"))),
                });
            }
            _ => return Err(Fault::new(format!("'{word}' is not understood"))),
        }
    }
    let missing = |what: &str| Fault::new(format!("{what} is missing"));
    field.len = len.ok_or_else(|| missing("bytes"))?;
    field.offset = offset.ok_or_else(|| missing("offset"))?;
    check(&field, string)?;
    Ok(ByteMath {
        field,
        operator: operator.ok_or_else(|| missing("oper"))?,
        value: right.ok_or_else(|| missing("rvalue"))?,
        variable: names.define(result.ok_or_else(|| missing("result"))?)?,
    })
}

/// Reads the value of `isdataat`.
///
/// # Errors
/// What was expected.
pub fn data_at(value: &str, names: &Names) -> Read<DataAt> {
    let mut words = words(value);
    let first = words.next().unwrap_or_default();
    let (negated, first) = match first.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, first),
    };
    let mut relative = false;
    for word in words {
        match word {
            "relative" => relative = true,
            "rawbytes" => {}
            _ => return Err(Fault::new(format!("'{word}' is not understood"))),
        }
    }
    Ok(DataAt { offset: names.operand(first)?, relative, negated })
}
