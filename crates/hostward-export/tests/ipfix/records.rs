//! What records, templates and options say.

use std::collections::HashMap;
use std::net::UdpSocket;

use hostward_abi as abi;
use hostward_export::ipfix::Counts;
use hostward_export::ipfix::DEFAULT_ENTERPRISE;
use hostward_export::ipfix::DatapathLosses;
use hostward_export::ipfix::EndpointName;
use hostward_export::ipfix::Exporter;
use hostward_export::ipfix::Form;
use hostward_export::ipfix::Sender;
use hostward_export::ipfix::Settings;

use crate::decoder::Data;
use crate::decoder::Decoder;
use crate::world::MILLISECOND;
use crate::world::SECOND;
use crate::world::World;

const REVERSE: u32 = 29_305;
const OWN: u32 = DEFAULT_ENTERPRISE;
const REAL: u64 = 1_700_000_000 * SECOND;

/// A collector's socket and an exporter that is connected to it.
pub fn connected(settings: Settings, waiting: usize) -> (UdpSocket, Exporter) {
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
    collector.set_nonblocking(true).unwrap();
    let sender = Sender::connect(collector.local_addr().unwrap(), waiting).unwrap();
    (collector, Exporter::new(settings, Some(sender), None))
}

/// What the collector has, decoded; messages of at most 1,400 octets.
pub fn received(collector: &UdpSocket, decoder: &mut Decoder) -> Vec<Data> {
    let mut records = Vec::new();
    let mut message = [0; 2_000];
    while let Ok(length) = collector.recv(&mut message) {
        assert!(length <= 1_400);
        records.extend(decoder.decode(&message[..length]));
    }
    records
}

fn name(tenant: &str) -> EndpointName {
    EndpointName {
        tenant: tenant.to_owned(),
        endpoint: format!("{tenant}/web1"),
        groups: "app,web".to_owned(),
        interface: 7,
        device: "tap0".to_owned(),
    }
}

#[test]
fn a_biflow_is_one_record_with_own_elements_last() {
    let (collector, mut exporter) = connected(Settings::default(), 64);
    exporter.set_endpoints(HashMap::from([(1, name("acme"))]));
    exporter.add_rules([(5, "acme/web,acme/db".to_owned())], false);
    exporter.set_executables(HashMap::from([((1, 2), "/usr/bin/curl".to_owned())]));
    let mut world = World::new(1);
    exporter.tick(world.now_ns, REAL);
    let mut flow = first_flow(&mut world, &mut exporter);
    (flow.packets, flow.bytes) = ([3, 2], [300, 2_000]);
    world.now_ns += 5 * MILLISECOND;
    flow.seen_ns = world.now_ns;
    let mut end = world.event(0, &flow, abi::event_kind::EVENT_END);
    end.process = 2;
    exporter.event(&end);
    exporter.tick(world.now_ns + SECOND, REAL + SECOND);
    let records = received(&collector, &mut Decoder::default());
    let record = records.iter().find(|record| record.template == 256).unwrap();
    let outward = flow.opener == abi::direction::EGRESS;
    let (forward, reverse) = if outward { ((3, 300), (2, 2_000)) } else { ((2, 2_000), (3, 300)) };
    assert_eq!((record.number((0, 2)), record.number((0, 1))), forward);
    assert_eq!((record.number((REVERSE, 2)), record.number((REVERSE, 1))), reverse);
    assert_eq!(record.octets((0, 8)).unwrap(), if outward { [10, 0, 0, 1] } else { [10, 0, 0, 2] });
    assert_eq!((record.number((0, 11)), record.number((0, 4)), record.number((0, 239))), (53, 17, 1));
    assert_eq!(record.number((0, 61)), u64::from(outward));
    assert_eq!((record.number((0, 10)), record.number((0, 14))), if outward { (7, 0) } else { (0, 7) });
    assert_eq!(record.number((0, 89)), 64, "forwarded");
    assert_eq!(record.text((OWN, 1)), "acme");
    assert_eq!(record.text((OWN, 2)), "app,web");
    assert_eq!(record.text((OWN, 3)), "/usr/bin/curl");
    assert_eq!(record.text((OWN, 4)), "acme/web,acme/db");
    assert_eq!(record.number((OWN, 5)), 9);
    assert_eq!(record.text((OWN, 6)), "acme/web1");
    assert_eq!(record.number((0, 153)) - record.number((0, 152)), 5, "milliseconds");
}

fn first_flow(world: &mut World, exporter: &mut Exporter) -> crate::world::Flow {
    let opened = world.step(1);
    exporter.event(&opened[0]);
    world.flows[&0]
}

#[test]
fn the_standard_form_has_no_enterprise_and_two_records_for_a_biflow() {
    let settings = Settings { form: Form::Standard, ..Settings::default() };
    let (collector, mut exporter) = connected(settings, 64);
    exporter.set_endpoints(HashMap::from([(1, name("acme"))]));
    let mut world = World::new(2);
    exporter.tick(world.now_ns, REAL);
    let mut flow = first_flow(&mut world, &mut exporter);
    (flow.packets, flow.bytes) = ([3, 2], [300, 2_000]);
    exporter.event(&world.event(0, &flow, abi::event_kind::EVENT_END));
    exporter.tick(world.now_ns + SECOND, REAL + SECOND);
    let records = received(&collector, &mut Decoder::default());
    assert!(records.iter().all(|record| record.enterprises().iter().all(|&enterprise| enterprise == 0)));
    let flows: Vec<&Data> = records.iter().filter(|record| !record.options).collect();
    let [forward, reverse] = flows[..] else { panic!("{} records", flows.len()) };
    assert_eq!(forward.octets((0, 8)), reverse.octets((0, 12)));
    assert_eq!(forward.number((0, 7)), reverse.number((0, 11)));
    assert_ne!(forward.number((0, 61)), reverse.number((0, 61)), "the other direction");
    let mut sizes = [forward, reverse].map(|record| (record.number((0, 2)), record.number((0, 1))));
    sizes.sort_unstable();
    assert_eq!(sizes, [(2, 2_000), (3, 300)]);
}

