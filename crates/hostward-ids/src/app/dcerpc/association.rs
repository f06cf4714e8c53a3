//! One connection's binds and calls, over TCP or within a named pipe of SMB.

use serde_json::{Map, Value, json};

use super::pdu::{self, HEADER_LEN, Header, Interface, Kind};
use crate::Direction::{self, ToClient, ToServer};
use crate::app::buffer::{Buffer, Integer};
use crate::app::queue::Queue;
use crate::app::{Fatal, Limits, Stage, Transaction, logged};

/// How many interfaces are remembered, and how many calls can wait for their answer.
const MAX_INTERFACES: usize = 64;
const MAX_CALLS: usize = 64;
/// How many calls' worth of stub data is kept at a time.
const MAX_STUBS: usize = 4;

/// What an association remembers.
#[derive(Debug)]
pub struct Association {
    stub_len: usize,
    /// How much stub data of unfinished calls is kept.
    held: usize,
    /// Where EVE's object lies in the transaction's: its own, or within the carrier's.
    within: Option<&'static str>,
    interfaces: Vec<Interface>,
    calls: Vec<Call>,
    /// A PDU that is not whole yet, of each direction; less than 64 KiB.
    partial: [Vec<u8>; 2],
}

#[derive(Debug)]
struct Call {
    id: u32,
    transaction: u64,
    answered: bool,
    stubs: [Stub; 2],
}

/// Stub data put together from fragments.
#[derive(Debug, Default)]
struct Stub {
    data: Vec<u8>,
    size: u64,
    fragments: u64,
}

/// Prepares transactions as the carrier wants them.
pub type Prepare<'a> = &'a dyn Fn(&mut Transaction);

impl Association {
    /// A new one. EVE's object is put under the key `within` of the transaction's, if there is one.
    #[must_use]
    pub fn new(limits: &Limits, within: Option<&'static str>) -> Self {
        Self {
            stub_len: limits.body_inspect_len,
            held: 0,
            within,
            interfaces: Vec::new(),
            calls: Vec::new(),
            partial: [Vec::new(), Vec::new()],
        }
    }

