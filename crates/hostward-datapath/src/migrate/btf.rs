//! The types that a map was created with, as the kernel keeps them: BTF, Documentation/bpf/btf.rst of the kernel.
//!
//! It comes from the kernel and not from a file, because the object of an older version is gone when its maps are read.
//! Only what `bpf/abi.h` uses is understood: integers, enumerations, structures and arrays, behind typedefs and
//! qualifiers. Everything else is refused; nothing is guessed.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::error::invalid;

const MAGIC: u16 = 0xeb9f;
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNCTION_PROTOTYPE: u32 = 13;
const VARIABLE: u32 = 14;
const SECTION: u32 = 15;
const DECLARATION_TAG: u32 = 17;
const ENUM64: u32 = 19;
/// Deeper than any structure of ours, and an end to those that contain themselves.
const DEPTH: usize = 8;

/// One number within a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Bytes from the structure's start.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
}

/// A structure as its numbers, each by its path: `ways.1.end`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Bytes.
    pub size: usize,
    /// In the order of their names.
    pub numbers: BTreeMap<String, Number>,
}

impl Layout {
    /// One member's numbers, by their paths within it, where they stand in the whole.
    pub fn within(&self, member: &str) -> Self {
        let numbers = self.numbers.iter().filter_map(|(path, &number)| {
            let rest = path.strip_prefix(member)?.strip_prefix('.')?;
            Some((rest.to_owned(), number))
        });
        Self { size: self.size, numbers: numbers.collect() }
    }
}

struct Type {
    name: u32,
    kind: u32,
    flag: bool,
    /// Its size, or the type that it refers to.
    word: u32,
    /// What follows the header.
    rest: Vec<u32>,
}

/// The types of one loaded object.
pub struct Btf {
    /// From number 1.
    types: Vec<Type>,
    strings: Vec<u8>,
}

