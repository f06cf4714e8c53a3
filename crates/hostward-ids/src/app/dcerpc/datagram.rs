//! DCE/RPC over datagrams (C706 §12.5): every datagram names its interface and its call itself.

use std::collections::VecDeque;

use serde_json::json;

use super::association::put_interface;
use super::pdu::{Kind, uuid, uuid_text};
use crate::Direction::{self, ToClient, ToServer};
use crate::app::buffer::{Buffer, Integer};
use crate::app::cursor::Cursor;
use crate::app::queue::Queue;
use crate::app::{Fatal, Limits, Parser, Protocol, Stage, Transaction};

const MAX_CALLS: usize = 64;

/// See [`super::over_datagrams`].
#[derive(Debug)]
pub struct Datagrams {
    queue: Queue,
    stub_len: usize,
    calls: VecDeque<Call>,
}

#[derive(Debug)]
struct Call {
    activity: [u8; 16],
    sequence: u32,
    transaction: u64,
    stubs: [Vec<u8>; 2],
}

#[derive(Debug)]
struct Header {
    kind: Kind,
    /// Neither a fragment nor the last one: it is not whole yet.
    more: bool,
    number: u16,
    little: bool,
    interface: [u8; 16],
    version: (u16, u16),
    activity: [u8; 16],
    sequence: u32,
    operation: u16,
}

impl Header {
    fn read(data: &[u8]) -> Option<(Self, &[u8])> {
        let mut cursor = Cursor::big(data);
        let [version, kind, flags, _, representation, ..] = cursor.array::<8>()?;
        let little = representation & 0x10 != 0;
        let mut cursor = Cursor::ordered(cursor.rest(), little);
        cursor.take(16)?;
        let interface = uuid(cursor.array()?, little);
        let activity = uuid(cursor.array()?, little);
        cursor.take(4)?;
        let (interface_version, sequence, operation) = (cursor.u32()?, cursor.u32()?, cursor.u16()?);
        cursor.take(4)?;
        let (len, number) = (cursor.u16()?, cursor.u16()?);
        cursor.take(2)?;
        let stub = cursor.rest().get(..usize::from(len)).unwrap_or(cursor.rest());
        let header = Self {
            kind: Kind::of(kind & 0x1f),
            more: flags & 0x04 != 0 && flags & 0x02 == 0,
            number,
            little,
            interface,
            version: (interface_version as u16, (interface_version >> 16) as u16),
            activity,
            sequence,
            operation,
        };
        (version == 4).then_some((header, stub))
    }
}

impl Datagrams {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { queue: Queue::new(limits.transactions), stub_len: limits.body_inspect_len, calls: VecDeque::new() }
    }

    fn call(&mut self, header: &Header) -> usize {
        let same = |call: &Call| call.activity == header.activity && call.sequence == header.sequence;
        if let Some(at) = self.calls.iter().position(same) {
            return at;
        }
        if self.calls.len() >= MAX_CALLS
            && let Some(lost) = self.calls.pop_front()
            && let Some(transaction) = self.queue.get(lost.transaction)
        {
            transaction.finish();
        }
        let transaction = self.queue.begin();
        let log = &mut transaction.log;
        log.insert("request".into(), header.kind.name().into());
        log.insert("req".into(), json!({"opnum": header.operation}));
        log.insert("rpc_version".into(), "4.0".into());
        log.insert("activityuuid".into(), uuid_text(header.activity).into());
        log.insert("seqnum".into(), header.sequence.into());
        let version = format!("{}.{}", header.version.0, header.version.1);
        log.insert("interfaces".into(), json!([{"uuid": uuid_text(header.interface), "version": version}]));
        transaction.integers.push((Integer::DcerpcOpnum, u64::from(header.operation)));
        transaction.integers.push((Integer::DcerpcLittleEndian, u64::from(header.little)));
        put_interface(transaction, header.interface, header.version, header.number == 0);
        self.calls.push_back(Call {
            activity: header.activity,
            sequence: header.sequence,
            transaction: transaction.id,
            stubs: [Vec::new(), Vec::new()],
        });
        self.calls.len() - 1
    }
}

impl Parser for Datagrams {
    fn protocol(&self) -> Protocol {
        Protocol::Dcerpc
    }

    fn parse(&mut self, direction: Direction, data: &[u8]) -> Result<(), Fatal> {
        let (header, stub) = Header::read(data).ok_or(Fatal("not DCE/RPC".into()))?;
        match (header.kind, direction) {
            (Kind::Request, ToServer) | (Kind::Response | Kind::Fault, ToClient) => {}
            _ => return Ok(()),
        }
        let at = self.call(&header);
        let Some(call) = self.calls.get_mut(at) else { return Ok(()) };
        let kept = &mut call.stubs[direction as usize];
        let room = self.stub_len.saturating_sub(kept.len());
        kept.extend_from_slice(stub.get(..room).unwrap_or(stub));
        if header.more {
            return Ok(());
        }
        let kept = std::mem::take(kept);
        if let Some(transaction) = self.queue.get(call.transaction) {
            if direction == ToClient {
                transaction.log.insert("response".into(), header.kind.name().into());
            }
            transaction.put(direction, Buffer::DcerpcStubData, kept);
            transaction.progress[direction as usize] = Stage::Complete;
        }
        if direction == ToClient {
            self.calls.remove(at);
        }
        Ok(())
    }

    fn gap(&mut self, _: Direction, _: usize) -> Result<(), Fatal> {
        Ok(())
    }

    fn close(&mut self, direction: Direction) {
        self.queue.close(direction);
    }

    fn transactions(&mut self) -> &mut VecDeque<Transaction> {
        self.queue.all()
    }
}
