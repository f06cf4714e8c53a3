/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * packet.h - what is known of the packet in hand, and bounded access to its bytes.
 *
 * Headers are read in place where they are linear and at a fixed offset, through bpf_skb_load_bytes() otherwise: a
 * packet may be a 64 KiB super-packet whose data lies in fragments of the skb.
 */
#ifndef HW_PACKET_H
#define HW_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

/* Names for wire values, so that an ethertype is never compared with a protocol number. */
typedef struct {
	__be16 wire;
} hw_ethertype;

/* https://www.iana.org/assignments/protocol-numbers */
enum hw_protocol {
	HW_PROTOCOL_ICMP = 1,
	HW_PROTOCOL_TCP = 6,
	HW_PROTOCOL_UDP = 17,
	HW_PROTOCOL_ESP = 50,
	HW_PROTOCOL_ICMPV6 = 58,
	HW_PROTOCOL_SCTP = 132,
};

enum hw_l4_kind {
	HW_L4_STATELESS = 0, /* decided packet by packet */
	HW_L4_TCP,
	HW_L4_SCTP,
	HW_L4_DATAGRAM, /* UDP: a flow with replies, told by ports alone */
	HW_L4_ESP,	/* a flow of one direction */
	HW_L4_ECHO,	/* ICMP and ICMPv6 echo */
	HW_L4_ICMP_ERROR,
	HW_L4_CHECKED,	/* ND and DHCP: verified, never ruled */
	HW_L4_FRAGMENT, /* not the first of its datagram: what it is of is not known yet */
};

enum hw_special {
	HW_SPECIAL_CAPPED = 1, /* as struct hw_endpoint says */
	HW_SPECIAL_FIRST_FRAGMENT = 2,
	HW_SPECIAL_LATER_FRAGMENT = 4,
	HW_SPECIAL_FRAGMENT = HW_SPECIAL_FIRST_FRAGMENT | HW_SPECIAL_LATER_FRAGMENT,
};

struct hw_packet {
	struct hw_flow_key key;
	struct hw_active active; /* as it was when the packet came: one packet, one revision */
	__u64 now_ns;		 /* ticks() */
	__u32 epoch;		 /* of the endpoint's network, likewise */
	__u32 len_bytes;	 /* of the frame */
	__u32 l4_offset;
	__u32 l4_len_bytes;
	union {
		__u32 place; /* of the ring, where the packet opens a flow */
		__u32 limit; /* number of the rule whose limit denies the packet, before it has a place */
	};
	__u16 port; /* host order: the destination port, or the ICMP type */
	hw_ethertype ethertype;
	__u8 direction;
	__u8 opener; /* direction of the packet that opens the flow that this packet would belong to */
	__u8 family; /* 4 or 6 */
	__u8 kind;   /* enum hw_l4_kind */
	__u8 tcp_flags;
	__u8 may_open;
	__u8 icmp_code;
	union {
		__u8 hop_limit; /* of ND, which opens nothing */
		__u8 process;	/* at this end, by its number; where a decision asked for it, see process.h */
	};
	union {
		__u8 tcp_options_len;
		__u8 sctp_chunks; /* enum hw_sctp_found */
	};
	__u8 special;	  /* enum hw_special */
	__u16 tcp_window; /* as it stands there */
	union {
		struct {
			__u32 seq;
			/* behind the last that the segment takes: SYN and FIN count (RFC 9293, section 3.4) */
			__u32 seq_end;
			__u32 ack;
		};
		struct {		   /* of HW_L4_SCTP, as they stand there */
			__u32 sctp_tag;	   /* in the place of seq: what fragments share, see fragment.h */
			__u32 sctp_chosen; /* the tag of an INIT or INIT ACK that its sender wants to be sent */
		};
		struct { /* of HW_L4_FRAGMENT */
			__u32 fragment_id;
			__u32 fragment_offset; /* in bytes */
			__u32 more_fragments;
		};
	};
};

#define HW_ETH_LEN ((__u32)sizeof(struct ethhdr))
#define HW_IPV4_LEN 20u
#define HW_IPV6_LEN 40u
/*
 * What is made linear before parsing: Ethernet with IPv6, or with IPv4 and the fixed part of TCP, which are as long.
 * Not a byte more: stacks keep just the headers linear, and to pull means to copy the head of every packet that carries
 * data.
 */
#define HW_LINEAR_LEN (HW_ETH_LEN + HW_IPV6_LEN)

/* In stores as wide as the loads that follow soon: a wide load of narrow stores still under way waits for them all. */
static __always_inline void address_from_ipv4(__u8 address[16], __be32 ipv4)
{
	__u64 *halves = (__u64 *)address;

	halves[0] = 0;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	halves[1] = (__u64)ipv4 << 32 | bpf_htonl(0xffff);
#else
	halves[1] = (__u64)bpf_htonl(0xffff) << 32 | ipv4;
#endif
}

static __always_inline bool is_mapped_ipv4(const __u8 address[16])
{
	const __u32 *words = (const __u32 *)address;

	return !words[0] && !words[1] && words[2] == bpf_htonl(0xffff);
}

static __always_inline void address_copy(__u8 to[16], const void *from)
{
	__builtin_memcpy(to, from, 16);
}

static __always_inline bool address_equal(const __u8 a[16], const __u8 b[16])
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

static __always_inline bool address_is_zero(const __u8 a[16])
{
	const __u64 *x = (const __u64 *)a;

	return !x[0] && !x[1];
}

static __always_inline bool mac_equal(const __u8 a[6], const __u8 b[6])
{
	return *(const __u16 *)a == *(const __u16 *)b && *(const __u16 *)(a + 2) == *(const __u16 *)(b + 2) &&
	       *(const __u16 *)(a + 4) == *(const __u16 *)(b + 4);
}

static __always_inline bool mac_is_group(const __u8 mac[6])
{
	return mac[0] & 1;
}

/* The two ends as the packet names them. */
static __always_inline __u8 *packet_source(struct hw_packet *p)
{
	return p->direction == HW_EGRESS ? p->key.local : p->key.remote;
}

static __always_inline __u8 *packet_destination(struct hw_packet *p)
{
	return p->direction == HW_EGRESS ? p->key.remote : p->key.local;
}

/* Both ports in one store, see address_from_ipv4(); `ports` is the first word of a TCP, UDP or SCTP header. */
static __always_inline void packet_set_ports(struct hw_packet *p, const void *ports)
{
	__u32 word = *(const __u32 *)ports;

	if (p->direction == HW_INGRESS)
		word = word << 16 | word >> 16;
	*(__u32 *)&p->key.local_port = word;
}

#endif
