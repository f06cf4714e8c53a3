/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * abi.h - everything that the datapath shares with userspace, and the only header that does.
 *
 * Rust generates its types from the BTF of the compiled object (crates/hostward-abi); Python sees none of them. Every
 * structure has a fixed size, explicit padding and no bit-fields. Fields are in host byte order unless a name's type is
 * __be16 or __be32. Addresses are 16 bytes; an IPv4 address is written as ::ffff:a.b.c.d (RFC 4291, section 2.5.5.2).
 *
 * A change to any layout increments HW_ABI_VERSION: pinned maps of another version are never reused.
 */
#ifndef HW_ABI_H
#define HW_ABI_H

#include <linux/types.h>

#define HW_ABI_VERSION 8

enum hw_direction {
	HW_EGRESS = 0,	/* from the workload */
	HW_INGRESS = 1, /* to the workload */
};

enum hw_verdict {
	HW_VERDICT_NONE = 0, /* an unwritten cell: denied */
	HW_VERDICT_ALLOW = 1,
	HW_VERDICT_DENY = 2,
	HW_VERDICT_WOULD_DENY = 3, /* passes, and is reported as what it would be */
	HW_VERDICT_INVALID = 4,	   /* denied because it is malformed or fits no flow */
};

/* Why a packet was not allowed. The part after HW_REASON_ is the word that users see, in lower case with hyphens. */
enum hw_reason {
	HW_REASON_NONE = 0,
	HW_REASON_POLICY,	/* a rule, or the default, denies it */
	HW_REASON_UNKNOWN_PEER, /* an address in a pool that no endpoint has, or a peer this host may not know */
	HW_REASON_NO_REVISION,	/* the endpoint's first revision is not in force yet */
	HW_REASON_MAC_SPOOF,
	HW_REASON_IP_SPOOF,
	HW_REASON_ARP_SPOOF,
	HW_REASON_ND_SPOOF,
	HW_REASON_DHCP_SPOOF,
	HW_REASON_RA_SPOOF,  /* router advertisement or redirect from an endpoint */
	HW_REASON_MARTIAN,   /* an address that cannot be a peer: loopback, unspecified, link-local, broadcast source */
	HW_REASON_MULTICAST, /* group traffic other than the checked ARP, ND and DHCP */
	HW_REASON_NOT_ADDRESSED, /* reached the port, but is for another MAC or address */
	HW_REASON_TRUNCATED,
	HW_REASON_ETHERTYPE,
	HW_REASON_VLAN,
	HW_REASON_ARP_HEADER,
	HW_REASON_IP_HEADER,
	HW_REASON_IP_OPTION,
	HW_REASON_EXTENSION_HEADER,
	HW_REASON_FRAGMENT,	    /* one that no stack makes */
	HW_REASON_FRAGMENT_ORPHAN,  /* the first of its datagram has not passed, or is not remembered */
	HW_REASON_FRAGMENT_OVERLAP, /* it overlaps or contradicts one that passed */
	HW_REASON_L4_HEADER,
	HW_REASON_TCP_FLAGS,
	HW_REASON_TCP_STATE,	  /* a flag that the connection's state has no place for */
	HW_REASON_TCP_WINDOW,	  /* a sequence or acknowledgement number that is in neither window */
	HW_REASON_NO_FLOW,	  /* neither opens a flow nor belongs to one */
	HW_REASON_ICMP_UNRELATED, /* an ICMP error about a packet of no tracked flow */
	HW_REASON_ICMP_MTU,	  /* an ICMP error that tells of a path narrower than any may be */
	HW_REASON_FLOW_QUOTA,
	HW_REASON_TABLE_FULL,
	HW_REASON_SCTP_TAG,    /* a verification tag that its receiver has not chosen */
	HW_REASON_SCTP_STATE,  /* a chunk that the association's state has no place for */
	HW_REASON_RATE_LIMIT,  /* more than the rule that allows it lets through */
	HW_REASON_RATE_CAP,    /* more than the endpoint may send, be sent or open at all */
	HW_REASON_THROTTLED,   /* its endpoint may open few flows for a while, see guard.h */
	HW_REASON_QUARANTINED, /* nothing of its endpoint passes until it is released, see guard.h */
	HW_REASON_SIGNATURE,   /* the inspector found in its flow what a signature drops or rejects */
	HW_REASON_UNINSPECTED, /* the inspector is overloaded or away, and its flow passes only inspected */
	HW_REASON_INTERNAL,    /* the datapath's own state is incomplete; never expected */
	HW_REASON_COUNT,
};