    /// Whether a PDU is cut short so far.
    #[must_use]
    pub fn within_pdu(&self, direction: Direction) -> bool {
        !self.partial[direction as usize].is_empty()
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Fatal`]: these are no PDUs.
    pub fn feed(
        &mut self,
        direction: Direction,
        mut data: &[u8],
        queue: &mut Queue,
        prepare: Prepare<'_>,
    ) -> Result<(), Fatal> {
        let mut partial = std::mem::take(&mut self.partial[direction as usize]);
        while !data.is_empty() {
            if partial.is_empty()
                && let Some(header) = whole(data)
            {
                let (pdu, rest) = data.split_at(header.fragment_len);
                self.pdu(direction, header, pdu, queue, prepare);
                data = rest;
                continue;
            }
            let wanted = match Header::read(&partial) {
                Some(header) => header.fragment_len,
                None => HEADER_LEN,
            };
            let take = wanted.saturating_sub(partial.len()).min(data.len());
            let (piece, rest) = data.split_at(take);
            partial.extend_from_slice(piece);
            data = rest;
            if partial.len() < HEADER_LEN {
                continue;
            }
            let header = Header::read(&partial).ok_or(Fatal("not DCE/RPC".into()))?;
            if partial.len() >= header.fragment_len {
                self.pdu(direction, header, &partial, queue, prepare);
                partial.clear();
            }
        }
        self.partial[direction as usize] = partial;
        Ok(())
    }

    fn pdu(&mut self, direction: Direction, header: Header, pdu: &[u8], queue: &mut Queue, prepare: Prepare<'_>) {
        let body = pdu.get(HEADER_LEN..).unwrap_or_default();
        match (header.kind, direction) {
            (Kind::Bind | Kind::AlterContext, ToServer) => self.bind(&header, body, queue, prepare),
            (Kind::BindAck | Kind::AlterContextResponse | Kind::BindNak, ToClient) => {
                self.bind_answered(&header, body, queue);
            }
            (Kind::Request, ToServer) => self.request(&header, body, queue, prepare),
            (Kind::Response | Kind::Fault, ToClient) => self.response(&header, body, queue, prepare),
            _ => {}
        }
    }

    fn begin<'q>(
        &mut self,
        header: &Header,
        queue: &'q mut Queue,
        prepare: Prepare<'_>,
    ) -> (&mut Call, &'q mut Transaction) {
        if self.calls.len() >= MAX_CALLS {
            let lost = self.calls.remove(0);
            self.held -= lost.held();
            if let Some(transaction) = queue.get(lost.transaction) {
                transaction.finish();
            }
        }
        let transaction = queue.begin();
        prepare(transaction);
        let call = Call {
            id: header.call,
            transaction: transaction.id,
            answered: false,
            stubs: [Stub::default(), Stub::default()],
        };
        let at = self.calls.len();
        self.calls.push(call);
        (&mut self.calls[at], transaction)
    }

    fn bind(&mut self, header: &Header, body: &[u8], queue: &mut Queue, prepare: Prepare<'_>) {
        let within = self.within;
        let found = pdu::bound(header, body);
        let (_, transaction) = self.begin(header, queue, prepare);
        let log = log(within, transaction);
        log.insert("request".into(), header.kind.name().into());
        log_header(log, header);
        log.insert("interfaces".into(), found.iter().map(Interface::logged).collect());
        transaction.progress[ToServer as usize] = Stage::Complete;
        for interface in found {
            self.interfaces.retain(|old| old.context != interface.context || old.call == interface.call);
            if self.interfaces.len() < MAX_INTERFACES {
                self.interfaces.push(interface);
            }
        }
    }

    fn bind_answered(&mut self, header: &Header, body: &[u8], queue: &mut Queue) {
        if header.kind != Kind::BindNak {
            let asked = self.interfaces.iter_mut().filter(|known| known.call == header.call && known.result.is_none());
            for (interface, result) in asked.zip(pdu::results(header, body)) {
                interface.result = Some(result);
            }
        }
        let Some(at) = self.calls.iter().position(|known| known.id == header.call) else { return };
        let call = self.calls.remove(at);
        self.held -= call.held();
        if let Some(transaction) = queue.get(call.transaction) {
            let log = log(self.within, transaction);
            log.insert("response".into(), header.kind.name().into());
            let interfaces = self.interfaces.iter().filter(|known| known.call == header.call);
            log.insert("interfaces".into(), interfaces.map(Interface::logged).collect());
            transaction.finish();
        }
    }

    fn request(&mut self, header: &Header, body: &[u8], queue: &mut Queue, prepare: Prepare<'_>) {
        let Some((context, operation, stub)) = pdu::call_body(header, body) else { return };
        let (within, stub_len) = (self.within, self.stub_len);
        let open = self.calls.iter().position(|known| known.id == header.call && !known.answered);
        let at = open.filter(|_| !header.first).unwrap_or_else(|| {
            let (_, transaction) = self.begin(header, queue, prepare);
            transaction.integers.push((Integer::DcerpcOpnum, u64::from(operation)));
            transaction.integers.push((Integer::DcerpcLittleEndian, u64::from(header.little)));
            let log = log(within, transaction);
            log.insert("request".into(), header.kind.name().into());
            log_header(log, header);
            if within.is_some() {
                log.insert("opnum".into(), operation.into());
            }
            log.insert("req".into(), json!({"opnum": operation}));
            let bound = self.interfaces.iter().rev().find(|known| known.context == context && known.result == Some(0));
            if let Some(bound) = bound {
                log.insert("interfaces".into(), json!([bound.logged()]));
                put_interface(transaction, bound.uuid, bound.version, header.first);
            }
            self.calls.len() - 1
        });
        let Some(call) = self.calls.get_mut(at) else { return };
        let before = call.held();
        let keep_len = stub_len.min((MAX_STUBS * stub_len).saturating_sub(self.held));
        if let Some(transaction) = queue.get(call.transaction) {
            call.fragment(ToServer, stub, header.last, keep_len, within, transaction);
        }
        self.held = self.held - before + call.held();
    }

    fn response(&mut self, header: &Header, body: &[u8], queue: &mut Queue, prepare: Prepare<'_>) {
        let Some((_, _, stub)) = pdu::call_body(header, body) else { return };
        let (within, stub_len) = (self.within, self.stub_len);
        let open = self.calls.iter().position(|known| known.id == header.call);
        let at = open.unwrap_or_else(|| {
            let (_, transaction) = self.begin(header, queue, prepare);
            transaction.directions[ToServer as usize] = false;
            log_header(log(within, transaction), header);
            self.calls.len() - 1
        });
        let Some(call) = self.calls.get_mut(at) else { return };
        call.answered = true;
        let before = call.held();
        let keep_len = stub_len.min((MAX_STUBS * stub_len).saturating_sub(self.held));
        if let Some(transaction) = queue.get(call.transaction) {
            log(within, transaction).insert("response".into(), header.kind.name().into());
            call.fragment(ToClient, stub, header.last, keep_len, within, transaction);
            if header.last {
                transaction.finish();
            }
        }
        self.held = self.held - before + call.held();
        if header.last {
            let call = self.calls.remove(at);
            self.held -= call.held();
        }
    }
}

impl Call {
    fn held(&self) -> usize {
        self.stubs.iter().map(|stub| stub.data.len()).sum()
    }

    fn fragment(
        &mut self,
        direction: Direction,
        data: &[u8],
        last: bool,
        keep_len: usize,
        within: Option<&'static str>,
        transaction: &mut Transaction,
    ) {
        let stub = &mut self.stubs[direction as usize];
        let room = keep_len.saturating_sub(stub.data.len());
        stub.data.extend_from_slice(data.get(..room).unwrap_or(data));
        stub.size += data.len() as u64;
        stub.fragments += 1;
        let key = if direction == ToServer { "req" } else { "res" };
        let entry = log(within, transaction).entry(key).or_insert_with(|| json!({}));
        entry["frag_cnt"] = stub.fragments.into();
        entry["stub_data_size"] = stub.size.into();
        if last {
            transaction.put(direction, Buffer::DcerpcStubData, std::mem::take(&mut stub.data));
            transaction.progress[direction as usize] = Stage::Complete;
        }
    }
}

/// What a rule's `dcerpc.iface` compares, in both directions; see [`crate::app::buffer`].
pub(super) fn put_interface(transaction: &mut Transaction, uuid: [u8; 16], version: (u16, u16), first: bool) {
    let mut data = uuid.to_vec();
    data.extend_from_slice(&version.0.to_be_bytes());
    data.extend_from_slice(&version.1.to_be_bytes());
    data.push(u8::from(first));
    transaction.put(ToServer, Buffer::DcerpcInterface, data.clone());
    transaction.put(ToClient, Buffer::DcerpcInterface, data);
}

fn whole(data: &[u8]) -> Option<Header> {
    Header::read(data).filter(|header| data.len() >= header.fragment_len)
}

fn log<'t>(within: Option<&'static str>, transaction: &'t mut Transaction) -> &'t mut Map<String, Value> {
    match within {
        Some(key) => logged::object(&mut transaction.log, key),
        None => &mut transaction.log,
    }
}

fn log_header(log: &mut Map<String, Value>, header: &Header) {
    log.insert("call_id".into(), header.call.into());
    log.insert("rpc_version".into(), format!("5.{}", header.minor).into());
}
