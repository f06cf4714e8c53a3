//! What else packets of a device meet: every classifier of its clsact qdisc, and XDP. By rtnetlink(7), because libbpf asks
//! for one classifier at a time and opens a socket for each question.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::recv;
use rustix::net::send;
use rustix::net::socket_with;

use crate::port::Direction;

// linux/rtnetlink.h, linux/netlink.h, linux/pkt_sched.h, linux/pkt_cls.h, linux/if_link.h
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_FILTER: u16 = 44;
const GET_FILTER: u16 = 46;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
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
const XDP: u16 = 43;
const XDP_ATTACHED: u16 = 2;
const HEADER: usize = 16;
const FILTER_BODY: usize = 20;
const LINK_BODY: usize = 16;

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

/// A socket that stays in the namespace in which it was opened, wherever it is used.
pub struct Rtnetlink {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Rtnetlink {
    /// Opened in this thread's namespace.
    pub fn open() -> io::Result<Self> {
        // No protocol is number 0, NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, buffer: vec![0; 1 << 16] })
    }

    /// The classifiers of one direction, in the kernel's order; none where there is no such qdisc.
    pub fn filters(&mut self, ifindex: i32, direction: Direction) -> io::Result<Vec<Filter>> {
        let hook = if direction == Direction::Egress { INGRESS } else { EGRESS };
        let mut body = vec![0; 4];
        body.extend(ifindex.to_ne_bytes());
        body.extend([0; 4]); // handle
        body.extend((CLSACT | hook).to_ne_bytes());
        body.extend([0; 4]);
        let mut found = Vec::new();
        self.ask(GET_FILTER, DUMP, &body, |kind, answer| {
            if kind == NEW_FILTER && answer.len() >= FILTER_BODY {
                found.push(parse(answer));
            }
            true
        })?;
        Ok(found)
    }

    /// Whether a program is in front of all hooks of a device.
    pub fn has_xdp(&mut self, ifindex: i32) -> io::Result<bool> {
        let mut body = vec![0; 4];
        body.extend(ifindex.to_ne_bytes());
        body.extend([0; 8]);
        let mut found = Err(io::Error::from(io::ErrorKind::NotFound));
        self.ask(GET_LINK, 0, &body, |kind, answer| {
            if kind == NEW_LINK && answer.len() >= LINK_BODY {
                let xdp = attributes(&answer[LINK_BODY..]).find(|&(kind, _)| kind == XDP);
                let attached = xdp.and_then(|(_, value)| attributes(value).find(|&(kind, _)| kind == XDP_ATTACHED));
                found = Ok(attached.is_some_and(|(_, mode)| mode != [0]));
            }
            false
        })?;
        found
    }

    /// Hands over each message of the answer, until there are no more or `more` says that these were all.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8], mut more: impl FnMut(u16, &[u8]) -> bool) -> io::Result<()> {
        let mut question = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        question.extend(kind.to_ne_bytes());
        question.extend((REQUEST | flags).to_ne_bytes());
        question.extend([0; 8]); // sequence and sender
        question.extend(body);
        send(&self.socket, &question, SendFlags::empty())?;
        loop {
            let (length, _) = recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty())?;
            let mut messages = &self.buffer[..length];
            while messages.len() >= HEADER {
                let length = word(messages, 0) as usize;
                let Some(message) = messages.get(HEADER..length) else {
                    return Err(io::Error::from(io::ErrorKind::InvalidData));
                };
                let kind = half(messages, 4);
                if kind == DONE || kind == ERROR || !more(kind, message) {
                    return Ok(());
                }
                messages = messages.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

fn parse(body: &[u8]) -> Filter {
    let mut filter = Filter { place: (word(body, 8), word(body, 16)), ..Filter::default() };
    for (kind, value) in attributes(&body[FILTER_BODY..]) {
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