/* How many elements of a map are one endpoint's. Enumerators, and not macros, because BTF carries them to Rust. */
enum hw_stride {
	HW_REASON_STRIDE = 64,		/* of hw_reasons; at least HW_REASON_COUNT */
	HW_ADDRESSES_PER_ENDPOINT = 16, /* of hw_policies, for each of two revisions */
	HW_DENIALS_BY_PORT = 64,	/* of hw_denials, see struct hw_denial */
	HW_DENIALS_BY_RULE = 16,
	HW_DENIALS_PER_ENDPOINT = HW_DENIALS_BY_PORT + HW_DENIALS_BY_RULE,
	HW_PROCESSES_PER_ENDPOINT = 256, /* of hw_executables: numbers that a flow's process may have */
	HW_DATAGRAMS_PER_ENDPOINT = 64,	 /* of hw_datagrams, half of them for each direction */
	HW_DATAGRAM_WAYS = 4,		 /* places in which one datagram may be remembered */
	HW_BUCKETS_PER_ENDPOINT = 64,	 /* of hw_buckets: limits that one endpoint can run into at once */
	HW_DHCP_SERVERS = 8,		 /* that a network may name */
};
_Static_assert(HW_REASON_COUNT <= HW_REASON_STRIDE, "every reason has a counter");

enum hw_event_kind {
	HW_EVENT_NEW = 1,
	HW_EVENT_UPDATE = 2,
	HW_EVENT_END = 3,
	HW_EVENT_DENIED = 4,
	HW_EVENT_GUARD =
		5, /* `number` is an enum hw_guard_kind, `response` what was done, `packets` what was counted */
};

/* The read-only section of its own that the loader fills in: one port's programs are loaded for one slot. */
struct hw_constants {
	__u32 slot;
	__u32 abi_version;
	__u32 tick_ns; /* one jiffy: the resolution of CLOCK_MONOTONIC_COARSE */
	__u32 padding;
};

enum hw_endpoint_flag {
	HW_ENDPOINT_PICKS_UP = 1,   /* connections whose beginning was not seen, see pickup.h */
	HW_ENDPOINT_NAMES_DHCP = 2, /* `dhcp` are all the servers that there are in its network */
};

/* What a guard recognises of an endpoint's own sending, see guard.h. */
enum hw_guard_kind {
	HW_GUARD_HORIZONTAL_SCAN = 0,
	HW_GUARD_VERTICAL_SCAN = 1,
	HW_GUARD_SYN_FLOOD = 2,
	HW_GUARD_SPOOF = 3,
	HW_GUARD_KINDS,
};

enum hw_response {
	HW_RESPONSE_IGNORE = 0,
	HW_RESPONSE_ALERT = 1,
	HW_RESPONSE_THROTTLE = 2,
	HW_RESPONSE_QUARANTINE = 3,
};

enum hw_unit {
	HW_UNIT_BYTES = 0,
	HW_UNIT_PACKETS = 1,
	HW_UNIT_CONNECTIONS = 2,
	HW_UNITS,
};

/* So much a second. `cost` is the time that one unit takes, in ns << HW_RATE_SHIFT; 0: no bound. See limit.h. */
enum hw_rate_shift {
	HW_RATE_SHIFT = 24,
};
struct hw_rate {
	__u64 cost;
	__u64 burst_ns; /* what may come at once, as the time that it takes */
};

