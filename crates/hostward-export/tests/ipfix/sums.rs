//! The sum over records is the sum over what flows carried: nothing is lost that is not counted, and nothing told twice.

use std::collections::HashMap;

use hostward_abi as abi;
use hostward_export::ipfix::DEFAULT_ENTERPRISE;
use hostward_export::ipfix::Exporter;
use hostward_export::ipfix::Settings;
use hostward_export::ipfix::Timeouts;

use crate::decoder::Decoder;
use crate::records::connected;
use crate::records::received;
use crate::world::MILLISECOND;
use crate::world::SECOND;
use crate::world::World;

const REVERSE: u32 = 29_305;

fn impatient(flows: usize) -> Settings {
    let timeouts = Timeouts { active_ns: 300 * MILLISECOND, inactive_ns: 100 * MILLISECOND };
    Settings { flows, timeouts, ..Settings::default() }
}

/// A walk in batches, with what happens in the world between reading a batch and applying it.
fn walk(world: &mut World, exporter: &mut Exporter, places: u32, told: &mut impl FnMut(&abi::Event) -> bool) {
    let began = world.now_ns;
    let mut from = 0;
    while from < places {
        let read_ns = world.now_ns;
        exporter.begin_batch(read_ns);
        world.now_ns += 1;
        let batch: Vec<_> = (from..from + 8)
            .filter_map(|place| world.flows.get(&place).map(|flow| World::stored(place, flow)))
            .collect();
        for _ in 0..world.random.below(6) {
            for event in world.step(places) {
                if told(&event) {
                    exporter.event(&event);
                }
            }
        }
        exporter.end_batch(&batch, read_ns);
        from += 8;
    }
    exporter.end_walk(began);
}

fn totals(exporter: &Exporter) -> (u64, u64) {
    let counts = exporter.counts();
    (counts.packets, counts.octets)
}

fn carried(world: &World) -> (u64, u64) {
    (world.carried.0.iter().sum(), world.carried.1.iter().sum())
}

#[test]
fn every_packet_is_in_exactly_one_record_whatever_the_table_holds() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        let places = 1 + world.random.below(40) as u32;
        let flows = [1, 5, 64][seed as usize % 3];
        let mut exporter = Exporter::new(impatient(flows), None, None);
        exporter.end_walk(world.now_ns); // there was nothing before
        for _ in 0..400 {
            for event in world.step(places) {
                exporter.event(&event);
            }
            if world.random.below(30) == 0 {
                walk(&mut world, &mut exporter, places, &mut |_| true);
            }
            assert!(exporter.counts().flows <= flows as u64);
        }
        // Every flow ends.
        for (place, flow) in std::mem::take(&mut world.flows) {
            world.now_ns += 1;
            exporter.event(&world.event(place, &flow, abi::event_kind::EVENT_END));
        }
        exporter.close();
        assert_eq!(totals(&exporter), carried(&world), "seed {seed}");
        assert_eq!(exporter.counts().unseen_ends, 0, "seed {seed}");
    }
}

#[test]
fn lost_events_take_nothing_away_as_long_as_a_flow_is_seen_again() {
    for seed in 0..300 {
        let mut world = World::new(seed + 10_000);
        let places = 1 + world.random.below(40) as u32;
        let mut exporter = Exporter::new(impatient(64), None, None);
        exporter.end_walk(world.now_ns); // there was nothing before
        for _ in 0..400 {
            // Openings and updates get lost, ends do not.
            let kept = world.random.below(2) == 0;
            for event in world.step(places) {
                if kept || u32::from(event.kind) == abi::event_kind::EVENT_END {
                    exporter.event(&event);
                }
            }
            if world.random.below(30) == 0 {
                let mut told = |event: &abi::Event| u32::from(event.kind) == abi::event_kind::EVENT_END;
                walk(&mut world, &mut exporter, places, &mut told);
            }
        }
        for (place, flow) in std::mem::take(&mut world.flows) {
            world.now_ns += 1;
            exporter.event(&world.event(place, &flow, abi::event_kind::EVENT_END));
        }
        exporter.close();
        assert_eq!(totals(&exporter), carried(&world), "seed {seed}");
    }
}

