/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * sctp.h - an SCTP association between two ends, as the packets between them show it: its state and its verification
 * tags (RFC 9260, sections 3, 5, 8.4, 8.5 and 9).
 *
 * Each end chooses the tag that every packet to it must carry, in its INIT or INIT ACK, and who sees neither can only
 * guess 32 bits. So the tags are what is tracked; numbers of DATA chunks are not, and the CRC32c is its receiver's to
 * check. A packet between other addresses of the two ends (multi-homing) belongs to no flow.
 */
#ifndef HW_SCTP_H
#define HW_SCTP_H

#include "packet.h"
#include "tcp.h"
#include "transport.h"

enum hw_sctp_type {
	HW_SCTP_DATA = 0,
	HW_SCTP_INIT = 1,
	HW_SCTP_INIT_ACK = 2,
	HW_SCTP_ABORT = 6,
	HW_SCTP_SHUTDOWN = 7,
	HW_SCTP_SHUTDOWN_ACK = 8,
	HW_SCTP_COOKIE_ECHO = 10,
	HW_SCTP_COOKIE_ACK = 11,
	HW_SCTP_SHUTDOWN_COMPLETE = 14,
	HW_SCTP_I_DATA = 64, /* RFC 8260 */
};

/* What was found in a packet: hw_packet.sctp_chunks. */
enum hw_sctp_found {
	HW_FOUND_INIT = 0x01,
	HW_FOUND_INIT_ACK = 0x02,
	HW_FOUND_COOKIE_ECHO = 0x04,
	HW_FOUND_COOKIE_ACK = 0x08,
	HW_FOUND_ABORT = 0x10,
	HW_FOUND_SHUTDOWN = 0x20, /* or SHUTDOWN ACK */
	HW_FOUND_SHUTDOWN_COMPLETE = 0x40,
	HW_FOUND_REFLECTED = 0x80, /* the T bit: its sender knows no association, and gives back the tag that it got */
};

#define HW_SCTP_CHUNK_LEN 4u
#define HW_SCTP_INIT_LEN 20u
#define HW_SCTP_T_BIT 1
/* Control chunks before the first that carries data; what stands in one packet today is three or four. */
#define HW_SCTP_CHUNKS 16
#define HW_SCTP_TRIES 4

struct hw_sctp_chunk {
	__u8 type;
	__u8 flags;
	__be16 len; /* of the chunk without its padding */
	__be32 initiate_tag;
};

static __always_inline __u8 sctp_found(const struct hw_sctp_chunk *chunk)
{
	__u8 reflected = chunk->flags & HW_SCTP_T_BIT ? HW_FOUND_REFLECTED : 0;

	switch (chunk->type) {
	case HW_SCTP_INIT:
		return HW_FOUND_INIT;
	case HW_SCTP_INIT_ACK:
		return HW_FOUND_INIT_ACK;
	case HW_SCTP_COOKIE_ECHO:
		return HW_FOUND_COOKIE_ECHO;
	case HW_SCTP_COOKIE_ACK:
		return HW_FOUND_COOKIE_ACK;
	case HW_SCTP_ABORT:
		return HW_FOUND_ABORT | reflected;
	case HW_SCTP_SHUTDOWN:
	case HW_SCTP_SHUTDOWN_ACK:
		return HW_FOUND_SHUTDOWN;
	case HW_SCTP_SHUTDOWN_COMPLETE:
		return HW_FOUND_SHUTDOWN_COMPLETE | reflected;
	default:
		return 0;
	}
}

/*
 * The chunks of a packet up to the first that carries data: control chunks stand before it (section 6.10), and a
 * receiver takes none behind it that could end or begin an association.
 */