/*
 * Of hw_endpoint.sampling: in its upper bits N, of which one packet is taken, in its lower ones 1/-log2(1 - 1/N), with
 * so many bits behind the point. One word, because a distance drawn by one N must not be told as another's.
 */
enum hw_sampling_bits {
	HW_SAMPLING_FRACTION_BITS = 16,
	HW_SAMPLING_RATE_SHIFT = 40,
};

struct hw_endpoint {
	__u8 mac[6];
	__u8 capped;	      /* whether `cap` bounds anything */
	__u8 flags;	      /* enum hw_endpoint_flag */
	__u32 network;	      /* index into hw_networks */
	__u32 flow_quota;     /* places in the endpoint's ring; a power of two is not required */
	__u32 priority;	      /* what its packets carry to the uplink's queues; 0: what the workload wrote */
	__u32 workload_netns; /* one more than the port's namespace calls the one of its sockets; 0: not known */
	__u8 responses[HW_GUARD_KINDS]; /* enum hw_response */
	__u32 unused;
	__u64 sampling;				 /* see enum hw_sampling_bits; 0: nothing is sampled */
	__u64 event_interval_ns;		 /* one event costs this much of the bucket */
	__u64 event_burst_ns;			 /* and this is how much the bucket holds */
	struct hw_rate opening;			 /* of flows, in each direction */
	struct hw_rate cap[HW_UNIT_CONNECTIONS]; /* of bytes and packets, in each direction */
	__u8 dhcp[HW_DHCP_SERVERS][16];		 /* addresses; zeros: none */
	__u32 thresholds[HW_GUARD_KINDS];	 /* of scans in marks, see struct hw_guard; more is recognised */
};

/* The two stamps' source and the endpoint's policy, in one aligned word that userspace stores atomically. */
struct hw_active {
	__u32 policy;	  /* index into hw_policies of the block of the endpoint's first address */
	__u32 generation; /* 0: no revision is in force; and HW_QUARANTINED */
};

/*
 * A bit of hw_active.generation: nothing of the endpoint passes. The datapath sets it, and whoever puts a revision in
 * force keeps it as it is, by compare-and-swap. It is the sign of the word, so that one comparison finds both.
 */
#define HW_QUARANTINED 0x80000000u

struct hw_network {
	__u64 epoch; /* grows when an address is removed or changes identity */
};

/*
 * What one address of an endpoint enforces in one revision; an endpoint has a block for each, side by side, the unused
 * ones behind them with an address of zeros. Written only while no hw_active refers to it, so that an address comes and
 * goes with its policy, in one store.
 */
struct hw_policy {
	__u64 revision;
	__u32 table[2]; /* by direction: index into hw_refs of the first peer's reference */
	__u32 peers[2]; /* by direction: number of references */
	__u32 identity;
	__u32 padding;
	__u8 address[16];
};

/* Where the verdicts about one peer stand. row_length 0: the peer is unknown to this table. */
struct hw_ref {
	__u32 row;	  /* index into hw_cells */
	__u16 row_length; /* cells; a class beyond it is denied */
	__u16 class_set;
};

struct hw_cell {
	__u32 decision; /* index into hw_decisions; 0: denied */
	__u32 padding;
};

enum hw_decision_flag {
	HW_DECISION_REJECT = 1,	     /* of a denial: the sender is answered, see answer.h */
	HW_DECISION_KEEP = 2,	     /* of an allowance: what it opens outlives its revocation */
	HW_DECISION_KEEPS = 4,	     /* of a denial: flows that a revoked HW_DECISION_KEEP opened go on */
	HW_DECISION_LIMITED = 8,     /* of an allowance: it has an entry in hw_limits */
	HW_DECISION_BY_PROCESS = 16, /* hw_choices names the decision, by the process at this end */
	HW_DECISION_AT_PROCESS = 32, /* and where a flow is opened to, not every process gets the same */
	HW_DECISION_LOG = 64,	     /* its flows are reported */
};