#[test]
fn denials_are_records_and_frames_without_addresses_too() {
    let (collector, mut exporter) = connected(Settings::default(), 64);
    let mut world = World::new(3);
    let _ = world.step(1);
    exporter.tick(world.now_ns, REAL);
    let mut denied = world.event(0, &world.flows[&0], abi::event_kind::EVENT_DENIED);
    (denied.verdict, denied.packets, denied.bytes) = (abi::verdict::VERDICT_DENY as u8, 40, 4_000);
    denied.reason = abi::reason::REASON_POLICY as u8;
    exporter.event(&denied);
    (denied.source, denied.destination, denied.source_mac) = ([0; 16], [0; 16], [2, 0, 0, 0, 0, 9]);
    (denied.ethertype, denied.reason) = (0x0806_u16.to_be(), abi::reason::REASON_ARP_SPOOF as u8);
    exporter.event(&denied);
    exporter.tick(world.now_ns + SECOND, REAL + SECOND);
    let records = received(&collector, &mut Decoder::default());
    let policy = records.iter().find(|record| record.template == 256).unwrap();
    assert_eq!((policy.number((0, 2)), policy.number((0, 89))), (40, 129), "ACL deny");
    assert_eq!(policy.text((OWN, 7)), "policy");
    let link = records.iter().find(|record| record.template == 260).unwrap();
    assert_eq!((link.number((0, 256)), link.octets((0, 56)).unwrap()), (0x0806, &[2, 0, 0, 0, 0, 9][..]));
    assert_eq!(link.text((OWN, 7)), "arp-spoof");
}

#[test]
fn options_tell_types_interfaces_selection_and_losses_and_come_again() {
    let (collector, mut exporter) = connected(Settings::default(), 64);
    exporter.set_endpoints(HashMap::from([(1, name("acme"))]));
    exporter.set_losses(DatapathLosses { bucket: 11, ring: 3 });
    exporter.tick(SECOND, REAL);
    let mut decoder = Decoder::default();
    let records = received(&collector, &mut decoder);
    let selection = records.iter().find(|record| record.octets((0, 304)).is_some()).unwrap();
    assert_eq!((selection.number((0, 305)), selection.number((0, 306))), (1, 0), "nothing is left out");
    let interface = records.iter().find(|record| record.octets((0, 82)).is_some()).unwrap();
    assert_eq!((interface.number((0, 10)), interface.text((0, 83))), (7, "acme/web1"));
    assert!(interface.text((0, 82)).starts_with("tap0\0"));
    let tenant = records.iter().find(|record| record.octets((0, 341)).is_some() && record.number((0, 303)) == 1);
    assert_eq!((tenant.unwrap().text((0, 341)), tenant.unwrap().number((0, 339))), ("hostwardTenant", 13));
    let losses = records.iter().find(|record| record.octets((0, 166)).is_some()).unwrap();
    assert_eq!((losses.number((OWN, 8)), losses.number((OWN, 9)), losses.number((0, 166))), (11, 3, 0));
    exporter.tick(30 * SECOND, REAL);
    assert!(received(&collector, &mut decoder).is_empty());
    exporter.tick(62 * SECOND, REAL);
    assert!(!received(&collector, &mut decoder).is_empty());
    assert_eq!(decoder.missing, 0);
}

#[test]
fn names_of_any_length_leave_a_message_within_its_bound() {
    let (collector, mut exporter) = connected(Settings::default(), 64);
    let long = "é".repeat(3_000);
    let endpoint = EndpointName { groups: long.clone(), ..name(&long) };
    exporter.set_endpoints(HashMap::from([(1, endpoint)]));
    exporter.add_rules([(5, long.clone())], false);
    exporter.set_executables(HashMap::from([((1, 2), long)]));
    let mut world = World::new(4);
    exporter.tick(world.now_ns, REAL);
    let flow = first_flow(&mut world, &mut exporter);
    let mut end = world.event(0, &flow, abi::event_kind::EVENT_END);
    end.process = 2;
    exporter.event(&end);
    exporter.tick(world.now_ns + SECOND, REAL + SECOND);
    let records = received(&collector, &mut Decoder::default());
    let record = records.iter().find(|record| record.template == 256).unwrap();
    assert_eq!(record.text((OWN, 4)).len(), 180);
}

#[test]
fn an_address_that_is_another_endpoint_s_now_is_told_of_under_the_old_name() {
    let (collector, mut exporter) = connected(Settings::default(), 64);
    exporter.set_endpoints(HashMap::from([(1, name("acme"))]));
    let mut world = World::new(5);
    exporter.tick(world.now_ns, REAL);
    first_flow(&mut world, &mut exporter);
    exporter.set_endpoints(HashMap::from([(1, name("other"))]));
    assert_eq!(exporter.counts(), Counts { records: 1, flows: 0, ..exporter.counts() });
    exporter.tick(world.now_ns + SECOND, REAL + SECOND);
    let records = received(&collector, &mut Decoder::default());
    let record = records.iter().find(|record| record.template == 256).unwrap();
    assert_eq!((record.text((OWN, 1)), record.number((0, 136))), ("acme", 4));
}
