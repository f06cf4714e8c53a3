//! What is encoded is read back by a decoder that shares nothing with the encoder, whatever was in it.

use std::net::IpAddr;
use std::net::Ipv6Addr;

use hostward_export::sflow::DropReason;
use hostward_export::sflow::Exporter;
use hostward_export::sflow::FlowRecord;
use hostward_export::sflow::FlowSample;
use hostward_export::sflow::Interface;
use hostward_export::sflow::MOST_BYTES;
use hostward_export::sflow::Socket;
use hostward_export::sflow::Source;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn fixed(&mut self, len: usize) -> &'a [u8] {
        let (found, rest) = self.0.split_at(len);
        let (padding, rest) = rest.split_at(len.next_multiple_of(4) - len);
        assert!(padding.iter().all(|&byte| byte == 0));
        self.0 = rest;
        found
    }

    fn unsigned(&mut self) -> u32 {
        u32::from_be_bytes(self.fixed(4).try_into().unwrap())
    }

    fn variable(&mut self) -> &'a [u8] {
        let len = self.unsigned() as usize;
        self.fixed(len)
    }
}

/// Sequence number of a datagram, and of each of its flow samples: sequence, source, rate, pool, drops, input, output, and
/// format and body of each record.
type Decoded = (u32, Vec<([u32; 7], Vec<(u32, Vec<u8>)>)>);

fn decode(datagram: &[u8]) -> Decoded {
    let mut reader = Reader(datagram);
    assert_eq!(reader.unsigned(), 5);
    let address = if reader.unsigned() == 1 { 4 } else { 16 };
    reader.fixed(address);
    assert_eq!(reader.unsigned(), 9, "the sub-agent");
    let sequence = reader.unsigned();
    assert_eq!(reader.unsigned(), 77, "uptime");
    let mut samples = Vec::new();
    for _ in 0..reader.unsigned() {
        assert_eq!(reader.unsigned(), 1, "a flow sample");
        let mut sample = Reader(reader.variable());
        let fields = std::array::from_fn(|_| sample.unsigned());
        let count = sample.unsigned();
        let records = (0..count).map(|_| (sample.unsigned(), sample.variable().to_vec())).collect();
        assert!(sample.0.is_empty());
        samples.push((fields, records));
    }
    assert!(reader.0.is_empty());
    (sequence, samples)
}

/// xorshift64*: the same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.below(256) as u8).collect()
    }
}

#[test]
fn whatever_is_put_in_comes_out_in_datagrams_of_the_size_that_was_promised() {
    for agent in ["192.0.2.1", "2001:db8::1"] {
        let mut random = Random(20_041);
        let mut exporter = Exporter::new(agent.parse().unwrap(), 9);
        let (mut datagrams, mut put) = (Vec::new(), Vec::new());
        for number in 0..2_000u32 {
            let header = random.bytes(128);
            let (source, destination) = ("ä".repeat(random.below(40)), "b".repeat(random.below(300)));
            let remote = IpAddr::from(Ipv6Addr::from(u128::from(number)));
            let socket =
                Socket { protocol: 6, local: agent.parse().unwrap(), remote, local_port: 1, remote_port: 65_535 };
            let all = [
                FlowRecord::RawHeader { frame_len: number, header: &header },
                FlowRecord::User { source: &source, destination: &destination },
                FlowRecord::Reason("hostward/policy"),
                FlowRecord::Socket(socket),
            ];
            let records = &all[..=random.below(4)];
            let output = Interface::Discarded(DropReason::Acl);
            let pool = u64::from(number) << 20;
            let sample = FlowSample { rate: 3, pool, drops: 1 << 33 | 5, input: Interface::Index(7), output, records };
            let from = if number % 2 == 0 { Source::Interface(7) } else { Source::Logical(1 << 25 | 2) };
            datagrams.extend(exporter.push_flow(from, &sample, 77));
            let source = if number % 2 == 0 { 7 } else { 3 << 24 | 2 };
            put.push(([number / 2 + 1, source, 3, pool as u32, 5, 7, 0x4000_0102], header.clone(), records.len()));
        }
        datagrams.extend(exporter.flush(77));
        assert_eq!(exporter.flush(77), None);
        assert_eq!(exporter.oversized(), 0);
        assert!(datagrams.iter().all(|datagram| datagram.len() <= MOST_BYTES && datagram.len() % 4 == 0));
        let decoded: Vec<Decoded> = datagrams.iter().map(|datagram| decode(datagram)).collect();
        assert!(decoded.iter().zip(1..).all(|((sequence, _), number)| *sequence == number));
        let found: Vec<_> = decoded.into_iter().flat_map(|(_, samples)| samples).collect();
        assert_eq!(found.len(), put.len());
        for ((fields, records), (expected, header, count)) in found.into_iter().zip(put) {
            assert_eq!((fields, records.len()), (expected, count));
            let formats: Vec<u32> = records.iter().map(|(format, _)| *format).collect();
            assert_eq!(formats, [1, 1004, 1042, 2101][..count]);
            let mut raw = Reader(&records[0].1);
            assert_eq!((raw.unsigned(), raw.unsigned() < 2_000, raw.unsigned()), (1, true, 0));
            assert_eq!(raw.variable(), header);
        }
    }
}
