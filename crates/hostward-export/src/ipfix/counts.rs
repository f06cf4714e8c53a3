//! What the exporter did, and what it could not.

/// Counts since the exporter was made; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events taken from the ring, guards' included.
    pub events: u64,
    /// Records made: biflows, and denials.
    pub records: u64,
    /// Packets that they tell of, both directions.
    pub packets: u64,
    /// The same in octets.
    pub octets: u64,
    /// IPFIX data records, those of options left out, that the socket took. Of the standard form, a biflow is up to two.
    pub sent_records: u64,
    /// Messages that the socket took.
    pub sent_messages: u64,
    /// The same in octets.
    pub sent_octets: u64,
    /// Data records that the socket did not take before their queue was full, or at all.
    pub socket_lost_records: u64,
    /// Packets that those told of.
    pub socket_lost_packets: u64,
    /// The same in octets.
    pub socket_lost_octets: u64,
    /// Messages that the socket refused because of an earlier one: nobody listens there, or there is no route.
    pub socket_errors: u64,
    /// Lines written to the file.
    pub lines: u64,
    /// Lines that the file system refused.
    pub lines_lost: u64,
    /// Flows in the table of records now.
    pub flows: u64,
    /// Sightings of flows for which the table had no room: they are told of when they end, and no earlier. Only of one
    /// before the first walk what it told is in no record.
    pub untabled: u64,
    /// Flows whose end was not told: what they carried after they were seen last is not in any record.
    pub unseen_ends: u64,
    /// Flows that were older than the exporter, and are told of from its start on.
    pub resumed: u64,
    /// Records whose direction is estimated: flows that ended while nobody read the ring.
    pub estimated: u64,
}

/// Events that did not reach the exporter, of all endpoints since the datapath was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatapathLosses {
    /// An endpoint's bucket had no token.
    pub bucket: u64,
    /// The ring had no room.
    pub ring: u64,
}
