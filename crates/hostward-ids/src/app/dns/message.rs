//! Reading DNS messages (RFC 1035 section 4, with the record types of later documents that rules and logs name).

/// Longest name that is kept, in bytes of text. RFC 1035 allows 255 on the wire; more is an event, not a reason to stop.
const NAME_LIMIT: usize = 1025;
/// How many labels and compression pointers one name may have.
const LABEL_LIMIT: usize = 255;
/// How many records of one message are kept.
const RECORD_LIMIT: usize = 1024;

/// The header (RFC 1035 section 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u16,
    pub(super) flags: u16,
    pub(super) counts: [u16; 4],
}

/// The length of [`Header`] on the wire.
pub(super) const HEADER_LEN: usize = 12;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: Vec<u8>,
    pub(super) kind: u16,
}

/// A resource record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: Vec<u8>,
    pub(super) kind: u16,
    pub(super) ttl: u32,
    pub(super) data: Data,
}

/// A record's data, as far as it is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Address(std::net::IpAddr),
    Name(Vec<u8>),
    /// One or more character strings (RFC 1035 section 3.3.14).
    Texts(Vec<Vec<u8>>),
    /// RFC 1035 section 3.3.13.
    Authority {
        mname: Vec<u8>,
        rname: Vec<u8>,
        numbers: [u32; 5],
    },
    /// RFC 2782.
    Service {
        priority: u16,
        weight: u16,
        port: u16,
        target: Vec<u8>,
    },
    /// RFC 4255.
    HostKey {
        algorithm: u8,
        kind: u8,
        fingerprint: Vec<u8>,
    },
    Other,
}

/// What was odd about a message.
#[allow(clippy::struct_excessive_bools)] // Any of them can be, independently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Oddities {
    pub(super) malformed: bool,
    pub(super) malformed_authorities: bool,
    pub(super) malformed_additionals: bool,
    pub(super) name_too_long: bool,
    pub(super) loop_of_pointers: bool,
    pub(super) too_many_labels: bool,
}

/// A message, with what could be read of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) header: Header,
    pub(super) questions: Vec<Question>,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
    pub(super) oddities: Oddities,
}

impl Header {
    pub(super) fn is_response(self) -> bool {
        self.flags & 0x8000 != 0
    }

    pub(super) fn opcode(self) -> u8 {
        (self.flags >> 11 & 0xf) as u8
    }

    pub(super) fn rcode(self) -> u16 {
        self.flags & 0xf
    }
}