__noinline int parse_chunks(struct __sk_buff *skb, struct hw_packet *p)
{
	const __u8 alone = HW_FOUND_INIT | HW_FOUND_INIT_ACK | HW_FOUND_SHUTDOWN_COMPLETE;
	__u32 offset = HW_SCTP_LEN;

	if (!p)
		return HW_REASON_INTERNAL;
	for (int i = 0; i < HW_SCTP_CHUNKS; i++) {
		struct hw_sctp_chunk chunk = {};
		__u32 left = p->l4_len_bytes - offset, padded;
		bool carries_data, is_cut;
		__u8 found;

		if (left < HW_SCTP_CHUNK_LEN)
			return HW_REASON_L4_HEADER;
		if (bpf_skb_load_bytes(skb, p->l4_offset + offset, &chunk, HW_SCTP_CHUNK_LEN))
			return HW_REASON_TRUNCATED;
		padded = (bpf_ntohs(chunk.len) + 3u) & ~3u;
		carries_data = chunk.type == HW_SCTP_DATA || chunk.type == HW_SCTP_I_DATA;
		is_cut = p->special & HW_SPECIAL_FIRST_FRAGMENT;
		if (bpf_ntohs(chunk.len) < HW_SCTP_CHUNK_LEN || (padded > left && !(is_cut && carries_data)))
			return HW_REASON_L4_HEADER;
		found = sctp_found(&chunk);
		/* What comes behind it in other fragments is not seen: whether it is alone, or cut itself. */
		if (found && is_cut)
			return HW_REASON_FRAGMENT;
		if (found & alone && (i || padded != left))
			return HW_REASON_L4_HEADER;
		if (found & (HW_FOUND_INIT | HW_FOUND_INIT_ACK)) {
			if (bpf_ntohs(chunk.len) < HW_SCTP_INIT_LEN)
				return HW_REASON_L4_HEADER;
			if (bpf_skb_load_bytes(skb, p->l4_offset + offset, &chunk, sizeof(chunk)))
				return HW_REASON_TRUNCATED;
			if (!chunk.initiate_tag)
				return HW_REASON_SCTP_TAG;
			p->sctp_chosen = chunk.initiate_tag;
		}
		p->sctp_chunks |= found;
		if (padded == left || carries_data) {
			p->may_open = p->sctp_chunks & HW_FOUND_INIT;
			/* Nobody chooses 0: it marks the packet whose receiver has not chosen yet (section 8.5.1, A).
			 */
			return p->may_open == !p->sctp_tag ? HW_REASON_NONE : HW_REASON_SCTP_TAG;
		}
		offset += padded;
	}
	return HW_REASON_L4_HEADER;
}

/* Where a flow of TCP keeps its windows. */
static __always_inline struct hw_sctp_tags *sctp_tags(struct hw_flow *flow)
{
	_Static_assert(offsetof(struct hw_flow, window) - offsetof(struct hw_flow, ways) == sizeof(struct hw_sctp_tags),
		       "the tags lie over ways and ack");

	return (struct hw_sctp_tags *)flow->ways;
}

static __always_inline __u32 read_tag(const __u32 *tag)
{
	return *(const volatile __u32 *)tag;
}

/* A tag that the packets of a direction are asked to carry. The one before is remembered: of two INIT ACKs to an INIT
 * that was sent twice, either may be the one that counts. */
static __always_inline void ask_for(struct hw_sctp_tags *tags, __u32 direction, __u32 tag)
{
	__u32 before = read_tag(&tags->asked[direction & 1]);

	if (before == tag)
		return;
	tags->earlier[direction & 1] = before;
	tags->asked[direction & 1] = tag;
}

/* What the first INIT shows. */
static __always_inline void begin_sctp(const struct hw_packet *p, struct hw_flow *flow)
{
	ask_for(sctp_tags(flow), !p->direction, p->sctp_chosen);
}

static __always_inline bool sctp_is_asked(const struct hw_sctp_tags *tags, __u32 direction, __u32 tag)
{
	return tag == read_tag(&tags->asked[direction & 1]) || tag == read_tag(&tags->earlier[direction & 1]);
}

static __always_inline bool sctp_is_agreed(const struct hw_sctp_tags *tags, __u32 direction, __u32 tag)
{
	return tag == read_tag(&tags->agreed[direction & 1]);
}

/*
 * Another INIT: sent again, crossing the other side's, or of an end that has forgotten the association (section 5.2).
 * What is agreed stays in force until the other side takes the cookie: anybody can forge an INIT.
 */
static __always_inline void sctp_init(const struct hw_packet *p, struct hw_sctp_tags *tags)
{
	__u32 direction = p->direction & 1;

	/* What the other side chose, it chose for the association in force. */
	if (sctp_is_agreed(tags, direction, read_tag(&tags->asked[direction])))
		tags->asked[direction] = 0;
	ask_for(tags, !direction, p->sctp_chosen);
}

/* The cookie was taken: the tags asked for are the association's. A COOKIE ACK that comes again agrees to nothing. */
static __always_inline void sctp_cookie_ack(const struct hw_packet *p, struct hw_sctp_tags *tags, __u32 *next)
{
	__u32 direction = p->direction & 1, other = !direction;

	if (sctp_is_agreed(tags, direction, p->sctp_tag) || !read_tag(&tags->asked[other & 1]))
		return;
	tags->agreed[direction] = p->sctp_tag;
	tags->agreed[other & 1] = read_tag(&tags->asked[other & 1]);
	*next = (*next & ~(0xffu | HW_RESET_BIT)) | HW_FLOW_ESTABLISHED;
}

