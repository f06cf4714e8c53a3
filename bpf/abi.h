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

#define HW_ABI_VERSION 6

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
	HW_REASON_FRAGMENT,
	HW_REASON_L4_HEADER,
	HW_REASON_TCP_FLAGS,
	HW_REASON_TCP_STATE,	  /* a flag that the connection's state has no place for */
	HW_REASON_TCP_WINDOW,	  /* a sequence or acknowledgement number that is in neither window */
	HW_REASON_NO_FLOW,	  /* neither opens a flow nor belongs to one */
	HW_REASON_ICMP_UNRELATED, /* an ICMP error about a packet of no tracked flow */
	HW_REASON_ICMP_MTU,	  /* an ICMP error that tells of a path narrower than any may be */
	HW_REASON_FLOW_QUOTA,
	HW_REASON_TABLE_FULL,
	HW_REASON_INTERNAL, /* the datapath's own state is incomplete; never expected */
	HW_REASON_COUNT,
};

/* The size of one endpoint's part of hw_reasons; at least HW_REASON_COUNT. */
#define HW_REASON_STRIDE 32
_Static_assert(HW_REASON_COUNT <= HW_REASON_STRIDE, "every reason has a counter");

enum hw_event_kind {
	HW_EVENT_NEW = 1,
	HW_EVENT_UPDATE = 2,
	HW_EVENT_END = 3,
	HW_EVENT_DENIED = 4,
};

/* The read-only section of its own that the loader fills in: one port's programs are loaded for one slot. */
struct hw_constants {
	__u32 slot;
	__u32 abi_version;
	__u32 tick_ns; /* one jiffy: the resolution of CLOCK_MONOTONIC_COARSE */
	__u32 padding;
};

struct hw_endpoint {
	__u8 mac[6];
	__u8 padding[2];
	__u32 network;		 /* index into hw_networks */
	__u32 flow_quota;	 /* places in the endpoint's ring; a power of two is not required */
	__u64 event_interval_ns; /* one event costs this much of the bucket */
	__u64 event_burst_ns;	 /* and this is how much the bucket holds */
};

/* The two stamps' source and the endpoint's policy, in one aligned word that userspace stores atomically. */
struct hw_active {
	__u32 policy;	  /* index into hw_policies of the block of the endpoint's first address */
	__u32 generation; /* 0: no revision is in force */
};

struct hw_network {
	__u64 epoch; /* grows when an address is removed or changes identity */
};

/*
 * What one address of an endpoint enforces in one revision; an endpoint has a block for each, side by side, the unused
 * ones behind them with an address of zeros. Written only while no hw_active refers to it, so that an address comes and
 * goes with its policy, in one store.
 */
#define HW_ADDRESSES_PER_ENDPOINT 16
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
	HW_DECISION_REJECT = 1, /* of a denial: the sender is answered, see answer.h */
	HW_DECISION_KEEP = 2,	/* of an allowance: what it opens outlives its revocation */
	HW_DECISION_KEEPS = 4,	/* of a denial: flows that a revoked HW_DECISION_KEEP opened go on */
};

struct hw_decision {
	__u32 number; /* the rule's 32-bit number, never reused for another meaning */
	__u8 verdict; /* enum hw_verdict */
	__u8 log;
	__u8 flags; /* enum hw_decision_flag */
	__u8 padding;
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
	__be16 local_port;  /* for ICMP the identifier of an echo */
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
	HW_FLOW_OPENING = 0,	 /* TCP: SYN seen. Others: no reply yet */
	HW_FLOW_ANSWERED = 1,	 /* TCP: SYN and SYN+ACK seen */
	HW_FLOW_ESTABLISHED = 2, /* TCP: handshake complete. Others: replied */
	HW_FLOW_CLOSING = 3,	 /* TCP: one FIN seen */
	HW_FLOW_CLOSED = 4,	 /* TCP: both FINs seen, or a RST */
};

/* What one direction of a TCP connection has shown; one word, by compare-and-swap. Sequence numbers, see tcp.h. */
struct hw_tcp_way {
	__u32 end;  /* behind the last that it sent */
	__u32 edge; /* behind the last that it lets the other direction send */
};

/*
 * What every packet reads or writes is the first line of the cache, and an IPv4 flow's entry in the kernel's hash table
 * is three lines, of which its header and key are the first.
 */
struct hw_flow {
	__u32 tag;	  /* a hash of the key: an element freed and reused under a reader is told apart by it */
	__u32 generation; /* first stamp: the endpoint's */
	__u32 epoch;	  /* second stamp: the network's, whose 2^32 changes no flow outlives unseen */
	__u32 decision;	  /* index into hw_decisions */
	__u64 seen_ns;	  /* ticks(), last packet */
	__u32 state;	  /* see tcp.h; compare-and-swap */
	__u32 peer;	  /* the peer's index */
	__u64 packets[2]; /* by direction */
	__u64 bytes[2];

	struct hw_tcp_way ways[2]; /* by direction, as are the next two */
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
	__u8 kept;	 /* decided by a HW_DECISION_KEEP */
	__u8 padding;
};
_Static_assert(sizeof(struct hw_flow) == 128, "two lines of the cache");

/* One place of an endpoint's ring of flows. A flow exists only while it holds one. */
struct hw_ring_place {
	struct hw_flow_key key;
	__u32 used;
};

/* Answers of one endpoint that may be on their way to its other program at once; a power of two. */
#define HW_ANSWER_TICKETS 64
struct hw_usage {
	__u64 flows;		/* now in the table */
	__u64 cursor;		/* the ring's next place to examine */
	__u64 event_arrival_ns; /* theoretical arrival time of the bucket (GCRA, ITU-T I.371) */
	__u64 events_lost;
	__u64 answer_arrival_ns; /* of the answers' own bucket */
	__u64 answers;		 /* sent */
	__u64 answers_suppressed;
	__u32 tickets[HW_ANSWER_TICKETS]; /* of answers on their way; 0: none */
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
	__u8 others; /* 1: counts other packets of the rule too, whatever their addresses and ports */
	__u8 padding[5];
	__u8 source[16];
	__u8 destination[16];
};

/*
 * Denials of one kind that wait for the next event: `event` as it would be sent now, with what is not yet reported. An
 * endpoint has so many places for kinds told apart by rule, peer and port, and behind them so many by rule alone.
 */
#define HW_DENIALS_BY_PORT 64
#define HW_DENIALS_BY_RULE 16
#define HW_DENIALS_PER_ENDPOINT (HW_DENIALS_BY_PORT + HW_DENIALS_BY_RULE)
struct hw_denial {
	__u32 busy; /* taken by compare-and-swap, never waited for */
	__u32 tag;  /* of what is counted here */
	__u64 reported_ns;
	struct hw_event event;
};

#endif