impl Btf {
    /// Takes the kernel's bytes apart.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let broken = |what: &str| invalid("BTF", what);
        let word = |at: usize| -> Result<u32> {
            let four = bytes.get(at..at + 4).ok_or_else(|| broken("it ends too early"))?;
            Ok(u32::from_ne_bytes(four.try_into().unwrap_or_default()))
        };
        if word(0)? & 0xffff != u32::from(MAGIC) {
            return Err(broken("it does not begin as it must"));
        }
        let header = word(4)? as usize;
        let section = |at: usize| -> Result<(usize, usize)> {
            let (first, length) = (header + word(at)? as usize, word(at + 4)? as usize);
            bytes.get(first..first + length).map(|_| (first, first + length)).ok_or_else(|| broken("it is cut off"))
        };
        let (mut at, end) = section(8)?;
        let (strings, strings_end) = section(16)?;
        let mut types = Vec::new();
        while at < end {
            let info = word(at + 4)?;
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let words = match kind {
                INT | VARIABLE | DECLARATION_TAG => 1,
                ARRAY => 3,
                STRUCT | UNION | SECTION | ENUM64 => 3 * count,
                ENUM | FUNCTION_PROTOTYPE => 2 * count,
                _ => 0,
            };
            let rest = (0..words).map(|index| word(at + 12 + 4 * index)).collect::<Result<_>>()?;
            types.push(Type { name: word(at)?, kind, flag: info >> 31 == 1, word: word(at + 8)?, rest });
            at += 12 + 4 * words;
        }
        Ok(Self { types, strings: bytes[strings..strings_end].to_vec() })
    }

    fn get(&self, number: u32) -> Result<&Type> {
        let found = (number as usize).checked_sub(1).and_then(|index| self.types.get(index));
        found.ok_or_else(|| invalid("BTF", format!("no type {number}")))
    }

    fn text(&self, offset: u32) -> String {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        String::from_utf8_lossy(rest.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
    }

    /// Behind typedefs and qualifiers.
    fn resolve(&self, mut number: u32) -> Result<&Type> {
        for _ in 0..DEPTH {
            let found = self.get(number)?;
            if !matches!(found.kind, TYPEDEF | VOLATILE | CONST | RESTRICT) {
                return Ok(found);
            }
            number = found.word;
        }
        Err(invalid("BTF", "typedefs without an end"))
    }

    /// The layout of a type, a structure or a number (whose path is empty).
    pub fn layout(&self, number: u32) -> Result<Layout> {
        let mut layout = Layout::default();
        layout.size = self.add(&mut layout.numbers, number, String::new(), 0, 0)?;
        Ok(layout)
    }

    /// Adds a type's numbers, which begin at `offset`; its size.
    fn add(
        &self,
        numbers: &mut BTreeMap<String, Number>,
        number: u32,
        path: String,
        offset: usize,
        depth: usize,
    ) -> Result<usize> {
        let ty = self.resolve(number)?;
        let within = |name: String| if path.is_empty() { name } else { format!("{path}.{name}") };
        let refused = |what: &str| Err(invalid("BTF", format!("{path}: {what}")));
        if depth > DEPTH {
            return refused("too many structures within each other");
        }
        match ty.kind {
            INT | ENUM | ENUM64 => {
                let size = ty.word as usize;
                numbers.insert(path, Number { offset, size });
                Ok(size)
            }
            ARRAY => {
                let &[element, _, count] = ty.rest.as_slice() else { return refused("no array") };
                let mut size = 0;
                for index in 0..count as usize {
                    size += self.add(numbers, element, within(index.to_string()), offset + size, depth + 1)?;
                }
                Ok(size)
            }
            STRUCT => {
                for member in ty.rest.chunks_exact(3) {
                    let &[name, member_type, bits] = member else { return refused("no member") };
                    if ty.flag && bits >> 24 != 0 || bits % 8 != 0 {
                        return refused("bit-fields are not understood");
                    }
                    let at = offset + (bits & 0x00ff_ffff) as usize / 8;
                    self.add(numbers, member_type, within(self.text(name)), at, depth + 1)?;
                }
                Ok(ty.word as usize)
            }
            kind => refused(&format!("types of kind {kind} are not understood")),
        }
    }

    /// The layout of a structure by its name, whether a map holds it or not.
    pub fn structure(&self, name: &str) -> Result<Layout> {
        let found = self.types.iter().position(|ty| ty.kind == STRUCT && self.text(ty.name) == name);
        let index = found.ok_or_else(|| invalid("BTF", format!("no structure {name}")))?;
        self.layout(u32::try_from(index + 1).map_err(|_| invalid("BTF", "too many types"))?)
    }

    /// The enumerators of an enumeration, by their numbers; empty if there is none of the name.
    pub fn enumerators(&self, name: &str) -> BTreeMap<u32, String> {
        let found = self.types.iter().find(|ty| ty.kind == ENUM && self.text(ty.name) == name);
        found.into_iter().flat_map(|ty| ty.rest.chunks_exact(2)).map(|pair| (pair[1], self.text(pair[0]))).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes BTF as a compiler does.
    #[derive(Default)]
    pub struct Writer {
        types: Vec<u32>,
        count: u32,
        strings: Vec<u8>,
    }

    impl Writer {
        fn name(&mut self, text: &str) -> u32 {
            if self.strings.is_empty() {
                self.strings.push(0);
            }
            let at = self.strings.len() as u32;
            self.strings.extend(text.bytes().chain([0]));
            at
        }

        fn push(&mut self, name: &str, kind: u32, count: usize, word: u32, rest: &[u32]) -> u32 {
            let name = self.name(name);
            self.types.extend([name, kind << 24 | count as u32, word]);
            self.types.extend(rest);
            self.count += 1;
            self.count
        }

        pub fn int(&mut self, size: u32) -> u32 {
            self.push("", INT, 0, size, &[size * 8])
        }

        pub fn array(&mut self, element: u32, count: u32) -> u32 {
            self.push("", ARRAY, 0, 0, &[element, element, count])
        }

        pub fn typedef(&mut self, to: u32) -> u32 {
            self.push("alias", TYPEDEF, 0, to, &[])
        }

        pub fn structure(&mut self, size: u32, members: &[(&str, u32, u32)]) -> u32 {
            let rest: Vec<u32> =
                members.iter().flat_map(|&(name, ty, offset)| [self.name(name), ty, offset * 8]).collect();
            self.push("", STRUCT, members.len(), size, &rest)
        }

        pub fn enumeration(&mut self, name: &str, values: &[(&str, u32)]) -> u32 {
            let rest: Vec<u32> = values.iter().flat_map(|&(word, value)| [self.name(word), value]).collect();
            self.push(name, ENUM, values.len(), 4, &rest)
        }

        pub fn bytes(&self) -> Vec<u8> {
            let length = self.types.len() as u32 * 4;
            let header = [u32::from(MAGIC) | 1 << 16, 24, 0, length, length, self.strings.len() as u32];
            let words = header.iter().chain(&self.types).flat_map(|word| word.to_ne_bytes());
            words.chain(self.strings.iter().copied()).collect()
        }
    }

    #[test]
    fn numbers_are_found_by_their_paths() {
        let mut written = Writer::default();
        let word = written.int(4);
        let alias = written.typedef(word);
        let way = written.structure(8, &[("end", alias, 0), ("edge", word, 4)]);
        let ways = written.array(way, 2);
        let flow = written.structure(24, &[("state", word, 0), ("ways", ways, 8)]);
        let layout = Btf::parse(&written.bytes()).unwrap().layout(flow).unwrap();
        assert_eq!(layout.size, 24);
        assert_eq!(layout.numbers["state"], Number { offset: 0, size: 4 });
        assert_eq!(layout.numbers["ways.1.edge"], Number { offset: 20, size: 4 });
    }

    #[test]
    fn a_member_s_numbers_keep_their_places() {
        let mut written = Writer::default();
        let word = written.int(4);
        let key = written.structure(8, &[("slot", word, 0), ("ports", word, 4)]);
        let place = written.structure(12, &[("used", word, 0), ("key", key, 4)]);
        let layout = Btf::parse(&written.bytes()).unwrap().layout(place).unwrap().within("key");
        assert_eq!(layout.numbers["ports"], Number { offset: 8, size: 4 });
        assert!(!layout.numbers.contains_key("used"));
    }

    #[test]
    fn enumerators_are_found_by_the_name_of_their_enumeration() {
        let mut written = Writer::default();
        written.enumeration("hw_reason", &[("NONE", 0), ("POLICY", 1)]);
        let btf = Btf::parse(&written.bytes()).unwrap();
        assert_eq!(btf.enumerators("hw_reason")[&1], "POLICY");
        assert!(btf.enumerators("hw_other").is_empty());
    }

    #[test]
    fn what_is_cut_off_or_contains_itself_is_refused() {
        let mut written = Writer::default();
        let structure = written.structure(4, &[("itself", 1, 0)]);
        let bytes = written.bytes();
        assert!(Btf::parse(&bytes).unwrap().layout(structure).is_err());
        assert!((0..bytes.len()).all(|length| Btf::parse(&bytes[..length]).is_err()));
        assert!(Btf::parse(&[0; 64]).is_err());
    }
}
