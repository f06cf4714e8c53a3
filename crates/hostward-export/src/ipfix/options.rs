//! What is told of the exporter itself, by templates of options (RFC 7011, sections 3.4.2.2 and 4).

use crate::ipfix::counts::Counts;
use crate::ipfix::counts::DatapathLosses;
use crate::ipfix::element::OWN;
use crate::ipfix::element::Space;
use crate::ipfix::element::VARIABLE;
use crate::ipfix::message::write_name;
use crate::ipfix::names::Names;
use crate::ipfix::template::Form;
use crate::ipfix::template::write_specifier;

/// Every packet is observed (RFC 5476, section 6.5.2.1: count-based, one of one).
const SELECTION: u16 = 300;
/// RFC 7011, section 4.1.
const STATISTICS: u16 = 301;
/// RFC 7011, section 4.3.
const RELIABILITY: u16 = 302;
/// RFC 5610, section 3.9.
const TYPES: u16 = 303;
/// Names of interfaces.
const INTERFACES: u16 = 304;
/// Octets of an interface's name (`IFNAMSIZ`).
const DEVICE: u16 = 16;
/// The only exporting process.
const PROCESS: u32 = 1;

type Specifier = (Space, u16, u16);

fn template(number: u16, scope: &[Specifier], fields: &[Specifier], enterprise: u32) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(number.to_be_bytes());
    out.extend(((scope.len() + fields.len()) as u16).to_be_bytes());
    out.extend((scope.len() as u16).to_be_bytes());
    for &(space, id, length) in scope.iter().chain(fields) {
        write_specifier(&mut out, space, id, length, enterprise);
    }
    out
}

/// The templates of everything below.
#[must_use]
pub fn templates(form: Form, enterprise: u32) -> Vec<Vec<u8>> {
    let iana = |id, length| (Space::Iana, id, length);
    let mut reliability = vec![iana(166, 8), iana(167, 8), iana(168, 8)];
    let mut interfaces = vec![iana(82, DEVICE)];
    if form == Form::Full {
        reliability.extend((8..=14).map(|id| (Space::Own, id, 8)));
        interfaces.push(iana(83, VARIABLE));
    }
    let mut templates = vec![
        template(SELECTION, &[iana(302, 8)], &[iana(304, 2), iana(305, 4), iana(306, 4)], enterprise),
        template(STATISTICS, &[iana(149, 4)], &[iana(41, 8), iana(42, 8), iana(40, 8)], enterprise),
        template(RELIABILITY, &[iana(144, 4)], &reliability, enterprise),
        template(INTERFACES, &[iana(10, 4)], &interfaces, enterprise),
    ];
    if form == Form::Full {
        let scope = [iana(346, 4), iana(303, 2)];
        let fields = [iana(339, 1), iana(344, 1), iana(341, VARIABLE), iana(340, VARIABLE)];
        templates.push(template(TYPES, &scope, &fields, enterprise));
    }
    templates
}

/// What does not change: that nothing is sampled, the types of own elements, the interfaces' names.
#[must_use]
pub fn descriptions(form: Form, enterprise: u32, names: &Names) -> Vec<(u16, Vec<u8>)> {
    let mut records = Vec::new();
    let mut selection = Vec::new();
    selection.extend(1u64.to_be_bytes());
    selection.extend(1u16.to_be_bytes()); // systematic count-based sampling
    selection.extend(1u32.to_be_bytes());
    selection.extend(0u32.to_be_bytes());
    records.push((SELECTION, selection));
    if form == Form::Full {
        for element in OWN {
            let mut record = Vec::new();
            record.extend(enterprise.to_be_bytes());
            record.extend(element.id.to_be_bytes());
            record.extend([element.data_type as u8, element.semantics]);
            write_name(&mut record, element.name);
            write_name(&mut record, element.description);
            records.push((TYPES, record));
        }
    }
    for endpoint in names.endpoints.values().filter(|endpoint| endpoint.interface != 0) {
        let mut record = Vec::new();
        record.extend(endpoint.interface.to_be_bytes());
        let mut device = [0; DEVICE as usize];
        for (place, octet) in device.iter_mut().zip(endpoint.device.bytes()) {
            *place = octet;
        }
        record.extend(device);
        if form == Form::Full {
            write_name(&mut record, &endpoint.endpoint);
        }
        records.push((INTERFACES, record));
    }
    records
}

/// What was exported and what was not, until now.
#[must_use]
pub fn statistics(form: Form, domain: u32, counts: &Counts, losses: DatapathLosses) -> Vec<(u16, Vec<u8>)> {
    let mut statistics = Vec::new();
    statistics.extend(domain.to_be_bytes());
    for count in [counts.sent_messages, counts.sent_records, counts.sent_octets] {
        statistics.extend(count.to_be_bytes());
    }
    let mut reliability = Vec::new();
    reliability.extend(PROCESS.to_be_bytes());
    let lost = [counts.socket_lost_records, counts.socket_lost_packets, counts.socket_lost_octets];
    let own = [
        losses.bucket,
        losses.ring,
        counts.untabled,
        counts.unseen_ends,
        counts.socket_errors,
        counts.records,
        counts.estimated,
    ];
    for count in lost.into_iter().chain(own.into_iter().filter(|_| form == Form::Full)) {
        reliability.extend(count.to_be_bytes());
    }
    vec![(STATISTICS, statistics), (RELIABILITY, reliability)]
}
