/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * tcp.h - a TCP connection between two ends, as the packets between them show it: its state and both windows (RFC 9293,
 * sections 3.4 to 3.10; windows as in G. van Rooij, "Real Stateful TCP Packet Filtering in IP Filter", 2001).
 *
 * What no stack would take is denied, and changes nothing. What a stack must see to recover passes, and changes nothing
 * either: the answer of a peer that remembers an older connection (RFC 9293, section 3.5.1), and what is answered by a
 * challenge ACK (RFC 5961, sections 3 and 4).
 */
#ifndef HW_TCP_H
#define HW_TCP_H

#include "maps.h"
#include "packet.h"
#include "tcp_options.h"
#include "transport.h"

/* The state word: enum hw_flow_state, a bit for each direction that sent FIN, one for a RST, the direction of the
 * opener, each direction's window scale (RFC 7323, section 2), and a bit for each direction whose SYN offered one. */
#define HW_STATE(word) ((word)&0xff)
#define HW_FIN_BIT(direction) (0x100u << (direction))
#define HW_RESET_BIT 0x400u
#define HW_OPENER_BIT(direction) ((__u32)(direction) << 16)
#define HW_OPENER(word) ((word) >> 16 & 1)
#define HW_SCALE_SHIFT(direction) (20 + 4 * (direction))
#define HW_SCALE(word, direction) ((word) >> HW_SCALE_SHIFT(direction) & 0xf)
#define HW_SCALES_BIT(direction) (0x10000000u << (direction))
#define HW_SCALE_MASK 0x3ff00000u
#define HW_WITH_STATE(word, state) (((word) & ~0xffu) | (state))

/* The other CPUs' packets of one connection that may come between reading a word and writing it. */
#define HW_TCP_TRIES 4