/* Of an allowance, at one end: what it lets pass goes to the inspector too, see inspect.h. */
enum hw_inspect {
	HW_INSPECT_PROFILE = 0x3f,     /* which of the host's sets of signatures; 0: nothing is inspected */
	HW_INSPECT_FAIL_CLOSED = 0x80, /* what cannot go to the inspector does not pass */
};

struct hw_decision {
	__u32 number;	 /* the rule's 32-bit number, never reused for another meaning */
	__u8 verdict;	 /* enum hw_verdict */
	__u8 flags;	 /* enum hw_decision_flag */
	__u8 inspect[2]; /* enum hw_inspect, by the end that this host has: the opener's, and the one that is opened to
			  */
};

/* Wherever the datapath keeps a decision's index: what it is, told without looking it up. */
#define HW_LIMITED 0x80000000u	 /* a HW_DECISION_LIMITED one */
#define HW_INSPECTED 0x40000000u /* its flow's packets go to the inspector, or have been stopped by it */
#define HW_DECISION_INDEX 0x3fffffffu

/* Whether packets for a socket's port may go to another one that nothing here tells from it. */
enum hw_sharing {
	HW_SHARED_BY_USER = 1,	  /* SO_REUSEPORT: sockets of one user, chosen by a hash of both addresses and ports */
	HW_SHARED_BY_ANYBODY = 2, /* UDP with SO_REUSEADDR: any user's, by the device that each is bound to */
};

/* What hangs on a socket, in hw_sockets: who uses it. */
struct hw_user {
	__u64 executable; /* a hash of its path, see process_path.h; 0: not known */
	__u32 sharing;	  /* enum hw_sharing */
	__u32 scanned;	  /* 1: by who held it when the programs were attached */
};

/* The process at this end that a flow remembers. From HW_PROCESS_FIRST on a number is one executable's of its endpoint.
 */
enum hw_process {
	HW_PROCESS_UNKNOWN = 0,
	HW_PROCESS_OTHER = 1, /* known, and no rule named it */
	HW_PROCESS_FIRST = 2,
};

enum hw_choice_end {
	HW_CHOICE_OPENER = 0,
	HW_CHOICE_ACCEPTOR = 1,
};

/* What a decision leads to, by process: an executable, or HW_PROCESS_OTHER or _UNKNOWN with an executable of 0. */
struct hw_choice_key {
	__u64 executable;
	__u32 decision; /* index into hw_decisions */
	__u16 end;
	__u16 process; /* HW_PROCESS_OTHER beside every executable */
};

/* Which number an executable has at an endpoint. */
struct hw_process_key {
	__u64 executable;
	__u32 slot;
	__u32 padding;
};

struct hw_limit {
	struct hw_rate rate;
	__u32 number; /* of the rule: it names the bucket */
	__u32 padding;
};

/* Of one decision, by whose endpoint counts: the opener's, and the one that is opened to. */
struct hw_limits {
	struct hw_limit at[2][HW_UNITS];
};

/* One place for a bucket of an endpoint. */
struct hw_bucket {
	__u64 tag; /* of the rule, the unit and the direction; 0: never used */
	__u64 arrival_ns;
};

/* The port space of one protocol (or the types of ICMP and the numbers of other protocols), cut into classes. */
#define HW_CLASS_PORTS 65536
struct hw_class_block {
	__u16 class_of[HW_CLASS_PORTS];
};

enum hw_class_block_index {
	HW_CLASSES_TCP = 0,
	HW_CLASSES_UDP = 1,
	HW_CLASSES_SCTP = 2,
	HW_CLASSES_OTHER = 3, /* see below */
	HW_CLASSES_PER_SET = 4,
};

