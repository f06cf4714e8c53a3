//! Links, tunnels and fragments through the whole engine, and bytes that nobody would send.

mod common;

use common::{CLIENT, Conversation, SERVER, ipv4, tcp, udp};
use hostward_ids::decode::link;
use hostward_ids::engine::PacketVerdict;

const RULES: &str = r#"
alert udp any any -> any 9 (content:"needle"; sid:1;)
alert ip any any -> any any (decode-event:ipv4.frag_overlap; sid:2;)
drop udp any any -> any 7 (content:"bad"; sid:3;)
"#;

fn needle() -> Vec<u8> {
    ipv4(CLIENT, SERVER, 17, 0, &udp((1234, 9), b"a needle here"))
}

fn ethernet(kinds: &[u16], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for kind in kinds {
        frame.extend_from_slice(&kind.to_be_bytes());
        if matches!(kind, 0x8100 | 0x88a8) {
            frame.extend_from_slice(&[0, 5]);
        }
    }
    frame.extend_from_slice(payload);
    frame
}

fn with(before: &[u8]) -> Vec<u8> {
    [before, &needle()].concat()
}

#[test]
fn every_link_and_tunnel_leads_to_the_packet() {
    let gre = ipv4(CLIENT, SERVER, 47, 0, &with(&[0, 0, 8, 0]));
    let vxlan = udp((1, 4789), &[&[8, 0, 0, 0, 0, 0, 9, 0], ethernet(&[0x0800], &needle()).as_slice()].concat());
    let geneve = udp((1, 6081), &with(&[0, 0, 8, 0, 0, 0, 9, 0]));
    let frames = [
        ("ethernet", link::ETHERNET, ethernet(&[0x0800], &needle())),
        ("vlan in vlan", link::ETHERNET, ethernet(&[0x88a8, 0x8100, 0x0800], &needle())),
        ("mpls", link::ETHERNET, ethernet(&[0x8847], &with(&[0, 1, 0x01, 64]))),
        ("pppoe", link::ETHERNET, ethernet(&[0x8864], &with(&[0x11, 0, 0, 1, 0, 43, 0, 0x21]))),
        ("raw", link::RAW, needle()),
        ("null", link::NULL, with(&[2, 0, 0, 0])),
        ("loop", link::LOOP, with(&[0, 0, 0, 2])),
        ("cooked", link::LINUX_SLL, with(&[0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0, 8, 0])),
        ("cooked 2", link::LINUX_SLL2, with(&[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0])),
        ("gre", link::RAW, gre.clone()),
        ("ip in ip", link::RAW, ipv4(CLIENT, SERVER, 4, 0, &needle())),
        ("gre in ip in ip", link::RAW, ipv4(CLIENT, SERVER, 4, 0, &gre)),
        ("vxlan", link::RAW, ipv4(CLIENT, SERVER, 17, 0, &vxlan)),
        ("geneve", link::RAW, ipv4(CLIENT, SERVER, 17, 0, &geneve)),
    ];
    for (name, link_type, frame) in frames {
        let mut talk = Conversation::new(RULES, &[]);
        talk.frame(link_type, &frame);
        assert_eq!(talk.heard.alerts(), [1], "{name}");
    }
}

#[test]
fn the_inner_packet_tells_its_tunnel() {
    let mut talk = Conversation::new(RULES, &[]);
    talk.ip(&ipv4([192, 0, 2, 1], [192, 0, 2, 2], 4, 0, &needle()));
    let alert = talk.heard.of("alert").next().unwrap();
    assert_eq!(alert["pkt_src"], "ipv4 tunnel");
    assert_eq!((&alert["src_ip"], &alert["tunnel"]["src_ip"]), (&"10.0.0.1".into(), &"192.0.2.1".into()));
}