#[test]
fn what_lost_ends_leave_out_is_never_told_twice_and_ends_are_counted() {
    for seed in 0..300 {
        let mut world = World::new(seed + 20_000);
        let mut lost = 0;
        let mut exporter = Exporter::new(impatient(64), None, None);
        exporter.end_walk(world.now_ns);
        for _ in 0..400 {
            for event in world.step(20) {
                let end = u32::from(event.kind) == abi::event_kind::EVENT_END;
                if end && world.random.below(3) == 0 {
                    lost += 1;
                } else {
                    exporter.event(&event);
                }
            }
            if world.random.below(30) == 0 {
                walk(&mut world, &mut exporter, 20, &mut |_| true);
            }
        }
        // What is there is known; what is not, ended unseen.
        walk_still(&mut world, &mut exporter);
        exporter.close();
        let (packets, octets) = totals(&exporter);
        let (all_packets, all_octets) = carried(&world);
        assert!(packets <= all_packets && octets <= all_octets, "seed {seed}");
        assert_eq!(exporter.counts().unseen_ends, lost, "seed {seed}");
    }
}

fn walk_still(world: &mut World, exporter: &mut Exporter) {
    world.now_ns += SECOND;
    let began = world.now_ns;
    exporter.begin_batch(began);
    exporter.end_batch(&world.table(), began);
    exporter.end_walk(began);
}

#[test]
fn a_full_socket_loses_what_is_counted_and_the_collector_sees_how_much() {
    for seed in 0..20 {
        let (collector, mut exporter) = connected(impatient(64), 1 + seed as usize % 4);
        let mut world = World::new(seed + 30_000);
        let mut decoder = Decoder::default();
        let mut found: HashMap<&str, u64> = HashMap::new();
        exporter.tick(world.now_ns, world.now_ns);
        let mut collect = |found: &mut HashMap<&str, u64>| {
            for record in received(&collector, &mut decoder).iter().filter(|record| !record.options) {
                *found.entry("records").or_default() += 1;
                *found.entry("packets").or_default() += record.number((0, 2)) + record.number((REVERSE, 2));
                *found.entry("octets").or_default() += record.number((0, 1)) + record.number((REVERSE, 1));
                assert_eq!(record.number((DEFAULT_ENTERPRISE, 5)), 9);
            }
        };
        for step in 0..6_000 {
            for event in world.step(64) {
                exporter.event(&event);
            }
            exporter.tick(world.now_ns, world.now_ns);
            // The collector sleeps most of the time: loopback's buffer runs full, and the datagrams that it drops are not
            // the exporter's to count. So it looks often enough that the socket itself never does.
            if step % 50 == 0 {
                collect(&mut found);
            }
        }
        exporter.close();
        collect(&mut found);
        let counts = exporter.counts();
        assert_eq!(found["records"], counts.sent_records, "seed {seed}");
        assert_eq!(counts.sent_records + counts.socket_lost_records, counts.records, "seed {seed}");
        assert_eq!(found["packets"] + counts.socket_lost_packets, counts.packets, "seed {seed}");
        assert_eq!(found["octets"] + counts.socket_lost_octets, counts.octets, "seed {seed}");
        assert_eq!((counts.packets, counts.octets), carried_until_now(&world, &counts), "seed {seed}");
    }
}

/// `close` tells what is known; packets since a flow's last event are not in any record, and are nobody's loss yet.
fn carried_until_now(world: &World, counts: &hostward_export::ipfix::Counts) -> (u64, u64) {
    let (packets, octets) = carried(world);
    let pending = |flow: &crate::world::Flow| {
        (flow.packets.iter().sum::<u64>() - flow.reported.0, flow.bytes.iter().sum::<u64>() - flow.reported.1)
    };
    let (unreported_packets, unreported_octets) =
        world.flows.values().map(pending).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!(counts.unseen_ends, 0);
    (packets - unreported_packets, octets - unreported_octets)
}

#[test]
fn a_collector_that_is_not_there_costs_counted_records() {
    let (collector, mut exporter) = connected(impatient(64), 4);
    drop(collector);
    let mut world = World::new(40_000);
    for _ in 0..2_000 {
        for event in world.step(64) {
            exporter.event(&event);
        }
        exporter.tick(world.now_ns, world.now_ns);
    }
    exporter.close();
    let counts = exporter.counts();
    assert!(counts.socket_errors > 0);
    assert_eq!(counts.sent_records + counts.socket_lost_records, counts.records);
}