/* In the space of sequence numbers, modulo 2^32 (RFC 9293, section 3.4). */
static __always_inline bool seq_after(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

union hw_tcp_word {
	struct hw_tcp_way way;
	__u64 whole;
};

static __always_inline struct hw_tcp_way read_way(const struct hw_flow *flow, __u32 direction)
{
	union hw_tcp_word word = {.whole = *(const volatile __u64 *)&flow->ways[direction & 1]};

	return word.way;
}

/* The window scale that a SYN offers, as the state word holds it for that direction; 0 if it offers none. */
static __always_inline __u32 scale_word(struct __sk_buff *skb, const struct hw_packet *p)
{
	int scale = offered_scale(skb, p);

	if (scale == HW_NO_SCALE)
		return 0;
	return p->direction == HW_EGRESS ? HW_SCALES_BIT(HW_EGRESS) | (__u32)scale << HW_SCALE_SHIFT(HW_EGRESS)
					 : HW_SCALES_BIT(HW_INGRESS) | (__u32)scale << HW_SCALE_SHIFT(HW_INGRESS);
}

/* What the first SYN shows. */
static __always_inline void begin_tcp(const struct hw_packet *p, struct hw_flow *flow)
{
	__u32 opener = p->direction & 1;

	flow->ways[opener].end = p->seq_end;
	/* The other side has acknowledged nothing, not even the SYN. */
	flow->ack[!opener] = p->seq;
	/* As it stands there: whether it will be scaled is not known yet. */
	flow->window[opener] = p->tcp_window;
}

static __always_inline bool move_way(struct hw_flow *flow, __u32 direction, struct hw_tcp_way from, __u32 end,
				     __u32 edge)
{
	union hw_tcp_word old = {.way = from}, next = {.way = {.end = end, .edge = edge}};

	return __sync_val_compare_and_swap((__u64 *)&flow->ways[direction & 1], old.whole, next.whole) == old.whole;
}

/* A window of a SYN in the units in which later windows are written, rounded up. */
static __always_inline __u16 in_units(__u32 window, __u32 scale)
{
	return (window + (1u << scale) - 1) >> scale;
}

/*
 * The other side has answered, by SYN ACK or by a SYN of its own: from here on both windows are known. Returns the next
 * state word, or the same one if another packet came between. Two CPUs with one answer twice write the same, and both
 * halves before the state says so.
 */
static __always_inline __u32 begin_windows(const struct hw_packet *p, struct hw_flow *flow, __u32 state, __u32 offered)
{
	__u32 opener = HW_OPENER(state), responder = !opener, both = HW_SCALES_BIT(0) | HW_SCALES_BIT(1);
	struct hw_tcp_way asked = read_way(flow, opener), silent = read_way(flow, responder);
	/* A SYN of its own acknowledges nothing; the window behind it begins past the opener's SYN all the same. */
	bool acks = p->tcp_flags & HW_TCP_ACK;
	__u32 acked = acks ? p->ack : flow->ack[responder & 1];
	__u32 edge = acked + !acks + p->tcp_window, peer_edge = p->seq + 1 + flow->window[opener & 1];
	__u32 next = state | offered;

	/* Both offer it, or neither has it (RFC 7323, section 2.2). */
	if ((next & both) != both)
		next &= ~HW_SCALE_MASK;
	/* What came with the SYNs was taken or not, and may come again. */
	if (seq_after(p->seq_end, peer_edge))
		peer_edge = p->seq_end;
	if (seq_after(asked.end, edge))
		edge = asked.end;
	if (!move_way(flow, opener, asked, asked.end, peer_edge) ||
	    !move_way(flow, responder, silent, p->seq_end, edge))
		return state;
	flow->ack[responder & 1] = acked;
	flow->ack[opener & 1] = p->seq;
	flow->window[responder & 1] = in_units(p->tcp_window, HW_SCALE(next, responder));
	return HW_WITH_STATE(next, HW_FLOW_ANSWERED);
}

/* Before it has answered, the other side's half of the flow remembers what a RST of the opener may speak of. */
static __always_inline void remember_foreign_ack(const struct hw_packet *p, struct hw_flow *flow)
{
	__u32 responder = p->direction & 1;

	flow->ways[responder].end = p->ack;
	flow->ways[responder].edge = 1;
}

/*
 * Whether a segment lies in the windows, and if it does moves them on. A packet of one direction writes that
 * direction's word and judges by the other's; a race can only leave the bounds that other CPUs' packets have set.
 */
static __always_inline bool fits_windows(const struct hw_packet *p, struct hw_flow *flow, __u32 state, __u32 direction)
{
	__u32 other = !direction;
	__u32 scale = p->tcp_flags & HW_TCP_SYN ? 0 : HW_SCALE(state, direction);
	__u32 largest = (__u32)flow->window[direction & 1] << HW_SCALE(state, direction);
	__u32 peer_largest = (__u32)flow->window[other & 1] << HW_SCALE(state, other);
	struct hw_tcp_way peer = read_way(flow, other);
	__u32 peer_ack = *(volatile __u32 *)&flow->ack[other & 1], ack = *(volatile __u32 *)&flow->ack[direction & 1];
	__u32 edge = p->ack + ((__u32)p->tcp_window << scale);
	union hw_tcp_word old, next;

	/* One beyond the edge: what probes a closed window (RFC 9293, section 3.8.6.1), and a FIN. */
	if (seq_after(p->seq_end, peer.edge + 1))
		return false;
	/* Its sender may lag behind what was acknowledged by a window and that one byte, if acknowledgements were lost;
	 * a keep-alive is one older (RFC 9293, section 3.8.4). */
	if (seq_after(peer_ack - peer_largest - 2, p->seq_end))
		return false;
	/* RFC 5961, section 5.2 */
	if (seq_after(p->ack, peer.end) || seq_after(ack - largest - 1, p->ack))
		return false;
	if (seq_after(p->ack, ack))
		__sync_val_compare_and_swap(&flow->ack[direction & 1], ack, p->ack);
	if (!(p->tcp_flags & HW_TCP_SYN) && p->tcp_window > flow->window[direction & 1])
		flow->window[direction & 1] = p->tcp_window;
	for (int i = 0; i < HW_TCP_TRIES; i++) {
		old.way = read_way(flow, direction);
		next = old;
		if (seq_after(p->seq_end, old.way.end))
			next.way.end = p->seq_end;
		if (seq_after(edge, old.way.edge))
			next.way.edge = edge;
		if (next.whole == old.whole)
			return true;
		if (__sync_val_compare_and_swap((__u64 *)&flow->ways[direction & 1], old.whole, next.whole) ==
		    old.whole)
			return true;
	}
	/* Not recorded, so not passed: it will be sent again. */
	return false;
}

/* Before the other side has answered. */
static __always_inline enum hw_reason tcp_opening(struct __sk_buff *skb, struct hw_packet *p, struct hw_flow *flow,
						  __u32 *next)
{
	__u32 opener = HW_OPENER(*next), first = flow->ack[!opener];
	struct hw_tcp_way asked = read_way(flow, opener), foreign = read_way(flow, !opener);
	bool answers = p->tcp_flags & HW_TCP_ACK && seq_after(p->ack, first) && !seq_after(p->ack, asked.end);

	if (p->direction == opener) {
		if (p->tcp_flags & HW_TCP_RST) {
			if (seq_after(p->seq, first) && !seq_after(p->seq, asked.end))
				*next = HW_WITH_STATE(*next, HW_FLOW_CLOSED) | HW_RESET_BIT;
			else if (!foreign.edge || p->seq != foreign.end)
				return HW_REASON_TCP_WINDOW;
			return HW_REASON_NONE;
		}
		if (!p->may_open)
			return HW_REASON_TCP_STATE;
		/* Another SYN replaces the first: its sender waits for the answer to that one. */
		if (p->seq != first && move_way(flow, opener, asked, p->seq_end, 0)) {
			*next = (*next & ~HW_SCALE_MASK) | scale_word(skb, p);
			begin_tcp(p, flow);
		}
		return HW_REASON_NONE;
	}
	if (p->tcp_flags & HW_TCP_RST) {
		if (!answers)
			return HW_REASON_TCP_WINDOW;
		*next = HW_WITH_STATE(*next, HW_FLOW_CLOSED) | HW_RESET_BIT;
		return HW_REASON_NONE;
	}
	if (p->tcp_flags & HW_TCP_FIN)
		return HW_REASON_TCP_STATE;
	if (p->tcp_flags & HW_TCP_SYN && (answers || p->may_open)) {
		*next = begin_windows(p, flow, *next, scale_word(skb, p));
		return HW_REASON_NONE;
	}
	remember_foreign_ack(p, flow);
	return HW_REASON_NONE;
}

/* In window it passes; it ends the flow where its receiver takes it at once (RFC 5961, section 3.2). */
static __always_inline enum hw_reason tcp_reset(const struct hw_packet *p, const struct hw_flow *flow, __u32 *next)
{
	__u32 direction = p->direction & 1, other = !direction;
	__u32 expected = flow->ack[other & 1];
	bool exact = p->seq == expected || p->seq == read_way(flow, direction).end;

	if (!exact && (seq_after(expected, p->seq) || seq_after(p->seq, read_way(flow, other).edge)))
		return HW_REASON_TCP_WINDOW;
	if (exact || HW_STATE(*next) >= HW_FLOW_CLOSING)
		*next = HW_WITH_STATE(*next, HW_FLOW_CLOSED) | HW_RESET_BIT;
	return HW_REASON_NONE;
}

/* After both sides have spoken. */
static __always_inline enum hw_reason tcp_synchronised(const struct hw_packet *p, struct hw_flow *flow, __u32 *next)
{
	__u32 direction = p->direction & 1, ack = flow->ack[direction & 1];
	bool finished = *next & HW_FIN_BIT(direction);

	if (p->tcp_flags & HW_TCP_RST)
		return tcp_reset(p, flow, next);
	if (p->tcp_flags & HW_TCP_SYN && (p->may_open || p->seq_end != read_way(flow, direction).end))
		return HW_REASON_NONE;
	if (finished && seq_after(p->seq_end, read_way(flow, direction).end))
		return HW_REASON_TCP_WINDOW;
	if (!fits_windows(p, flow, *next, direction))
		return p->tcp_flags & HW_TCP_SYN ? HW_REASON_NONE : HW_REASON_TCP_WINDOW;
	if (HW_STATE(*next) == HW_FLOW_ANSWERED && direction == HW_OPENER(*next) && seq_after(p->ack, ack)) {
		*next = HW_WITH_STATE(*next, HW_FLOW_ESTABLISHED);
		/* That of its SYN was not scaled. */
		flow->window[direction & 1] = p->tcp_window;
	}
	if (p->tcp_flags & HW_TCP_FIN) {
		*next |= HW_FIN_BIT(direction);
		if ((*next & (HW_FIN_BIT(0) | HW_FIN_BIT(1))) == (HW_FIN_BIT(0) | HW_FIN_BIT(1)))
			*next = HW_WITH_STATE(*next, HW_FLOW_CLOSED);
		else if (HW_STATE(*next) == HW_FLOW_ESTABLISHED)
			*next = HW_WITH_STATE(*next, HW_FLOW_CLOSING);
	}
	return HW_REASON_NONE;
}

/* A segment that may change the connection's state. */
__noinline int change_tcp(struct __sk_buff *skb, struct hw_packet *p, struct hw_flow *flow)
{
	if (!p || !flow)
		return HW_REASON_INTERNAL;
	for (int i = 0; i < HW_TCP_TRIES; i++) {
		__u32 state = *(volatile __u32 *)&flow->state, next = state;
		enum hw_reason reason;

		if (HW_STATE(state) == HW_FLOW_OPENING)
			reason = tcp_opening(skb, p, flow, &next);
		else
			reason = tcp_synchronised(p, flow, &next);
		if (reason)
			return reason;
		/* If another CPU moved it first, its packet came first: judge this one again. */
		if (next == state || __sync_val_compare_and_swap(&flow->state, state, next) == state)
			return HW_REASON_NONE;
	}
	return HW_REASON_TCP_STATE;
}

static __always_inline enum hw_reason advance_tcp(struct __sk_buff *skb, struct hw_packet *p, struct hw_flow *flow,
						  const enum hw_direction direction)
{
	__u32 state = *(volatile __u32 *)&flow->state;

	if (HW_STATE(state) == HW_FLOW_ESTABLISHED && !(p->tcp_flags & (HW_TCP_SYN | HW_TCP_FIN | HW_TCP_RST)))
		return fits_windows(p, flow, state, direction) ? HW_REASON_NONE : HW_REASON_TCP_WINDOW;
	return change_tcp(skb, p, flow);
}

/* Whether a segment that begins with `seq` may have been sent in a direction of late: what an ICMP error quotes (RFC
 * 5927, section 4.1). */
static __always_inline bool tcp_sent(const struct hw_flow *flow, __u32 direction, __u32 seq)
{
	__u32 state = *(volatile __u32 *)&flow->state, other = !direction;
	__u32 peer_largest = (__u32)flow->window[other & 1] << HW_SCALE(state, other);

	if (HW_STATE(state) == HW_FLOW_OPENING && direction != HW_OPENER(state))
		return false;
	return !seq_after(seq, read_way(flow, direction).end) && !seq_after(flow->ack[other & 1] - peer_largest, seq);
}

#endif
