//! A small decoder of IPFIX for tests. It shares nothing with the encoder, and refuses what RFC 7011 does not allow.

use std::collections::HashMap;

/// Enterprise number (0: the registry's) and element.
pub type Id = (u32, u16);

/// One data record: values by element, as they stand; scope fields are among them.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// Its template.
    pub template: u16,
    /// Whether the template is one of options.
    pub options: bool,
    values: HashMap<Id, Vec<u8>>,
}

impl Data {
    /// An unsigned number of up to eight octets.
    pub fn number(&self, id: Id) -> u64 {
        let value = self.values.get(&id).unwrap_or_else(|| panic!("no element {id:?} in {self:?}"));
        value.iter().fold(0, |number, &octet| number << 8 | u64::from(octet))
    }

    pub fn text(&self, id: Id) -> &str {
        std::str::from_utf8(&self.values[&id]).expect("UTF-8")
    }

    pub fn octets(&self, id: Id) -> Option<&[u8]> {
        self.values.get(&id).map(Vec::as_slice)
    }

    pub fn enterprises(&self) -> Vec<u32> {
        self.values.keys().map(|(enterprise, _)| *enterprise).collect()
    }
}

struct Template {
    options: bool,
    fields: Vec<(Id, u16)>,
}

/// A collecting process for one transport session.
#[derive(Default)]
pub struct Decoder {
    templates: HashMap<u16, Template>,
    /// Data records that should have come before the next message.
    pub sequence: Option<u32>,
    /// Data records that are missing.
    pub missing: u32,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        assert!(count <= self.0.len(), "{count} octets asked for, {} left", self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }
}

impl Decoder {
    /// The data records of a message, in order.
    pub fn decode(&mut self, message: &[u8]) -> Vec<Data> {
        let mut reader = Reader(message);
        assert_eq!(reader.u16(), 10, "version");
        assert_eq!(usize::from(reader.u16()), message.len(), "length");
        reader.u32();
        let sequence = reader.u32();
        reader.u32();
        if let Some(expected) = self.sequence {
            self.missing += sequence.wrapping_sub(expected);
        }
        let mut records = Vec::new();
        while !reader.0.is_empty() {
            let (number, length) = (reader.u16(), usize::from(reader.u16()));
            assert!(length > 4, "an empty set");
            let mut set = Reader(reader.take(length - 4));
            while !set.0.is_empty() {
                match number {
                    2 | 3 => self.template(&mut set, number == 3),
                    256.. => records.push(self.data(&mut set, number)),
                    _ => panic!("set {number}"),
                }
            }
        }
        self.sequence = Some(sequence.wrapping_add(records.len() as u32));
        records
    }

    fn template(&mut self, set: &mut Reader<'_>, options: bool) {
        let (number, count) = (set.u16(), set.u16());
        assert!(number >= 256 && count > 0);
        if options {
            let scopes = set.u16();
            assert!(0 < scopes && scopes <= count, "RFC 7011, section 3.4.2.2");
        }
        let fields = (0..count)
            .map(|_| {
                let (id, length) = (set.u16(), set.u16());
                let enterprise = if id & 0x8000 == 0 { 0 } else { set.u32() };
                ((enterprise, id & 0x7fff), length)
            })
            .collect();
        self.templates.insert(number, Template { options, fields });
    }

    fn data(&self, set: &mut Reader<'_>, number: u16) -> Data {
        let template = self.templates.get(&number).unwrap_or_else(|| panic!("no template {number}"));
        let values = template.fields.iter().map(|&(id, length)| {
            let length = match length {
                0xffff => match set.take(1)[0] {
                    255 => usize::from(set.u16()),
                    short => usize::from(short),
                },
                fixed => usize::from(fixed),
            };
            (id, set.take(length).to_vec())
        });
        Data { template: number, options: template.options, values: values.collect() }
    }
}
