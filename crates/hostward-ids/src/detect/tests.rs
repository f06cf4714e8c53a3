//! Whole detectors against made-up flows.

use std::collections::VecDeque;
use std::net::IpAddr;

use smallvec::SmallVec;

use super::*;
use crate::app::buffer::Buffer;
use crate::app::{Content, Fatal, Parser, Protocol, Stage, Transaction};
use crate::flow::table::Key;
use crate::rules::{Loaded, Variables, read_text};

struct Fake(VecDeque<Transaction>);

impl Parser for Fake {
    fn protocol(&self) -> Protocol {
        Protocol::Http1
    }
    fn parse(&mut self, _: Direction, _: &[u8]) -> Result<(), Fatal> {
        Ok(())
    }
    fn close(&mut self, _: Direction) {}
    fn transactions(&mut self) -> &mut VecDeque<Transaction> {
        &mut self.0
    }
}

fn detector(rules: &str) -> Detector {
    let mut loaded = Loaded::default();
    read_text("t", rules, &Variables::default(), &mut loaded);
    assert_eq!(loaded.problems, []);
    let (detector, problems) = Detector::build(loaded.rules, &BuildOptions::default()).unwrap();
    assert_eq!(problems, []);
    detector
}

fn flow(transaction: Transaction) -> Flow {
    let client = (IpAddr::from([10, 0, 0, 1]), 1024);
    let server = (IpAddr::from([1, 1, 1, 1]), 80);
    let key = Key::new(client, server, 6, &[], &crate::flow::Owner::default());
    let mut flow = Flow::new(1, key, client, server, 6, 0);
    flow.established = true;
    flow.app = Some(Box::new(Fake(VecDeque::from([transaction]))));
    flow
}

/// A request for `uri`, its line and headers read.
fn request(uri: &str) -> Transaction {
    let mut transaction = Transaction::new(0);
    transaction.put(Direction::ToServer, Buffer::HttpUri, uri.as_bytes());
    transaction.put(Direction::ToServer, Buffer::HttpMethod, b"GET".as_slice());
    transaction.progress[0] = Stage::Headers;
    transaction
}

fn look(detector: &Detector, worker: &mut Worker, flow: &mut Flow, direction: Direction) -> Vec<u32> {
    let mut alerts = SmallVec::new();
    detector.inspect(worker, None, Some(flow), direction, &mut alerts);
    let told = alerts.iter().filter(|alert: &&Alert| !alert.silent);
    told.filter_map(|alert| Some(detector.signature(alert.signature)?.id)).collect()
}

fn transaction(flow: &mut Flow) -> &mut Transaction {
    flow.app.as_mut().unwrap().transactions().front_mut().unwrap()
}

#[test]
fn a_signature_matches_once_in_a_transaction() {
    let detector = detector(
        r#"alert http any any -> any any (http.uri; content:"/evil"; http.method; content:"GET"; sid:1;)
           alert http any any -> any any (http.uri; content:"/good"; sid:2;)
           alert http 10.9.9.9 any -> any any (http.uri; content:"/evil"; sid:3;)
           alert http any any -> any any (flow:to_client; http.protocol; content:"x"; sid:4;)"#,
    );
    let (mut worker, mut flow) = (Worker::default(), flow(request("/evil")));
    assert_eq!(look(&detector, &mut worker, &mut flow, Direction::ToServer), [1]);
    assert!(look(&detector, &mut worker, &mut flow, Direction::ToServer).is_empty());
    assert!(look(&detector, &mut worker, &mut flow, Direction::ToClient).is_empty());
}

