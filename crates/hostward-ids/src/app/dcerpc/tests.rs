use super::*;
use crate::Direction::{ToClient, ToServer};
use crate::app::buffer::{Buffer, Integer};
use crate::app::testing::hold_up;

/// A PDU in either byte order.
struct Pdu {
    little: bool,
    data: Vec<u8>,
}

impl Pdu {
    fn new(kind: u8, flags: u8, call: u32, little: bool) -> Self {
        let mut pdu = Self { little, data: vec![5, 0, kind, flags, if little { 0x10 } else { 0 }, 0, 0, 0] };
        pdu.u16(0).u16(0).u32(call);
        pdu
    }

    fn u16(&mut self, number: u16) -> &mut Self {
        self.data.extend(if self.little { number.to_le_bytes() } else { number.to_be_bytes() });
        self
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.data.extend(if self.little { number.to_le_bytes() } else { number.to_be_bytes() });
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.data.extend(bytes);
        self
    }

    fn done(&mut self) -> Vec<u8> {
        let len = self.data.len() as u16;
        self.data[8..10].copy_from_slice(&if self.little { len.to_le_bytes() } else { len.to_be_bytes() });
        self.data.clone()
    }
}

const UUID: [u8; 16] = [0x12, 0x34, 0x56, 0x78, 0x12, 0x34, 0xab, 0xcd, 0xef, 0, 1, 0x23, 0x45, 0x67, 0x89, 0xab];

fn conversation(little: bool) -> Vec<(Direction, Vec<u8>)> {
    let wire = pdu::uuid(UUID, little);
    let bind = Pdu::new(11, 3, 7, little)
        .u16(4280)
        .u16(4280)
        .u32(0)
        .bytes(&[2, 0, 0, 0])
        .u16(0)
        .bytes(&[1, 0])
        .bytes(&wire)
        .u32(3)
        .bytes(&[9; 20])
        .u16(1)
        .bytes(&[1, 0])
        .bytes(&wire)
        .u32(0x2_0001)
        .bytes(&[8; 20])
        .done();
    let ack = Pdu::new(12, 3, 7, little)
        .u16(4280)
        .u16(4280)
        .u32(1)
        .u16(4)
        .bytes(b"135\0\0\0")
        .bytes(&[2, 0, 0, 0])
        .u16(2)
        .u16(1)
        .bytes(&[0; 20])
        .u16(0)
        .u16(0)
        .bytes(&[8; 20])
        .done();
    let mut calls = Pdu::new(0, 1, 8, little).u32(9).u16(1).u16(26).bytes(b"stub ").done();
    calls.extend(Pdu::new(0, 2, 8, little).u32(9).u16(1).u16(26).bytes(b"data").done());
    let answer = Pdu::new(2, 3, 8, little).u32(9).u16(1).u16(0).bytes(b"answer").done();
    vec![(ToServer, bind), (ToClient, ack), (ToServer, calls), (ToClient, answer)]
}

fn borrowed(talk: &[(Direction, Vec<u8>)]) -> Vec<(Direction, &[u8])> {
    talk.iter().map(|(way, data)| (*way, data.as_slice())).collect()
}

#[test]
fn calls_in_both_byte_orders() {
    for little in [true, false] {
        let mut parser = over_stream(&Limits::default());
        for (direction, data) in conversation(little) {
            parser.parse(direction, &data).unwrap();
        }
        let [bind, call] = parser.transactions().make_contiguous() else { panic!("two transactions") };
        assert!(bind.complete() && call.complete());
        assert_eq!(bind.log["interfaces"][0]["ack_result"], 2);
        assert_eq!(call.log["interfaces"][0]["uuid"], "12345678-1234-abcd-ef00-0123456789ab");
        assert_eq!(call.log["interfaces"][0]["version"], "1.2");
        assert_eq!(call.log["req"], serde_json::json!({"opnum": 26, "frag_cnt": 2, "stub_data_size": 9}));
        assert!(call.integers.contains(&(Integer::DcerpcOpnum, 26)));
        assert!(call.integers.contains(&(Integer::DcerpcLittleEndian, u64::from(little))));
        let stubs: Vec<_> = call.buffers.iter().filter(|content| content.buffer == Buffer::DcerpcStubData).collect();
        assert_eq!(stubs[0].data, b"stub data");
        assert_eq!(stubs[1].data, b"answer");
        let interface = call.buffers.iter().find(|content| content.buffer == Buffer::DcerpcInterface).unwrap();
        assert_eq!(interface.data[..16], UUID);
        assert_eq!(interface.data[16..], [0, 1, 0, 2, 1]);
    }
}

#[test]
fn holds_up() {
    for little in [true, false] {
        hold_up(|| over_stream(&Limits::default()), &borrowed(&conversation(little)));
    }
}

#[test]
fn calls_without_answers_are_bounded() {
    let mut parser = over_stream(&Limits::default());
    for call in 0..10_000 {
        parser.parse(ToServer, &Pdu::new(0, 3, call, true).u32(9).u16(1).u16(26).bytes(b"stub").done()).unwrap();
    }
    assert!(parser.transactions().len() <= Limits::default().transactions);
    assert!(parser.transactions()[0].complete());
}

#[test]
fn credentials_are_no_stub_data() {
    let mut parser = over_stream(&Limits::default());
    let mut pdu = Pdu::new(0, 3, 1, true);
    pdu.u32(9).u16(1).u16(26).bytes(b"stub\0\0").bytes(&[10, 6, 2, 0, 0, 0, 0, 0]).bytes(&[1; 16]);
    pdu.data[10] = 16;
    parser.parse(ToServer, &pdu.done()).unwrap();
    assert_eq!(parser.transactions()[0].buffers[0].data, b"stub");
}

#[test]
fn datagrams_name_their_interface() {
    let mut datagram = vec![4, 0, 0, 0, 0x10, 0, 0, 0];
    datagram.extend([0; 16]);
    datagram.extend(pdu::uuid(UUID, true));
    datagram.extend([7; 16]);
    datagram.extend([0, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 26, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0]);
    datagram.extend(b"stub");
    let mut parser = over_datagrams(&Limits::default());
    parser.parse(ToServer, &datagram).unwrap();
    let call = &parser.transactions()[0];
    assert_eq!(call.log["interfaces"][0]["uuid"], "12345678-1234-abcd-ef00-0123456789ab");
    assert!(call.buffers.iter().any(|content| content.data == b"stub"));
    for len in 0..datagram.len() {
        let _ = parser.parse(ToClient, &datagram[..len]);
    }
}
