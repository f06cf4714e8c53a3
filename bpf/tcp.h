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
/* The direction that was not heard yet: of a connection that was picked up, whose windows are guesses until it is, or
 * of one that ended before it was answered. */
#define HW_UNHEARD_BIT(direction) (0x800u << (direction))
#define HW_OPENER_BIT(direction) ((__u32)(direction) << 16)
#define HW_OPENER(word) ((word) >> 16 & 1)
#define HW_SCALE_SHIFT(direction) (20 + 4 * (direction))
#define HW_SCALE(word, direction) ((word) >> HW_SCALE_SHIFT(direction) & 0xf)
#define HW_SCALES_BIT(direction) (0x10000000u << (direction))
#define HW_SCALE_MASK 0x3ff00000u
#define HW_LARGEST_SCALE 14u /* RFC 7323, section 2.3 */
#define HW_LARGEST_WINDOW 0xffffu
#define HW_LARGEST_LAG 0x3fffc000u /* the largest window at the largest scale */
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

/*
 * A connection whose SYNs were not seen, from a segment in the middle: what its sender has sent and lets be sent is
 * known, but for the scale, of which the largest is believed. Of the other direction only what was acknowledged.
 */
static __always_inline void begin_picked_up(const struct hw_packet *p, struct hw_flow *flow)
{
	__u32 direction = p->direction & 1, other = !direction;

	flow->state = HW_WITH_STATE(HW_OPENER_BIT(p->opener & 1), HW_FLOW_ANSWERED) | HW_UNHEARD_BIT(other) |
		      HW_LARGEST_SCALE << HW_SCALE_SHIFT(0) | HW_LARGEST_SCALE << HW_SCALE_SHIFT(1) | HW_SCALES_BIT(0) |
		      HW_SCALES_BIT(1);
	flow->ways[direction].end = p->seq_end;
	flow->ways[direction].edge = p->ack + ((__u32)p->tcp_window << HW_LARGEST_SCALE);
	flow->ack[direction] = p->ack;
	flow->window[direction] = p->tcp_window;
	flow->ways[other & 1].end = p->ack;
	flow->ways[other & 1].edge = p->seq_end + (HW_LARGEST_WINDOW << HW_LARGEST_SCALE);
	flow->ack[other & 1] = p->seq;
	flow->window[other & 1] = HW_LARGEST_WINDOW;
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

/* How far what is late may lag, by the largest window of who is sent it: two of them. */
static __always_inline __u32 largest_lag(__u32 window)
{
	return window < HW_LARGEST_LAG / 2 ? 2 * window : HW_LARGEST_LAG;
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
	 * a keep-alive is one older (RFC 9293, section 3.8.4). One window more: what it sent again before it heard of
	 * them was held up on the way, and its receiver answers it by the acknowledgement that it lacks. With what may
	 * be ahead, that has to stay within half of the numbers there are. */
	if (seq_after(peer_ack - largest_lag(peer_largest) - 2, p->seq_end))
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

/* Whether the other side has not answered: there are no windows, and after a RST there never will be. */
static __always_inline bool is_unanswered(__u32 state)
{
	return HW_STATE(state) == HW_FLOW_OPENING ||
	       (HW_STATE(state) == HW_FLOW_CLOSED && state & (HW_UNHEARD_BIT(0) | HW_UNHEARD_BIT(1)));
}

/* Before the other side has answered, or where it never did. */
static __always_inline enum hw_reason tcp_opening(struct __sk_buff *skb, struct hw_packet *p, struct hw_flow *flow,
						  __u32 *next)
{
	__u32 opener = HW_OPENER(*next), first = flow->ack[!opener];
	struct hw_tcp_way asked = read_way(flow, opener), foreign = read_way(flow, !opener);
	bool answers = p->tcp_flags & HW_TCP_ACK && seq_after(p->ack, first) && !seq_after(p->ack, asked.end);

	if (p->tcp_flags & HW_TCP_RST) {
		bool own = p->direction == opener;

		if (own ? seq_after(p->seq, first) && !seq_after(p->seq, asked.end) : answers)
			*next = HW_WITH_STATE(*next, HW_FLOW_CLOSED) | HW_RESET_BIT | HW_UNHEARD_BIT(!opener);
		else if (!own || !foreign.edge || p->seq != foreign.end)
			return HW_REASON_TCP_WINDOW;
		return HW_REASON_NONE;
	}
	/* Its answer may be late, and is reset by an opener that has given up. */
	if (HW_STATE(*next) == HW_FLOW_CLOSED)
		return p->tcp_flags & HW_TCP_SYN && p->direction != opener ? HW_REASON_NONE : HW_REASON_TCP_STATE;
	if (p->direction == opener) {
		if (!p->may_open)
			return HW_REASON_TCP_STATE;
		/* Another SYN replaces the first, or comes again with data: its sender waits for the answer to that
		 * one. */
		if ((p->seq != first || seq_after(p->seq_end, asked.end)) &&
		    move_way(flow, opener, asked, p->seq_end, 0)) {
			*next = (*next & ~HW_SCALE_MASK) | scale_word(skb, p);
			begin_tcp(p, flow);
		}
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

/* The endpoint's place for SYNs into this connection. Another connection's SYN may displace it: it will come again. */
static __always_inline struct hw_reopening *reopening_of(const struct hw_packet *p, const struct hw_flow *flow)
{
	__u32 slot = p->key.slot;
	struct hw_usage *usage = bpf_map_lookup_elem(&hw_usage, &slot);

	return usage ? &usage->reopenings[flow->tag % HW_REOPENINGS] : NULL;
}

/* Whether a SYN of the opener may be the one that began the connection, or lies among what it has sent since. */
static __always_inline bool is_sent_again(const struct hw_packet *p, const struct hw_flow *flow, __u32 state)
{
	__u32 opener = HW_OPENER(state), other = !opener;
	__u32 largest = (__u32)flow->window[other & 1] << HW_SCALE(state, other);

	return read_way(flow, opener).end - p->seq_end <= largest_lag(largest) + HW_LARGEST_WINDOW;
}

/*
 * Its receiver either remembers the connection and answers by a challenge ACK, or has forgotten it too and answers the
 * SYN. Which of the two, its answer tells; who forges SYNs never sees it.
 */
static __always_inline void remember_reopening(struct __sk_buff *skb, const struct hw_packet *p,
					       const struct hw_flow *flow)
{
	struct hw_reopening *reopening = reopening_of(p, flow);

	if (!reopening)
		return;
	reopening->tag = 0;
	reopening->first = p->seq;
	reopening->end = p->seq_end;
	reopening->offer = scale_word(skb, p) | p->tcp_window;
	reopening->tag = flow->tag;
}

static __always_inline void forget_reopening(const struct hw_packet *p, const struct hw_flow *flow)
{
	struct hw_reopening *reopening = reopening_of(p, flow);

	if (reopening)
		reopening->tag = 0;
}

/* Whether a packet of the other side acknowledges a SYN that came into the connection. */
static __always_inline bool answers_reopening(const struct hw_packet *p, const struct hw_flow *flow, __u32 state,
					      const struct hw_reopening *reopening)
{
	return reopening && reopening->tag == flow->tag && p->direction != HW_OPENER(state) &&
	       p->tcp_flags & HW_TCP_ACK && seq_after(p->ack, reopening->first) && !seq_after(p->ack, reopening->end);
}

/* Both sides have forgotten the connection: what the SYN asked for and the SYN ACK answers takes its place. */
static __always_inline void reopen(struct __sk_buff *skb, const struct hw_packet *p, struct hw_flow *flow, __u32 *next)
{
	struct hw_reopening *reopening = reopening_of(p, flow);
	__u32 opener = HW_OPENER(*next), state;

	if (!answers_reopening(p, flow, *next, reopening))
		return;
	state = HW_OPENER_BIT(opener) | (reopening->offer & HW_SCALE_MASK);
	if (!move_way(flow, opener, read_way(flow, opener), reopening->end, 0))
		return; /* it will come again */
	flow->ack[!opener] = reopening->first;
	flow->window[opener] = reopening->offer;
	*next = begin_windows(p, flow, state, scale_word(skb, p));
}

/*
 * In window it passes; it ends the flow where its receiver takes it at once (RFC 5961, section 3.2). Of a connection
 * that has ended, by a RST or by both FINs, RSTs answer what was on its way: their numbers are earlier
 * acknowledgements.
 */
static __always_inline enum hw_reason tcp_reset(const struct hw_packet *p, const struct hw_flow *flow, __u32 *next)
{
	__u32 direction = p->direction & 1, other = !direction;
	__u32 expected = flow->ack[other & 1];
	bool exact = p->seq == expected || p->seq == read_way(flow, direction).end ||
		     answers_reopening(p, flow, *next, reopening_of(p, flow));

	if (HW_STATE(*next) == HW_FLOW_CLOSED)
		expected -= largest_lag((__u32)flow->window[other & 1] << HW_SCALE(*next, other));
	if (!exact && (seq_after(expected, p->seq) || seq_after(p->seq, read_way(flow, other).edge)))
		return HW_REASON_TCP_WINDOW;
	if (exact || HW_STATE(*next) == HW_FLOW_CLOSING)
		*next = HW_WITH_STATE(*next, HW_FLOW_CLOSED) | HW_RESET_BIT;
	return HW_REASON_NONE;
}

/* The other direction of a connection that was picked up is heard: from here on both windows are what was shown. */
static __always_inline void hear_other(const struct hw_packet *p, struct hw_flow *flow, __u32 *next)
{
	__u32 direction = p->direction & 1;

	if (!move_way(flow, direction, read_way(flow, direction), p->seq_end,
		      p->ack + ((__u32)p->tcp_window << HW_LARGEST_SCALE)))
		return; /* the next one tells the same */
	flow->ack[direction] = p->ack;
	flow->window[direction] = p->tcp_window;
	*next = HW_WITH_STATE(*next & ~HW_UNHEARD_BIT(direction), HW_FLOW_ESTABLISHED);
}

/* After both sides have spoken. */
static __always_inline enum hw_reason tcp_synchronised(struct __sk_buff *skb, const struct hw_packet *p,
						       struct hw_flow *flow, __u32 *next)
{
	__u32 direction = p->direction & 1, ack = flow->ack[direction & 1];
	bool finished = *next & HW_FIN_BIT(direction);

	if (p->tcp_flags & HW_TCP_RST)
		return tcp_reset(p, flow, next);
	if (p->tcp_flags & HW_TCP_SYN && (p->may_open || p->seq_end != read_way(flow, direction).end)) {
		if (!p->may_open)
			reopen(skb, p, flow, next);
		else if (direction == HW_OPENER(*next) && !is_sent_again(p, flow, *next))
			remember_reopening(skb, p, flow);
		return HW_REASON_NONE;
	}
	if (finished && seq_after(p->seq_end, read_way(flow, direction).end))
		return HW_REASON_TCP_WINDOW;
	if (!fits_windows(p, flow, *next, direction))
		return p->tcp_flags & HW_TCP_SYN ? HW_REASON_NONE : HW_REASON_TCP_WINDOW;
	if (*next & (HW_UNHEARD_BIT(0) | HW_UNHEARD_BIT(1))) {
		if (*next & HW_UNHEARD_BIT(direction))
			hear_other(p, flow, next);
	} else if (HW_STATE(*next) == HW_FLOW_ANSWERED && direction == HW_OPENER(*next) && seq_after(p->ack, ack)) {
		*next = HW_WITH_STATE(*next, HW_FLOW_ESTABLISHED);
		/* That of its SYN was not scaled, and the other side may have believed it so far. */
		__u16 asked = in_units(flow->window[direction & 1], HW_SCALE(*next, direction));

		flow->window[direction & 1] = p->tcp_window > asked ? p->tcp_window : asked;
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

		if (is_unanswered(state))
			reason = tcp_opening(skb, p, flow, &next);
		else
			reason = tcp_synchronised(skb, p, flow, &next);
		if (reason)
			return reason;
		/* If another CPU moved it first, its packet came first: judge this one again. */
		if (next == state)
			return HW_REASON_NONE;
		if (__sync_val_compare_and_swap(&flow->state, state, next) == state) {
			/* Once: a SYN ACK that comes late begins nothing again. */
			if (HW_STATE(next) < HW_STATE(state))
				forget_reopening(p, flow);
			return HW_REASON_NONE;
		}
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

	if (is_unanswered(state) && direction != HW_OPENER(state))
		return false;
	return !seq_after(seq, read_way(flow, direction).end) && !seq_after(flow->ack[other & 1] - peer_largest, seq);
}

#endif