#[test]
fn negation_waits_until_nothing_is_added() {
    let detector = detector(
        r#"alert http any any -> any any (http.request_body; content:!"bad"; sid:1;)
           alert http any any -> any any (http.request_body; content:"good"; sid:2;)
           alert http any any -> any any (http.referer; content:!"x"; sid:3;)
           alert http any any -> any any (http.referer; absent; sid:4;)"#,
    );
    let (mut worker, mut flow) = (Worker::default(), flow(request("/")));
    // No referer was read with the headers.
    assert_eq!(look(&detector, &mut worker, &mut flow, Direction::ToServer), [4]);
    let body = Content {
        buffer: Buffer::HttpRequestBody,
        direction: Direction::ToServer,
        data: b"very good".to_vec(),
        complete: false,
    };
    transaction(&mut flow).buffers.push(body);
    transaction(&mut flow).progress[0] = Stage::Body;
    assert_eq!(look(&detector, &mut worker, &mut flow, Direction::ToServer), [2]);
    let content = transaction(&mut flow).buffers.last_mut().unwrap();
    content.data.extend_from_slice(b" indeed");
    content.complete = true;
    transaction(&mut flow).progress[0] = Stage::Complete;
    assert_eq!(look(&detector, &mut worker, &mut flow, Direction::ToServer), [1]);
}

#[test]
fn pass_keeps_the_rest_of_a_flow_quiet() {
    let detector = detector(
        r#"alert http any any -> any any (http.uri; content:"/a"; sid:1;)
           pass http any any -> any any (http.uri; content:"/a"; sid:2;)"#,
    );
    let (mut worker, mut flow) = (Worker::default(), flow(request("/a")));
    assert!(look(&detector, &mut worker, &mut flow, Direction::ToServer).is_empty());
    assert!(flow.detect.passed());
}

#[test]
fn flow_bits_join_signatures_of_one_call() {
    let detector = detector(
        r#"alert http any any -> any any (http.uri; content:"/a"; flowbits:isset,seen; sid:1;)
           alert http any any -> any any (http.method; content:"GET"; flowbits:set,seen; flowbits:noalert; sid:2;)"#,
    );
    let (mut worker, mut flow) = (Worker::default(), flow(request("/a")));
    assert_eq!(look(&detector, &mut worker, &mut flow, Direction::ToServer), [1]);
    let names: Vec<_> = flow.detect.bits().iter().filter_map(|&bit| detector.flow_bit_name(bit)).collect();
    assert_eq!(names, ["seen"]);
}

#[test]
fn profiles_and_tenants_are_kept_apart() {
    let mut detector = detector(
        r#"alert http any any -> any any (http.uri; content:"/a"; threshold:type limit,track by_src,count 1,seconds 60; sid:1;)"#,
    );
    detector.set_profiles(0, 1 << 3);
    let mut worker = Worker::default();
    for (tenant, profile, wanted) in [(1, 3, 1), (1, 3, 0), (2, 3, 1), (3, 4, 0), (3, 0, 1)] {
        let mut flow = flow(request("/a"));
        flow.owner.tenant = tenant;
        flow.owner.profile = profile;
        let told = look(&detector, &mut worker, &mut flow, Direction::ToServer);
        assert_eq!(told.len(), wanted, "tenant {tenant}, profile {profile}");
    }
}

#[test]
fn compiled_databases_are_kept_and_checked() {
    let folder = std::env::temp_dir().join(format!("hostward-ids-cache-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    // Enough literals for a database.
    let rules: Vec<String> = (1..10)
        .map(|sid| format!("alert http any any -> any any (http.uri; content:\"/evil{sid}\"; sid:{sid};)"))
        .collect();
    let rule = rules.join("\n");
    let build = || {
        let mut loaded = Loaded::default();
        read_text("t", &rule, &Variables::default(), &mut loaded);
        let options = BuildOptions { cache_folder: Some(folder.clone()), ..BuildOptions::default() };
        Detector::build(loaded.rules, &options).unwrap().0
    };
    build();
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    for damage in [None, Some(100), Some(0)] {
        if let Some(at) = damage {
            let mut bytes = std::fs::read(&files[0]).unwrap();
            bytes[at] ^= 1;
            std::fs::write(&files[0], bytes).unwrap();
        }
        let (mut worker, mut flow) = (Worker::default(), flow(request("/evil1")));
        assert_eq!(look(&build(), &mut worker, &mut flow, Direction::ToServer), [1]);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
