/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * fragment.h - fragments are decided as the datagram that they are of (RFC 791; RFC 8200, section 4.5).
 *
 * The first fragment shows the transport header, whole (RFC 7112; RFC 1858 of what else can be done), and is decided by
 * it. If it passes, one of the endpoint's places for datagrams remembers what it was, and the others pass as long as
 * its flow may: only behind it in time, and only where none that passed has been before. So whatever a receiver does
 * with overlapping fragments, it gets none (RFC 5722). What comes before its first fragment is denied: to keep it would
 * need memory of a length that senders choose.
 */
#ifndef HW_FRAGMENT_H
#define HW_FRAGMENT_H

#include "maps.h"
#include "packet.h"
#include "transport.h"

/* Longer than fragments overtake each other; a receiver puts a datagram together for 30 or 60 s. */
#define HW_DATAGRAM_LIFE_NS (10 * 1000000000ull)
/* Tries to take places that another CPU holds, for some fifty nanoseconds each. */
#define HW_DATAGRAM_TRIES 64
#define HW_FRAGMENT_UNIT 8u

/* The protocol is part of a datagram's name in IPv4 alone; IPv6 shows it in the first fragment only. */
static __always_inline bool is_of_datagram(const struct hw_datagram *datagram, const struct hw_packet *p, __u32 id)
{
	return datagram->begun_ns && datagram->id == id && address_equal(datagram->local, p->key.local) &&
	       address_equal(datagram->remote, p->key.remote) &&
	       (p->family == 6 || datagram->protocol == p->key.protocol);
}

/* The first of the places in which the packet's datagram may be remembered. */
static __always_inline __u32 set_of_datagram(const struct hw_packet *p, __u32 id)
{
	const __u32 *remote = (const __u32 *)p->key.remote;
	__u32 set = (id ^ remote[0] ^ remote[1] ^ remote[2] ^ remote[3]) * 0x9e3779b1u >> 16;

	set %= HW_DATAGRAMS_PER_ENDPOINT / 2 / HW_DATAGRAM_WAYS;
	/* What the endpoint is sent takes none of the places of what it sends. */
	return p->key.slot * HW_DATAGRAMS_PER_ENDPOINT + (p->direction & 1) * (HW_DATAGRAMS_PER_ENDPOINT / 2) +
	       set * HW_DATAGRAM_WAYS;
}

/* The packet's datagram in its set of places, or of those that may be given away the oldest. */
static __always_inline struct hw_datagram *find_datagram(const struct hw_packet *p, __u32 first, __u32 id,
							 bool or_oldest)
{
	struct hw_datagram *oldest = NULL;

	for (__u32 i = 0; i < HW_DATAGRAM_WAYS; i++) {
		__u32 index = first + i;
		struct hw_datagram *datagram = bpf_map_lookup_elem(&hw_datagrams, &index);

		if (!datagram)
			return NULL;
		if (is_of_datagram(datagram, p, id))
			return datagram;
		if (!oldest || datagram->begun_ns < oldest->begun_ns)
			oldest = datagram;
	}
	return or_oldest ? oldest : NULL;
}

/*
 * Takes a set of places by its first one, so that nobody looks for a datagram while another CPU writes one: two that
 * begin at once with one name would get a place each.
 */
static __always_inline struct hw_datagram *take_datagrams(__u32 first)
{
	struct hw_datagram *datagram = bpf_map_lookup_elem(&hw_datagrams, &first);

	if (!datagram)
		return NULL;
	for (int i = 0; i < HW_DATAGRAM_TRIES; i++) {
		if (!__sync_val_compare_and_swap(&datagram->busy, 0, 1))
			return datagram;
	}
	return NULL;
}

static __always_inline void release_datagrams(struct hw_datagram *first)
{
	*(volatile __u32 *)&first->busy = 0;
}