/* ABORT and SHUTDOWN COMPLETE: only with a tag of the association in force do they end it (section 8.5.1, B and C). */
static __always_inline enum hw_reason sctp_end(const struct hw_packet *p, const struct hw_sctp_tags *tags, __u32 *next)
{
	__u32 direction = p->direction & 1, bearer = p->sctp_chunks & HW_FOUND_REFLECTED ? !direction : direction;
	bool begun = read_tag(&tags->agreed[bearer & 1]);

	if (begun ? !sctp_is_agreed(tags, bearer, p->sctp_tag) : !sctp_is_asked(tags, bearer, p->sctp_tag))
		/* The answer to an INIT that would begin anew, or a stranger's. */
		return bearer == direction && sctp_is_asked(tags, direction, p->sctp_tag) ? HW_REASON_NONE
											  : HW_REASON_SCTP_TAG;
	if (p->sctp_chunks & HW_FOUND_ABORT)
		*next = HW_WITH_STATE(*next, HW_FLOW_CLOSED) | HW_RESET_BIT;
	else if (HW_STATE(*next) >= HW_FLOW_CLOSING)
		*next = HW_WITH_STATE(*next, HW_FLOW_CLOSED);
	else
		return HW_REASON_SCTP_STATE;
	return HW_REASON_NONE;
}

/*
 * Only a datapath that kept no tags (ABI 6) has left an association in force without them. The first packet of each
 * direction shows them, except one that would begin or end the association: at worst a stranger who knows the ports and
 * comes first ends what would have ended at the upgrade, and an INIT begins it anew.
 */
static __always_inline void sctp_learn(const struct hw_packet *p, struct hw_sctp_tags *tags, __u32 state)
{
	if (HW_STATE(state) == HW_FLOW_ESTABLISHED && !(p->sctp_chunks & HW_FOUND_INIT_ACK))
		__sync_val_compare_and_swap(&tags->agreed[p->direction & 1], 0, p->sctp_tag);
}

static __always_inline enum hw_reason judge_sctp(const struct hw_packet *p, struct hw_flow *flow, __u32 *next)
{
	struct hw_sctp_tags *tags = sctp_tags(flow);
	__u32 direction = p->direction & 1;
	bool asked;

	if (p->sctp_chunks & HW_FOUND_INIT) {
		sctp_init(p, tags);
		return HW_REASON_NONE;
	}
	if (p->sctp_chunks & (HW_FOUND_ABORT | HW_FOUND_SHUTDOWN_COMPLETE))
		return sctp_end(p, tags, next);
	sctp_learn(p, tags, *next);
	asked = sctp_is_asked(tags, direction, p->sctp_tag);
	if (p->sctp_chunks & HW_FOUND_INIT_ACK) {
		if (!asked)
			return HW_REASON_SCTP_TAG;
		ask_for(tags, !direction, p->sctp_chosen);
		if (HW_STATE(*next) == HW_FLOW_OPENING)
			*next = HW_WITH_STATE(*next, HW_FLOW_ANSWERED);
		return HW_REASON_NONE;
	}
	if (!asked && !sctp_is_agreed(tags, direction, p->sctp_tag))
		return HW_REASON_SCTP_TAG;
	/* Whoever sends one says which of two tags was the answer that it took. */
	if (p->sctp_chunks & HW_FOUND_COOKIE_ECHO && asked)
		ask_for(tags, direction, p->sctp_tag);
	if (p->sctp_chunks & HW_FOUND_COOKIE_ACK)
		sctp_cookie_ack(p, tags, next);
	if (p->sctp_chunks & HW_FOUND_SHUTDOWN && HW_STATE(*next) == HW_FLOW_ESTABLISHED)
		*next = HW_WITH_STATE(*next, HW_FLOW_CLOSING);
	return HW_REASON_NONE;
}

__noinline int advance_sctp(const struct hw_packet *p, struct hw_flow *flow)
{
	if (!p || !flow)
		return HW_REASON_INTERNAL;
	for (int i = 0; i < HW_SCTP_TRIES; i++) {
		__u32 state = *(volatile __u32 *)&flow->state, next = state;
		enum hw_reason reason = judge_sctp(p, flow, &next);

		if (reason)
			return reason;
		/* If another CPU moved it first, its packet came first: judge this one again. */
		if (next == state || __sync_val_compare_and_swap(&flow->state, state, next) == state)
			return HW_REASON_NONE;
	}
	return HW_REASON_SCTP_STATE;
}

/*
 * Whether an INIT ends the flow and is decided as any that opens. After a shutdown the opener's goes on in the flow: if
 * its SHUTDOWN COMPLETE was lost, the other side answers with the tags that were (section 9.2).
 */
static __always_inline bool sctp_opens_anew(const struct hw_flow *flow, const struct hw_packet *p)
{
	return flow->state & HW_RESET_BIT || p->direction != HW_OPENER(flow->state);
}

/* Whether a packet with this tag may have been sent in a direction: what an ICMP error quotes (section 10, ICMP7). For
 * an INIT, whose tag is 0, `initiate` is what it chose. */
static __always_inline bool sctp_sent(struct hw_flow *flow, __u32 direction, __u32 tag, __u32 initiate)
{
	const struct hw_sctp_tags *tags = sctp_tags(flow);

	if (!tag)
		return initiate && sctp_is_asked(tags, !direction, initiate);
	return sctp_is_asked(tags, direction, tag) || sctp_is_agreed(tags, direction, tag);
}

#endif