/* Where things stand in the block HW_CLASSES_OTHER. */
#define HW_CLASSES_ICMP 0	/* + type */
#define HW_CLASSES_ICMPV6 256	/* + type */
#define HW_CLASSES_PROTOCOL 512 /* + IP protocol number */

/* One address that is somebody's. Both families have keys of their own: a look-up's cost grows with its key's length.
 */
struct hw_host4_key {
	__be32 network;
	__u8 address[4];
};

struct hw_host6_key {
	__be32 network;
	__u32 padding; /* keys are compared by eight bytes while there are eight */
	__u8 address[16];
};

/* More than one address. */
struct hw_prefix4_key {
	__u32 prefix_bits; /* 32 for the network, plus the prefix length */
	__be32 network;
	__u8 address[4];
};

struct hw_prefix6_key {
	__u32 prefix_bits;
	__be32 network;
	__u8 address[16];
};

/* One canonical tuple for both directions: the endpoint's side is `local`. The key of IPv6 flows. */
struct hw_flow_key {
	__u32 slot;
	__u32 protocol; /* wider than its values: the hash reads words, and a byte just stored stalls the load of its
			   word */
	__u8 local[16];
	__u8 remote[16];
	__be16 local_port;  /* for ICMP the identifier of an echo, for ESP a half of the SPI, see parse_esp() */
	__be16 remote_port; /* for ICMP 1 + the direction of the echo request */
	__u32 padding;	    /* as in struct hw_host6_key */
};

/* The same for IPv4 flows, in words. */
struct hw_flow4_key {
	__be32 local;
	__be32 remote;
	__u32 ports;	     /* local_port and remote_port, as they stand there */
	__u32 slot_protocol; /* slot << 8 | protocol */
};

enum hw_flow_state {
	HW_FLOW_OPENING = 0,	 /* TCP: SYN seen. SCTP: INIT seen. Others: no reply yet */
	HW_FLOW_ANSWERED = 1,	 /* TCP: SYN and SYN+ACK seen. SCTP: INIT ACK seen */
	HW_FLOW_ESTABLISHED = 2, /* TCP, SCTP: handshake complete. Others: replied */
	HW_FLOW_CLOSING = 3,	 /* TCP: one FIN seen. SCTP: SHUTDOWN seen */
	HW_FLOW_CLOSED = 4,	 /* TCP: both FINs seen, or a RST. SCTP: SHUTDOWN COMPLETE or ABORT seen */
};

/* What one direction of a TCP connection has shown; one word, by compare-and-swap. Sequence numbers, see tcp.h. */
struct hw_tcp_way {
	__u32 end;  /* behind the last that it sent */
	__u32 edge; /* behind the last that it lets the other direction send */
};

/* What an SCTP flow has in place of ways and ack, see sctp.h: by the direction of the packets that carry them, and 0 if
 * there is none. As they stand in packets. */
struct hw_sctp_tags {
	__u32 agreed[2];  /* of the association in force */
	__u32 asked[2];	  /* of the last INIT and INIT ACK */
	__u32 earlier[2]; /* of those before */
};

/* What a flow remembers whatever is decided about it anew. */
enum hw_flow_mark {
	HW_FLOW_KEPT = HW_DECISION_KEEP, /* decided by such a decision */
	HW_FLOW_BYPASSED = 4,		 /* the inspector is done with it */
	HW_FLOW_STOPPED = 8,		 /* a signature drops it */
	HW_FLOW_REJECTED = 16,		 /* and who sends is answered; only together with HW_FLOW_STOPPED */
};

/*
 * What every packet reads or writes is the first line of the cache, and an IPv4 flow's entry in the kernel's hash table
 * is three lines, of which its header and key are the first.
 */