static __always_inline bool is_over(const struct hw_datagram *datagram, __u64 now_ns)
{
	return now_ns - datagram->begun_ns > HW_DATAGRAM_LIFE_NS;
}

/*
 * Takes a stretch of the datagram, in units of eight bytes, for this fragment. False if any of it was taken before, if
 * it contradicts where the datagram ends, or if it would leave more stretches apart than are remembered.
 */
static __always_inline bool cover(struct hw_datagram *datagram, __u32 offset, __u32 len, bool more)
{
	__u16 start = offset / HW_FRAGMENT_UNIT, end = (offset + len + HW_FRAGMENT_UNIT - 1) / HW_FRAGMENT_UNIT;
	__u16 whole_start = start, whole_end = end;
	bool kept = false;

	if (datagram->len_bytes && (more ? offset + len >= datagram->len_bytes : offset + len != datagram->len_bytes))
		return false;
#pragma unroll
	for (int i = 0; i < HW_DATAGRAM_STRETCHES; i++) {
		const struct hw_stretch *held = &datagram->covered[i];

		if (held->end && ((start < held->end && held->start < end) || (!more && held->end > end)))
			return false;
	}
#pragma unroll
	for (int i = 0; i < HW_DATAGRAM_STRETCHES; i++) {
		struct hw_stretch *held = &datagram->covered[i];

		if (held->end && held->end == start) {
			whole_start = held->start;
			held->end = 0;
		} else if (held->end && held->start == end) {
			whole_end = held->end;
			held->end = 0;
		}
	}
#pragma unroll
	for (int i = 0; i < HW_DATAGRAM_STRETCHES; i++) {
		struct hw_stretch *held = &datagram->covered[i];

		if (!kept && !held->end) {
			held->start = whole_start;
			held->end = whole_end;
			kept = true;
		}
	}
	if (!more)
		datagram->len_bytes = offset + len;
	/* All of it is there: the name may mean another datagram from now on. */
	if (datagram->len_bytes && !whole_start &&
	    whole_end == (datagram->len_bytes + HW_FRAGMENT_UNIT - 1) / HW_FRAGMENT_UNIT)
		datagram->begun_ns = 0;
	return kept;
}

/*
 * A fragment behind the first: gives the packet what the first one showed, so that it is decided by the same flow. A
 * segment of TCP reaches as far as this fragment does; a FIN is behind the last byte.
 */
__noinline int join_datagram(struct hw_packet *p)
{
	int reason = HW_REASON_FRAGMENT_ORPHAN;
	struct hw_datagram *datagram, *taken;
	__u32 id, offset, first;
	bool more;

	if (!p)
		return HW_REASON_INTERNAL;
	id = p->fragment_id;
	offset = p->fragment_offset;
	more = p->more_fragments;
	first = set_of_datagram(p, id);
	taken = take_datagrams(first);
	if (!taken)
		return reason;
	datagram = find_datagram(p, first, id, false);
	if (datagram && !is_over(datagram, p->now_ns)) {
		p->key.protocol = datagram->protocol;
		*(__u32 *)&p->key.local_port = datagram->ports;
		p->port = datagram->port;
		p->kind = datagram->kind;
		p->opener = datagram->opener;
		p->tcp_flags = datagram->tcp_flags & (more ? ~HW_TCP_FIN : 0xff);
		p->tcp_window = datagram->tcp_window;
		p->seq = datagram->seq;
		p->ack = datagram->ack;
		p->seq_end = datagram->seq + offset + p->l4_len_bytes - datagram->data_offset +
			     (p->tcp_flags & HW_TCP_FIN);
		reason = cover(datagram, offset, p->l4_len_bytes, more) ? HW_REASON_NONE : HW_REASON_FRAGMENT_OVERLAP;
	}
	release_datagrams(taken);
	return reason;
}