#[test]
fn vxlan_can_be_left_alone() {
    let frame = udp((1, 4789), &[&[8, 0, 0, 0, 0, 0, 9, 0], ethernet(&[0x0800], &needle()).as_slice()].concat());
    let mut talk = Conversation::new(RULES, &[("decoder.vxlan.enabled", "false")]);
    talk.ip(&ipv4(CLIENT, SERVER, 17, 0, &frame));
    assert!(talk.heard.alerts().is_empty());
}

#[test]
fn fragments_in_any_order() {
    let datagram = udp((1234, 9), b"a needle here, and more");
    let parts = [(0, &datagram[..16], true), (16, &datagram[16..24], true), (24, &datagram[24..], false)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut talk = Conversation::new(RULES, &[]);
        for (offset, data, more) in order.map(|place| parts[place]) {
            talk.ip(&ipv4(CLIENT, SERVER, 17, (offset / 8) | if more { 0x2000 } else { 0 }, data));
        }
        assert_eq!(talk.heard.alerts(), [1], "{order:?}");
    }
}

#[test]
fn overlapping_fragments_are_noticed() {
    let datagram = udp((1234, 9), b"a needle here, and more");
    let mut talk = Conversation::new(RULES, &[]);
    talk.ip(&ipv4(CLIENT, SERVER, 17, 0x2000, &datagram[..16]));
    talk.ip(&ipv4(CLIENT, SERVER, 17, 0x2001, &[b'z'; 16]));
    assert_eq!(talk.heard.alerts(), [2]);
}

#[test]
fn a_drop_is_a_verdict_only_inline() {
    let packet = ipv4(CLIENT, SERVER, 17, 0, &udp((1234, 7), b"bad"));
    let mut aside = Conversation::new(RULES, &[]);
    assert_eq!(aside.ip(&packet), PacketVerdict::Pass);
    assert_eq!(aside.heard.of("alert").next().unwrap()["alert"]["action"], "allowed");
    let mut inline = Conversation::new(RULES, &[("simulate-ips", "true")]);
    assert_eq!(inline.ip(&packet), PacketVerdict::Drop);
    assert_eq!(inline.heard.of("alert").next().unwrap()["alert"]["action"], "blocked");
}

/// A generator of numbers that are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let links = [0, 1, 9, 12, 101, 104, 108, 113, 228, 229, 276, 7];
    let vxlan = udp((1, 4789), &[&[8, 0, 0, 0, 0, 0, 9, 0], ethernet(&[0x0800], &needle()).as_slice()].concat());
    let mut six = vec![0x60, 0, 0, 0, 0, 40, 0, 64];
    six.extend_from_slice(&[1; 32]);
    six.extend_from_slice(&[60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 5, 2, 0, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 9]);
    six.extend_from_slice(&[0; 16]);
    let seeds = [
        ethernet(&[0x8100, 0x0800], &needle()),
        ethernet(&[0x8847], &with(&[0, 1, 0x01, 64])),
        ethernet(&[0x86dd], &six),
        ethernet(&[0x894f], &with(&[0, 6, 1, 1, 0, 0, 0, 0])),
        ipv4(CLIENT, SERVER, 47, 0, &with(&[0, 0, 8, 0])),
        ipv4(CLIENT, SERVER, 17, 0, &vxlan),
        ipv4(CLIENT, SERVER, 6, 0, &tcp((5, 80), 1, 1, 2, b"\x02\x04\x05\xb4\x08\x0aGET / HTTP/1.1\r\n\r\n")),
        ipv4(CLIENT, SERVER, 17, 0x2000, &udp((1234, 53), b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01")),
        six,
    ];
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut talk = Conversation::new(RULES, &[("stream.midstream", "true")]);
    for round in 0..40_000 {
        let mut frame = seeds[round % seeds.len()].clone();
        for _ in 0..numbers.below(6) {
            let at = numbers.below(frame.len());
            frame[at] = numbers.below(256) as u8;
        }
        if numbers.below(3) == 0 {
            frame.truncate(numbers.below(frame.len() + 1));
        }
        talk.frame(links[numbers.below(links.len())], &frame);
    }
    talk.finish();
}
