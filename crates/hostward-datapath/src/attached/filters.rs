//! The classifiers of a device's clsact qdisc, all of them: rtnetlink(7), because libbpf asks for one at a time.

use std::io;

use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::recv;
use rustix::net::send;
use rustix::net::socket_with;

use crate::port::Direction;

// linux/rtnetlink.h, linux/netlink.h, linux/pkt_sched.h, linux/pkt_cls.h
const NEW_FILTER: u16 = 44;
const GET_FILTER: u16 = 46;
const REQUEST_DUMP: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const CLSACT: u32 = 0xffff_0000;
const INGRESS: u32 = 0xfff2;
const EGRESS: u32 = 0xfff3;
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const CHAIN: u16 = 11;
const BPF_FLAGS: u16 = 8;
const BPF_ID: u16 = 11;
const HEADER: usize = 16;
const BODY: usize = 20;
/// Nobody needs so many; whoever adds more is told apart by these already.
const FILTERS_MAX: usize = 64;

/// One classifier.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Handle, and priority with protocol.
    pub place: (u32, u32),
    /// `bpf`, `flower` …
    pub kind: Vec<u8>,
    /// 0: the one that packets begin with.
    pub chain: Vec<u8>,
    /// Of `bpf`: whether its program's answer is what happens.
    pub flags: Vec<u8>,
    /// Of `bpf`: the program's number.
    pub program: Option<u32>,
}

/// The classifiers of one direction, in the kernel's order; none where there is no such qdisc.
pub fn filters_at(ifindex: i32, direction: Direction) -> io::Result<Vec<Filter>> {
    // No protocol is number 0, NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let hook = if direction == Direction::Egress { INGRESS } else { EGRESS };
    let mut question = Vec::with_capacity(HEADER + BODY);
    question.extend(((HEADER + BODY) as u32).to_ne_bytes());
    question.extend(GET_FILTER.to_ne_bytes());
    question.extend(REQUEST_DUMP.to_ne_bytes());
    question.extend([0; 8 + 4]); // sequence and sender; family
    question.extend(ifindex.to_ne_bytes());
    question.extend([0; 4]); // handle
    question.extend((CLSACT | hook).to_ne_bytes());
    question.extend([0; 4]);
    send(&socket, &question, SendFlags::empty())?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (length, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        if !take(&buffer[..length], &mut found) || found.len() > FILTERS_MAX {
            return Ok(found);
        }
    }
}

/// Whether more is to come.
fn take(mut messages: &[u8], found: &mut Vec<Filter>) -> bool {
    while messages.len() >= HEADER {
        let length = word(messages, 0) as usize;
        let Some(message) = messages.get(..length).filter(|_| length >= HEADER) else { return false };
        match half(message, 4) {
            DONE | ERROR => return false,
            NEW_FILTER if length >= HEADER + BODY => found.push(parse(&message[HEADER..])),
            _ => {}
        }
        messages = messages.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    true
}

fn parse(body: &[u8]) -> Filter {
    let mut filter = Filter { place: (word(body, 8), word(body, 16)), ..Filter::default() };
    for (kind, value) in attributes(&body[BODY..]) {
        match kind {
            KIND => filter.kind = value.to_vec(),
            CHAIN => filter.chain = value.to_vec(),
            OPTIONS => {
                for (kind, value) in attributes(value) {
                    match kind {
                        BPF_FLAGS => filter.flags = value.to_vec(),
                        BPF_ID if value.len() == 4 => filter.program = Some(word(value, 0)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    filter
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(half(bytes.get(..4)?, 0));
        let value = bytes.get(4..length)?;
        let kind = half(bytes, 2) & 0x3fff; // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap_or_default())
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap_or_default())
}