struct hw_flow {
	__u32 tag;	  /* a hash of the key: an element freed and reused under a reader is told apart by it */
	__u32 generation; /* first stamp: the endpoint's */
	__u32 epoch;	  /* second stamp: the network's, whose 2^32 changes no flow outlives unseen */
	__u32 decision;	  /* index into hw_decisions, with HW_LIMITED and HW_INSPECTED */
	__u64 seen_ns;	  /* ticks(), last packet */
	__u32 state;	  /* see tcp.h; compare-and-swap */
	__u32 peer;	  /* the peer's index */
	__u64 packets[2]; /* by direction */
	__u64 bytes[2];

	struct hw_tcp_way ways[2]; /* TCP, by direction, as are the next two. SCTP: struct hw_sctp_tags */
	__u32 ack[2];		   /* the highest acknowledgement number that it sent */
	__u16 window[2];	   /* the largest that it advertised, in units of its scale */
	__u32 number;		   /* of the decision */
	__u64 revision;		   /* under which it was decided */
	__u64 reported_bytes;
	__u32 reported_packets; /* the lower half: an event tells of fewer than 2^32 */
	__u32 reported;		/* when the last event was sent, see flow.h */
	__u32 place; /* of the endpoint's ring: the only one that is this flow's, whatever keys others still carry */
	__u8 verdict;
	__u8 port_class; /* ICMP: type of the request */
	__u8 marks;	 /* enum hw_flow_mark */
	__u8 process;	 /* at this end: who opened, or accepted */
};
_Static_assert(sizeof(struct hw_flow) == 128, "two lines of the cache");

/* What a flow of an older datapath's table had when it was imported last. */
struct hw_import_before {
	__u64 seen_ns; /* 0: it never was */
	__u64 packets[2];
	__u64 bytes[2];
	__u64 reported_bytes;
	__u32 reported_packets;
	__u32 padding;
};

/* Such a flow, see import.h. */
struct hw_import {
	struct hw_flow_key key;
	struct hw_flow flow;
	struct hw_import_before before;
};

enum hw_import_outcome {
	HW_IMPORT_ADDED = 0,
	HW_IMPORT_ADVANCED = 1,
	HW_IMPORT_HELD = 2, /* it is this datapath's own already */
	HW_IMPORT_EXPIRED = 3,
	HW_IMPORT_NO_PLACE = 4, /* the quota or the table is used up */
	HW_IMPORT_REFUSED = 5,	/* it is no flow of this slot */
};

enum hw_place_use {
	HW_PLACE_FREE = 0,
	HW_PLACE_NEW = 1,    /* what became of the flow has not been looked at */
	HW_PLACE_JUDGED = 2, /* it has, see guard.h */
};

/* One place of an endpoint's ring of flows. A flow exists only while it holds one. */
struct hw_ring_place {
	struct hw_flow_key key;
	__u32 used; /* enum hw_place_use */
};

/* Sizes of a guard's memory: distinct addresses and ports are counted as marks in so many bits. */
enum hw_guard_size {
	HW_GUARD_ADDRESS_BITS = 1024,
	HW_GUARD_PORT_BITS = 256,
	HW_GUARD_TARGETS = 16,
};

/* A remote address whose ports are counted. */
struct hw_guard_target {
	__u32 tag; /* of the address; 0: free */
	__u32 ports;
	__u64 marks[HW_GUARD_PORT_BITS / 64];
};

/* What one endpoint has tried of late, and what is done about it. No revision writes it. */
struct hw_guard {
	__u32 busy;    /* taken by compare-and-swap, never waited for */
	__u32 release; /* number of the last release that was carried out */
	__u64 seed;    /* of the marks' hash: nobody can choose what collides */
	__u64 judged;  /* the ring's next place to judge, as hw_usage.cursor counts */

