/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * answer.h - what the sender of a packet hears whose denial says `reject`: a RST (RFC 9293, section 3.10.7), or ICMP
 * "administratively prohibited" (RFC 1812, section 5.2.7.1; RFC 4443, section 3.1), as if its destination had answered.
 *
 * The packet in hand becomes its own answer and leaves by the port's other direction, where the port's other program
 * meets it and lets it pass by its ticket: a number from the kernel's random numbers, good for one packet, in skb->mark
 * and in the endpoint's own hw_usage. No wire format has a mark, a tap gives its packets none, and one from another
 * network namespace is cleared on the way in: a workload cannot even try a number.
 *
 * An answer is at most 48 bytes longer than what it answers (IPv4: 28), each endpoint's pass a token bucket of their
 * own, and those that it stops are counted: rejecting makes no reflector.
 */
#ifndef HW_ANSWER_H
#define HW_ANSWER_H

#include <linux/pkt_cls.h>

#include "ip.h"
#include "maps.h"
#include "report.h"
#include "transport.h"

#define HW_ICMP_CODE_PROHIBITED 13 /* RFC 1812, section 5.2.7.1 */
#define HW_ICMPV6_UNREACHABLE 1
#define HW_ICMPV6_CODE_PROHIBITED 1
#define HW_ANSWER_HOP_LIMIT 64
/* What is quoted behind the IP header: all that finding the flow takes (RFC 792). */
#define HW_QUOTE_L4_LEN 8u
#define HW_UDP_CHECK_OFFSET 6u
#define HW_IPV4_DONT_FRAGMENT 0x4000

static __always_inline bool rejects(const struct hw_answer *a)
{
	return a->flags & HW_DECISION_REJECT && a->reason == HW_REASON_POLICY;
}

/* RFC 1071; sums of words as they lie in memory. */
static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* ::ffff:a.b.c.d has the sum of a.b.c.d: 0xffff is nothing in ones' complement. So one way serves both families. */
static __always_inline __u64 pseudo_header(struct hw_packet *p, __u8 protocol, __be16 len)
{
	_Static_assert(offsetof(struct hw_flow_key, remote) == offsetof(struct hw_flow_key, local) + 16,
		       "side by side");

	return (__u64)(__u32)bpf_csum_diff(NULL, 0, (__be32 *)p->key.local, 32, 0) + bpf_htons(protocol) + len;
}

/*
 * Whether a checksum is left to the device: then it holds the pseudo header's sum, and skb->ip_summed, which no program
 * can see or change, has whoever transmits the packet finish it. A real checksum is the same in one packet of 65,536.
 */
static __always_inline bool checksum_is_partial(struct hw_packet *p, __u8 protocol, __be16 len, __be16 check)
{
	return fold(pseudo_header(p, protocol, len)) == check;
}

/* The head of both families' errors; <linux/icmp.h> wants the C library's headers for this machine. */
struct hw_icmp {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be32 unused;
};

union hw_answer_ip {
	struct iphdr four;
	struct ipv6hdr six;
};

static __always_inline void fill_ipv4(struct iphdr *ip, struct hw_packet *p, __u8 protocol, __u32 payload_len)
{
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = bpf_htons(HW_IPV4_LEN + payload_len);
	ip->frag_off = bpf_htons(HW_IPV4_DONT_FRAGMENT);
	ip->ttl = HW_ANSWER_HOP_LIMIT;
	ip->protocol = protocol;
	__builtin_memcpy(&ip->saddr, packet_destination(p) + 12, 4);
	__builtin_memcpy(&ip->daddr, packet_source(p) + 12, 4);
	ip->check = ~fold((__u32)bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0));
}

static __always_inline void fill_ipv6(struct ipv6hdr *ip, struct hw_packet *p, __u8 protocol, __u32 payload_len)
{
	ip->version = 6;
	ip->payload_len = bpf_htons(payload_len);
	ip->nexthdr = protocol;
	ip->hop_limit = HW_ANSWER_HOP_LIMIT;
	address_copy(ip->saddr.s6_addr, packet_destination(p));
	address_copy(ip->daddr.s6_addr, packet_source(p));
}