/// Where in the message reading stands.
struct Cursor<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.message.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A name as text, labels joined by dots; compression (RFC 1035 section 4.1.4) is followed only backwards, so that
    /// it ends.
    fn name(&mut self, oddities: &mut Oddities) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        let mut at = self.at;
        let mut after_pointer = None;
        for _ in 0..LABEL_LIMIT {
            let len = usize::from(*self.message.get(at)?);
            match len {
                0 => {
                    self.at = after_pointer.unwrap_or(at + 1);
                    return Some(name);
                }
                1..=63 => {
                    let label = self.message.get(at + 1..at + 1 + len)?;
                    if name.len() + len < NAME_LIMIT {
                        if !name.is_empty() {
                            name.push(b'.');
                        }
                        name.extend_from_slice(label);
                    } else {
                        oddities.name_too_long = true;
                    }
                    at += 1 + len;
                }
                0xc0.. => {
                    let target = (len & 0x3f) << 8 | usize::from(*self.message.get(at + 1)?);
                    after_pointer.get_or_insert(at + 2);
                    if target >= at {
                        oddities.loop_of_pointers = true;
                        return None;
                    }
                    at = target;
                }
                _ => return None,
            }
        }
        oddities.too_many_labels = true;
        None
    }

    fn question(&mut self, oddities: &mut Oddities) -> Option<Question> {
        let name = self.name(oddities)?;
        let kind = self.u16()?;
        self.u16()?;
        Some(Question { name, kind })
    }

    fn record(&mut self, oddities: &mut Oddities) -> Option<Record> {
        let name = self.name(oddities)?;
        let kind = self.u16()?;
        self.u16()?;
        let ttl = self.u32()?;
        let len = usize::from(self.u16()?);
        let start = self.at;
        let end = start.checked_add(len).filter(|&end| end <= self.message.len())?;
        // Names inside may point anywhere before, so the data is read within the whole message.
        let data = if len == 0 {
            Data::Other
        } else {
            let mut inside = Cursor { message: self.message.get(..end)?, at: start };
            inside.data(kind, oddities)?
        };
        self.at = end;
        Some(Record { name, kind, ttl, data })
    }

    fn data(&mut self, kind: u16, oddities: &mut Oddities) -> Option<Data> {
        Some(match kind {
            1 => match <[u8; 4]>::try_from(self.rest()) {
                Ok(address) => Data::Address(std::net::IpAddr::from(address)),
                Err(_) => Data::Other,
            },
            28 => match <[u8; 16]>::try_from(self.rest()) {
                Ok(address) => Data::Address(std::net::IpAddr::from(address)),
                Err(_) => Data::Other,
            },
            2 | 5 | 12 | 39 => Data::Name(self.name(oddities)?),
            15 => {
                self.u16()?;
                Data::Name(self.name(oddities)?)
            }
            6 => {
                let (mname, rname) = (self.name(oddities)?, self.name(oddities)?);
                let numbers = [self.u32()?, self.u32()?, self.u32()?, self.u32()?, self.u32()?];
                Data::Authority { mname, rname, numbers }
            }
            16 => {
                let mut texts = Vec::new();
                while self.at < self.message.len() {
                    let len = usize::from(self.u8()?);
                    texts.push(self.take(len)?.to_vec());
                }
                Data::Texts(texts)
            }
            10 => Data::Texts(vec![self.rest().to_vec()]),
            33 => {
                let (priority, weight, port) = (self.u16()?, self.u16()?, self.u16()?);
                Data::Service { priority, weight, port, target: self.name(oddities)? }
            }
            44 => {
                let (algorithm, kind) = (self.u8()?, self.u8()?);
                Data::HostKey { algorithm, kind, fingerprint: self.rest().to_vec() }
            }
            _ => Data::Other,
        })
    }

    fn rest(&self) -> &'a [u8] {
        self.message.get(self.at..).unwrap_or_default()
    }

    /// Records until one cannot be read; whether all could.
    fn records(&mut self, count: u16, oddities: &mut Oddities) -> (Vec<Record>, bool) {
        let mut records = Vec::new();
        for _ in 0..usize::from(count).min(RECORD_LIMIT) {
            match self.record(oddities) {
                Some(record) => records.push(record),
                None => return (records, false),
            }
        }
        (records, true)
    }
}

/// Reads the header alone.
pub(super) fn header(message: &[u8]) -> Option<Header> {
    let mut cursor = Cursor { message, at: 0 };
    Some(Header {
        id: cursor.u16()?,
        flags: cursor.u16()?,
        counts: [cursor.u16()?, cursor.u16()?, cursor.u16()?, cursor.u16()?],
    })
}

/// Reads a message; `None` if not even the header is there. What follows the first thing that cannot be read is left out.
pub(super) fn read(message: &[u8]) -> Option<Message> {
    let header = header(message)?;
    let mut cursor = Cursor { message, at: HEADER_LEN };
    let mut oddities = Oddities::default();
    let [question_count, answer_count, authority_count, additional_count] = header.counts;
    let mut read = Message {
        header,
        questions: Vec::new(),
        answers: Vec::new(),
        authorities: Vec::new(),
        additionals: Vec::new(),
        oddities,
    };
    'sections: {
        for _ in 0..usize::from(question_count).min(RECORD_LIMIT) {
            let Some(question) = cursor.question(&mut oddities) else {
                oddities.malformed = true;
                break 'sections;
            };
            read.questions.push(question);
        }
        let whole;
        (read.answers, whole) = cursor.records(answer_count, &mut oddities);
        if !whole {
            oddities.malformed = true;
            break 'sections;
        }
        let whole;
        (read.authorities, whole) = cursor.records(authority_count, &mut oddities);
        if !whole {
            oddities.malformed_authorities = true;
            break 'sections;
        }
        let whole;
        (read.additionals, whole) = cursor.records(additional_count, &mut oddities);
        oddities.malformed_additionals = !whole;
    }
    read.oddities = oddities;
    Some(read)
}