/* The name of a datagram's first fragment, and where what was cut into fragments begins; 0 if it is not there. */
static __always_inline __u32 read_name(struct __sk_buff *skb, const struct hw_packet *p, __u32 *id)
{
	struct {
		__u8 next;
		__u8 len_8bytes;
		__be16 offset;
		__be32 id;
	} header;
	__u32 offset = HW_ETH_LEN + HW_IPV6_LEN;
	__be16 id4;
	__u8 type;

	if (p->family == 4) {
		if (bpf_skb_load_bytes(skb, HW_ETH_LEN + 4, &id4, sizeof(id4)))
			return 0;
		*id = bpf_ntohs(id4);
		return HW_ETH_LEN + HW_IPV4_LEN;
	}
	if (bpf_skb_load_bytes(skb, HW_ETH_LEN + 6, &type, sizeof(type)))
		return 0;
	for (int i = 0; i < HW_IPV6_EXTENSIONS; i++) {
		if (bpf_skb_load_bytes(skb, offset, &header, sizeof(header)))
			return 0;
		if (type == HW_IPV6_FRAGMENT) {
			*id = bpf_ntohl(header.id);
			return offset + sizeof(header);
		}
		type = header.next;
		offset += ((__u32)header.len_8bytes + 1) * 8;
	}
	return 0;
}

/*
 * Why a first fragment may not begin its datagram, as far as that is known before it is decided: what is denied must
 * not have opened a flow.
 */
__noinline int expect_datagram(struct __sk_buff *skb, struct hw_packet *p)
{
	struct hw_datagram *datagram;
	__u32 id = 0;

	if (!p)
		return HW_REASON_INTERNAL;
	if (!read_name(skb, p, &id))
		return HW_REASON_FRAGMENT;
	datagram = find_datagram(p, set_of_datagram(p, id), id, false);
	return datagram && !is_over(datagram, p->now_ns) ? HW_REASON_FRAGMENT_OVERLAP : HW_REASON_NONE;
}

/* The first fragment passes, if its datagram can be remembered: else the rest could not. */
__noinline int begin_datagram(struct __sk_buff *skb, struct hw_packet *p)
{
	__u8 len_and_flags[2] = {};
	struct hw_datagram *datagram, *taken;
	__u32 id = 0, start, first;

	if (!p)
		return HW_REASON_INTERNAL;
	start = read_name(skb, p, &id);
	if (!start)
		return HW_REASON_FRAGMENT;
	if (p->kind == HW_L4_TCP && bpf_skb_load_bytes(skb, p->l4_offset + 12, len_and_flags, sizeof(len_and_flags)))
		return HW_REASON_FRAGMENT;
	first = set_of_datagram(p, id);
	taken = take_datagrams(first);
	if (!taken)
		return HW_REASON_FRAGMENT_ORPHAN;
	datagram = find_datagram(p, first, id, true);
	if (!datagram || (is_of_datagram(datagram, p, id) && !is_over(datagram, p->now_ns))) {
		release_datagrams(taken);
		return HW_REASON_FRAGMENT_OVERLAP;
	}
	address_copy(datagram->local, p->key.local);
	address_copy(datagram->remote, p->key.remote);
	datagram->id = id;
	datagram->ports = *(__u32 *)&p->key.local_port;
	datagram->seq = p->seq;
	datagram->ack = p->ack;
	datagram->len_bytes = 0;
	__builtin_memset(datagram->covered, 0, sizeof(datagram->covered));
	datagram->covered[0].end = (p->l4_offset - start + p->l4_len_bytes) / HW_FRAGMENT_UNIT;
	datagram->port = p->port;
	datagram->tcp_window = p->tcp_window;
	datagram->protocol = p->key.protocol;
	datagram->kind = p->kind;
	datagram->opener = p->opener;
	datagram->data_offset = p->l4_offset - start + (len_and_flags[0] >> 4) * 4;
	datagram->tcp_flags = len_and_flags[1];
	datagram->begun_ns = p->now_ns;
	release_datagrams(taken);
	return HW_REASON_NONE;
}

#endif