/* Behind the packet's own Ethernet header: its first bytes become those of the answer. */
static __always_inline long store_ip(struct __sk_buff *skb, struct hw_packet *p, __u8 protocol, __u32 payload_len)
{
	union hw_answer_ip ip = {};

	if (p->family == 4) {
		fill_ipv4(&ip.four, p, protocol, payload_len);
		return bpf_skb_store_bytes(skb, HW_ETH_LEN, &ip, HW_IPV4_LEN, BPF_F_RECOMPUTE_CSUM);
	}
	fill_ipv6(&ip.six, p, protocol, payload_len);
	return bpf_skb_store_bytes(skb, HW_ETH_LEN, &ip, HW_IPV6_LEN, BPF_F_RECOMPUTE_CSUM);
}

static __always_inline long turn_ethernet(struct __sk_buff *skb)
{
	__u8 macs[2 * ETH_ALEN], turned[2 * ETH_ALEN];

	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return -1;
	__builtin_memcpy(turned, macs + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(turned + ETH_ALEN, macs, ETH_ALEN);
	return bpf_skb_store_bytes(skb, 0, turned, sizeof(turned), 0);
}

/* The RST lies where the segment's fixed header lay: a partial checksum stays one of the same place. */
__noinline int become_reset(struct __sk_buff *skb, struct hw_packet *p)
{
	struct tcphdr segment, reset = {};
	__u32 header_len;
	bool partial;

	if (!p || bpf_skb_load_bytes(skb, p->l4_offset, &segment, sizeof(segment)))
		return -1;
	header_len = segment.doff * 4u;
	partial = checksum_is_partial(p, HW_PROTOCOL_TCP, bpf_htons(p->l4_len_bytes), segment.check);
	reset.source = segment.dest;
	reset.dest = segment.source;
	reset.doff = HW_TCP_LEN / 4;
	reset.rst = 1;
	if (segment.ack) {
		reset.seq = segment.ack_seq;
	} else {
		reset.ack = 1;
		reset.ack_seq =
			bpf_htonl(bpf_ntohl(segment.seq) + p->l4_len_bytes - header_len + segment.syn + segment.fin);
	}
	reset.check = fold(pseudo_header(p, HW_PROTOCOL_TCP, bpf_htons(HW_TCP_LEN)));
	if (!partial)
		reset.check = ~fold((__u32)bpf_csum_diff(NULL, 0, (__be32 *)&reset, sizeof(reset), 0));
	if (bpf_skb_change_tail(skb, p->l4_offset + HW_TCP_LEN, 0) || turn_ethernet(skb) ||
	    bpf_skb_store_bytes(skb, p->l4_offset, &reset, sizeof(reset), BPF_F_RECOMPUTE_CSUM))
		return -1;
	return store_ip(skb, p, HW_PROTOCOL_TCP, HW_TCP_LEN);
}

/* What the quoted packet adds to the answer's checksum, as it will be when a partial one has been finished. */
static __always_inline __u64 quote_sum(struct __sk_buff *skb, struct hw_packet *p)
{
	__be32 head[(HW_IPV6_LEN + HW_QUOTE_L4_LEN) / 4] = {};
	const __be16 *udp;
	__u64 sum;

	if (p->family == 4 ? bpf_skb_load_bytes(skb, HW_ETH_LEN, head + 5, HW_IPV4_LEN + HW_QUOTE_L4_LEN)
			   : bpf_skb_load_bytes(skb, HW_ETH_LEN, head, HW_IPV6_LEN + HW_QUOTE_L4_LEN))
		return 0;
	udp = (const __be16 *)(head + HW_IPV6_LEN / 4);
	if (p->key.protocol != HW_PROTOCOL_UDP ||
	    !checksum_is_partial(p, HW_PROTOCOL_UDP, udp[2], udp[HW_UDP_CHECK_OFFSET / 2]))
		return (__u32)bpf_csum_diff(NULL, 0, head, sizeof(head), 0);
	/* Finished, the header and all behind it sum to the complement of the pseudo header's sum. */
	sum = (__u32)bpf_csum_diff(NULL, 0, head, HW_IPV6_LEN, 0);
	return sum + (__u16)~udp[HW_UDP_CHECK_OFFSET / 2];
}

/* The packet's own head becomes the quote, and the headers of the answer go between it and Ethernet's. */
__noinline int become_unreachable(struct __sk_buff *skb, struct hw_packet *p)
{
	__u32 ip_len, payload_len;
	struct hw_icmp icmp = {};
	__u8 protocol;
	__u64 sum;

	if (!p || p->l4_len_bytes < HW_QUOTE_L4_LEN)
		return -1;
	ip_len = p->family == 4 ? HW_IPV4_LEN : HW_IPV6_LEN;
	payload_len = HW_ICMP_LEN + ip_len + HW_QUOTE_L4_LEN;
	sum = quote_sum(skb, p);
	if (p->family == 4) {
		protocol = HW_PROTOCOL_ICMP;
		icmp.type = HW_ICMP_UNREACHABLE;
		icmp.code = HW_ICMP_CODE_PROHIBITED;
	} else {
		protocol = HW_PROTOCOL_ICMPV6;
		icmp.type = HW_ICMPV6_UNREACHABLE;
		icmp.code = HW_ICMPV6_CODE_PROHIBITED;
		sum += pseudo_header(p, protocol, bpf_htons(payload_len));
	}
	icmp.checksum = ~fold(sum + (__u32)bpf_csum_diff(NULL, 0, (__be32 *)&icmp, sizeof(icmp), 0));
	if (bpf_skb_change_tail(skb, HW_ETH_LEN + ip_len + HW_QUOTE_L4_LEN, 0) ||
	    bpf_skb_adjust_room(skb, ip_len + HW_ICMP_LEN, BPF_ADJ_ROOM_MAC, 0) || turn_ethernet(skb) ||
	    bpf_skb_store_bytes(skb, HW_ETH_LEN + ip_len, &icmp, sizeof(icmp), BPF_F_RECOMPUTE_CSUM))
		return -1;
	return store_ip(skb, p, protocol, payload_len);
}

/* Nobody is told about a RST (RFC 9293, section 3.10.7.1), and nothing is made of headers that lie elsewhere. */
static __always_inline bool is_answerable(const struct hw_packet *p)
{
	return !(p->tcp_flags & HW_TCP_RST) && p->kind != HW_L4_ICMP_ERROR && !(p->special & HW_SPECIAL_FRAGMENT) &&
	       p->l4_offset == HW_ETH_LEN + (p->family == 4 ? HW_IPV4_LEN : HW_IPV6_LEN);
}

/* Sends what a denied packet is answered with, in its place. Its source was checked on egress, by parse and decide().
 */
__noinline int answer_denied(struct __sk_buff *skb, struct hw_packet *p)
{
	struct hw_endpoint *endpoint;
	struct hw_usage *usage;
	__u32 slot, place, ticket;

	if (!p)
		return TC_ACT_SHOT;
	slot = p->key.slot;
	usage = bpf_map_lookup_elem(&hw_usage, &slot);
	endpoint = bpf_map_lookup_elem(&hw_endpoints, &slot);
	if (!usage || !endpoint || p->tcp_flags & HW_TCP_RST)
		return TC_ACT_SHOT;
	if (!is_answerable(p) || !take_token(&usage->answer_arrival_ns, endpoint, ticks()) ||
	    (p->kind == HW_L4_TCP ? become_reset(skb, p) : become_unreachable(skb, p))) {
		__sync_fetch_and_add(&usage->answers_suppressed, 1);
		return TC_ACT_SHOT;
	}
	place = __sync_fetch_and_add(&usage->answers, 1) & (HW_ANSWER_TICKETS - 1);
	/* Never 0, and its lower bits say where it is kept. */
	ticket = ((bpf_get_prandom_u32() | 0x80000000) & ~(HW_ANSWER_TICKETS - 1)) | place;
	usage->tickets[place] = ticket;
	skb->mark = ticket;
	return bpf_redirect(skb->ifindex, p->direction == HW_EGRESS ? 0 : BPF_F_INGRESS);
}

/* Takes the ticket of an answer; the mark is nobody's business further on. */
__noinline int is_own_answer(struct __sk_buff *skb, const struct hw_packet *p)
{
	struct hw_usage *usage;
	__u32 slot, ticket;

	if (!p)
		return false;
	slot = p->key.slot;
	ticket = skb->mark;
	usage = bpf_map_lookup_elem(&hw_usage, &slot);
	if (!ticket || !usage)
		return false;
	if (__sync_val_compare_and_swap(&usage->tickets[ticket & (HW_ANSWER_TICKETS - 1)], ticket, 0) != ticket)
		return false;
	skb->mark = 0;
	return true;
}

#endif