	__u64 throttled_until_ns; /* CLOCK_MONOTONIC, as the next two; 0: not throttled */
	__u64 throttle_arrival_ns;
	__u64 quarantined_ns; /* since when; 0: not for anything that was recognised */
	__u8 throttled_for;   /* enum hw_guard_kind */
	__u8 quarantined_for;
	__u8 held;		    /* quarantined by command */
	__u8 told;		    /* by kind, a bit: recognised in this window */
	__u32 seen[HW_GUARD_KINDS]; /* in this window: marks, marks of the most, unfinished flows, packets */
	__u32 answered;		    /* flows, in this window */
	__u64 recognised[HW_GUARD_KINDS];
	__u64 window_ns; /* ticks() when it began */
	__u64 addresses[HW_GUARD_ADDRESS_BITS / 64];
	struct hw_guard_target targets[HW_GUARD_TARGETS];
};

/* What the agent has done with a guard. Whatever it is, afterwards the endpoint is quarantined as its guard says. */
enum hw_order_kind {
	HW_ORDER_MEND = 0,
	HW_ORDER_HOLD = 1,    /* quarantined by command */
	HW_ORDER_UNHOLD = 2,  /* not by command any more */
	HW_ORDER_RELEASE = 3, /* nothing is done any more, and counting begins anew */
};

struct hw_order {
	__u32 kind;
	__u32 release; /* its number, of HW_ORDER_RELEASE */
};

/* A SYN of the opener that came into a connection that stands, see tcp.h. */
struct hw_reopening {
	__u32 tag; /* of the flow */
	__u32 first;
	__u32 end;   /* behind the SYN and what came with it */
	__u32 offer; /* its window, and its scale as the state word holds it */
};
#define HW_REOPENINGS 8

/* Answers of one endpoint that may be on their way to its other program at once; a power of two. */
#define HW_ANSWER_TICKETS 64
struct hw_usage {
	__u64 flows;		/* now in the table */
	__u64 cursor;		/* the ring's next place to examine */
	__u64 event_arrival_ns; /* theoretical arrival time of the bucket (GCRA, ITU-T I.371) */
	__u64 events_lost;
	__u64 events_unplaced;	     /* of these: the bucket had a token, and the ring no room */
	__u64 opening_arrival_ns[2]; /* by direction, of the bucket of new flows */
	__u64 answer_arrival_ns;     /* of the answers' own bucket */
	__u64 answers;		     /* sent */
	__u64 answers_suppressed;
	__u32 tickets[HW_ANSWER_TICKETS]; /* of answers on their way; 0: none */
	struct hw_reopening reopenings[HW_REOPENINGS];
};

/* The largest frame that can be inspected: 64 KiB of payload, its headers, and some room. */
#define HW_INSPECT_FRAME_MAX 66048

/* What a record of hw_inspect begins with; the frame follows it. */
struct hw_inspected {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 revision;
	struct hw_flow_key key;
	__u32 tag; /* of the flow; 0: its packets are no flow */
	__u32 number;
	__u32 peer;
	__u32 len_bytes;  /* of the frame */
	__u32 room_bytes; /* of the record: what hw_inspect_done grows by when it was read */
	__u8 direction;
	__u8 opener;
	__u8 profile;
	__u8 process; /* number of the executable at this end */
};

/* What an endpoint has sent to the inspector. */
struct hw_inspect_usage {
	__u64 room_bytes; /* of records, ever; less what hw_inspect_done counts is what waits in the ring */
	__u64 packets;
	__u64 missed_packets; /* that passed and were not seen, as the rule has it */
	__u64 missed_bytes;
	__u64 refused_packets; /* that did not pass because they would not have been seen */
};

/* What the inspector asks for a flow. */
struct hw_judgement {
	struct hw_flow_key key;
	__u32 tag;
	__u32 marks; /* enum hw_flow_mark, without HW_FLOW_KEPT */
};

/* Of one datagram, in units of eight bytes; end 0: none. */
struct hw_stretch {
	__u16 start;
	__u16 end;
};

/* A datagram whose first fragment passed, see fragment.h. */
#define HW_DATAGRAM_STRETCHES 4
struct hw_datagram {
	__u32 busy; /* of the first of a set: the set is taken, by compare-and-swap */
	__u32 id;
	__u64 begun_ns; /* ticks() of the first fragment; 0: the place is free */
	__u8 local[16];
	__u8 remote[16];
	__u32 ports; /* as in the flow's key */
	__u32 seq;   /* of a segment of TCP, as are the next */
	__u32 ack;
	__u32 len_bytes;   /* once the last fragment has passed; 0 before */
	__u16 data_offset; /* where the segment's data begins */
	__u16 tcp_window;
	__u16 port;
	__u8 protocol;
	__u8 kind; /* enum hw_l4_kind */
	__u8 opener;
	__u8 tcp_flags;
	__u8 padding[6];
	struct hw_stretch covered[HW_DATAGRAM_STRETCHES]; /* by fragments that passed */
};

struct hw_count {
	__u64 packets;
	__u64 bytes;
};

struct hw_event {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 revision;
	__u64 packets;
	__u64 bytes;
	__u32 slot;
	__u32 number;
	__u32 peer;	/* index; 0: not looked up */
	__u32 identity; /* of the local address; 0: not looked up */
	__u8 kind;
	__u8 verdict;
	__u8 reason;
	__u8 direction; /* of the packet; for NEW, UPDATE and END of the packet that opened the flow */
	__u8 protocol;
	__u8 opener;
	__u8 source_mac[6];
	__be16 ethertype;
	__be16 source_port;
	__be16 destination_port;
	__u8 others;   /* 1: counts other packets of the rule too, whatever their addresses and ports */
	__u8 process;  /* number of the executable at this end; not in denials */
	__u8 response; /* of HW_EVENT_GUARD */
	__u8 padding[3];
	__u8 source[16];
	__u8 destination[16];
	/* Of the flow since it was opened, by enum hw_direction; zeros in denials, as are the next. Nothing that is
	 * lost on the way to userspace is missing in them. */
	__u64 total_packets[2];
	__u64 total_bytes[2];
	__u64 seen_ns;	/* ticks(), last packet */
	__u64 ticks_ns; /* ticks() at time_ns: what joins the two clocks */
	__u32 place;	/* of its endpoint's ring: with the slot, what tells flows apart that live at one time */
	__u32 state;	/* the state word, see tcp.h */
};

/* What one CPU has sampled of an endpoint. */
struct hw_sampler {
	__u64 pool; /* packets that could have been taken */
	__u64 taken;
	__u64 lost;	  /* of those taken: the endpoint's bucket had no token, or the ring no space */
	__u64 sampling;	  /* under which `skip` was drawn */
	__u64 skip;	  /* packets until the next one that is taken, it too */
	__u64 arrival_ns; /* of the bucket, as in struct hw_usage */
};

/* One packet that was taken. A super-packet (GSO, GRO) is one packet, as it is to policy. */
enum hw_sample_size {
	HW_SAMPLE_HEADER = 128,
};
struct hw_sample {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 pool;    /* of its CPU, the packet included */
	__u64 lost;    /* of its CPU */
	__u32 slot;
	__u32 rate;   /* one in so many, when it was taken */
	__u32 number; /* of the rule; 0: none decided */
	__u32 peer;   /* index; 0: not looked up */
	__u32 frame_len_bytes;
	__u16 header_len_bytes;
	__u16 segments; /* of a super-packet; 0: it is none */
	__u8 direction;
	__u8 verdict;
	__u8 reason;
	__u8 process; /* number of the executable at this end */
	__u32 cpu;
	__u8 header[HW_SAMPLE_HEADER]; /* from the Ethernet header on, as the packet came */
};

/*
 * Denials of one kind that wait for the next event: `event` as it would be sent now, with what is not yet reported. An
 * endpoint has so many places for kinds told apart by rule, peer and port, and behind them so many by rule alone.
 */
struct hw_denial {
	__u32 busy; /* taken by compare-and-swap, never waited for */
	__u32 tag;  /* of what is counted here */
	__u64 reported_ns;
	struct hw_event event;
};

#endif
