/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * flow.h - tracked flows: look-up, states, time-outs, the two stamps, and the ring that bounds them per endpoint.
 *
 * A flow exists only while it holds a place of its endpoint's ring, so the ring's length is the quota, and no endpoint
 * can take another's share. Places are examined in turn when a flow opens; one whose flow has expired is taken over,
 * and under pressure one whose flow has ended or is still opening. Nothing walks the table, and no timer is needed
 * while no packet comes.
 */
#ifndef HW_FLOW_H
#define HW_FLOW_H

#include "flow_table.h"
#include "guard_marks.h"
#include "limit.h"
#include "maps.h"
#include "packet.h"
#include "policy.h"
#include "report.h"
#include "sctp.h"
#include "tcp.h"
#include "transport.h"

#define HW_SECOND_NS 1000000000ull
#define HW_UPDATE_INTERVAL_NS (10 * HW_SECOND_NS)
/* When a flow last reported is kept in these units, some milliseconds: they wrap in 52 days. */
#define HW_REPORT_SHIFT 20
/* A flow's cold half is asked when it last reported only once in 2^31 ns, some two seconds. */
#define HW_UPDATE_CHECK_SHIFT 31
/* Places examined for one new flow: the bound on its cost when the endpoint is near its quota. */
#define HW_RING_TRIES 32

static __always_inline __u64 idle_limit_ns(__u8 protocol, __u32 state)
{
	/* An association lives and ends as a connection does. */
	if (protocol == HW_PROTOCOL_TCP || protocol == HW_PROTOCOL_SCTP) {
		switch (HW_STATE(state)) {
		case HW_FLOW_ESTABLISHED:
			return 7440 * HW_SECOND_NS; /* RFC 5382, REQ-5: not less than 2 h 4 min */
		case HW_FLOW_CLOSING:
			return 240 * HW_SECOND_NS; /* RFC 5382, REQ-5: not less than 4 min */
		case HW_FLOW_CLOSED:
			/* As long as the last FIN may come again; after a RST nothing does. */
			return (state & HW_RESET_BIT ? 10 : 60) * HW_SECOND_NS;
		default:
			return 20 * HW_SECOND_NS;
		}
	}
	if (protocol == HW_PROTOCOL_ICMP || protocol == HW_PROTOCOL_ICMPV6)
		return 60 * HW_SECOND_NS; /* RFC 5508, REQ-2 */
	/* RFC 4787, REQ-5: 5 minutes where traffic went both ways */
	return (HW_STATE(state) == HW_FLOW_ESTABLISHED ? 300 : 30) * HW_SECOND_NS;
}

static __always_inline bool flow_expired(const struct hw_flow *flow, __u8 protocol, __u64 now_ns)
{
	__u64 seen = *(volatile __u64 *)&flow->seen_ns;

	return now_ns > seen && now_ns - seen > idle_limit_ns(protocol, flow->state);
}

static __always_inline __u32 flow_tag(const struct hw_flow_key *key)
{
	const __u32 *words = (const __u32 *)key;

	return words[0] * 31 + words[1] + (words[5] ^ words[9]) * 0x9e3779b1 + (words[2] ^ words[6]) + words[10];
}

/* What a flow carried since its last event, as an event. */
static __always_inline void send_flow_event(const struct hw_flow_key *key, struct hw_flow *flow, __u8 kind,
					    __u64 now_ns)
{
	struct hw_event *event;
	__u64 packets, bytes;
	__u8 opener;
	bool out;

	packets = flow->packets[0] + flow->packets[1];
	bytes = flow->bytes[0] + flow->bytes[1];
	opener = HW_OPENER(flow->state);
	out = opener == HW_EGRESS;
	flow->reported = now_ns >> HW_REPORT_SHIFT;
	event = reserve_event(key->slot);
	if (!event)
		return;
	__builtin_memset(event, 0, sizeof(*event));
	event->revision = flow->revision;
	event->packets = (__u32)packets - flow->reported_packets;
	event->bytes = bytes - flow->reported_bytes;
	event->slot = key->slot;
	event->number = flow->number;
	event->peer = flow->peer;
	event->kind = kind;
	event->verdict = flow->verdict;
	event->process = flow->process;
	event->reason = flow->verdict == HW_VERDICT_WOULD_DENY ? HW_REASON_POLICY : HW_REASON_NONE;
	event->direction = opener;
	event->opener = opener;
	event->protocol = key->protocol;
	if (key->protocol == HW_PROTOCOL_ICMP || key->protocol == HW_PROTOCOL_ICMPV6 ||
	    key->protocol == HW_PROTOCOL_ESP) {
		event->destination_port = bpf_htons(flow->port_class);
	} else {
		event->source_port = out ? key->local_port : key->remote_port;
		event->destination_port = out ? key->remote_port : key->local_port;
	}
	address_copy(event->source, out ? key->local : key->remote);
	address_copy(event->destination, out ? key->remote : key->local);
	event->total_packets[0] = flow->packets[0];
	event->total_packets[1] = flow->packets[1];
	event->total_bytes[0] = flow->bytes[0];
	event->total_bytes[1] = flow->bytes[1];
	event->seen_ns = flow->seen_ns;
	event->place = flow->place;
	event->state = flow->state;
	flow->reported_packets = packets;
	flow->reported_bytes = bytes;
	submit_event(event);
}

__noinline int report_flow(const struct hw_flow_key *key, struct hw_flow *flow, __u64 now_ns)
{
	if (key && flow)
		send_flow_event(key, flow, HW_EVENT_UPDATE, now_ns);
	return 0;
}

/* Removes a flow. The count changes only where the deletion was ours. */
__noinline int end_flow(const struct hw_flow_key *key, struct hw_flow *flow, __u64 now_ns)
{
	struct hw_usage *usage;
	__u32 slot;

	if (!key || !flow)
		return 0;
	slot = key->slot;
	send_flow_event(key, flow, HW_EVENT_END, now_ns);
	if (remove_flow(key))
		return 0;
	usage = bpf_map_lookup_elem(&hw_usage, &slot);
	if (usage)
		__sync_fetch_and_sub(&usage->flows, 1);
	return 0;
}

/* Whether the endpoint may open, or be opened, one more flow now. By the coarse clock: bursts are many ticks long. */
static __always_inline bool within_opening_rate(const struct hw_packet *p, const struct hw_endpoint *endpoint)
{
	__u32 slot = p->key.slot;
	struct hw_usage *usage;

	if (!endpoint->opening.cost)
		return true;
	usage = bpf_map_lookup_elem(&hw_usage, &slot);
	return usage && take_from(&usage->opening_arrival_ns[p->direction & 1], &endpoint->opening, 1, p->now_ns);
}

/*
 * Takes a place of the endpoint's ring for the packet's flow; 0 when the quota is used up. A place may still name the
 * key of a flow that ended and was opened again elsewhere, so a flow is only asked for the place that it says is its
 * own.
 */
__noinline int claim_place(struct hw_packet *p, __u32 quota)
{
	struct hw_usage *usage;
	__u32 slot;
	void *ring;

	if (!p || !quota)
		return 0;
	slot = p->key.slot;
	usage = bpf_map_lookup_elem(&hw_usage, &slot);
	ring = bpf_map_lookup_elem(&hw_rings, &slot);
	if (!usage || !ring)
		return 0;
	for (int i = 0; i < HW_RING_TRIES; i++) {
		/* Each try is a place of its own, also on two CPUs at once. */
		__u32 position = (__u32)__sync_fetch_and_add(&usage->cursor, 1) % quota;
		struct hw_ring_place *place = bpf_map_lookup_elem(ring, &position);

		if (!place) {
			/* The quota has grown since the ring was made, and the ring stays the bound. */
			*(volatile __u64 *)&usage->cursor = 0;
			continue;
		}
		if (place->used) {
			struct hw_flow *flow = find_flow(&place->key, is_flow4(&place->key));

			if (flow && flow->place == position) {
				__u32 state = HW_STATE(flow->state);
				bool yields = state < HW_FLOW_ESTABLISHED || state == HW_FLOW_CLOSED;

				/* Half-open and ended flows give way when three quarters of the quota, or as many
				 * places as were looked at, are taken; established ones never. */
				if (!flow_expired(flow, place->key.protocol, p->now_ns) &&
				    !(yields && (usage->flows > quota - quota / 4 || i >= HW_RING_TRIES / 2)))
					continue;
				if (place->used == HW_PLACE_NEW)
					note_attempt(&place->key, outcome_of(flow, place->key.protocol));
				end_flow(&place->key, flow, p->now_ns);
			}
		}
		__builtin_memcpy(&place->key, &p->key, sizeof(p->key));
		place->used = HW_PLACE_NEW;
		p->place = position;
		return 1;
	}
	return 0;
}

/* Moves the flow's state on for this packet, or says why the packet does not fit. */
static __always_inline enum hw_reason advance_flow(struct __sk_buff *skb, struct hw_packet *p, struct hw_flow *flow,
						   const enum hw_direction direction)
{
	__u32 state = *(volatile __u32 *)&flow->state;

	if (p->kind == HW_L4_TCP)
		return advance_tcp(skb, p, flow, direction);
	if (p->kind == HW_L4_SCTP)
		return advance_sctp(p, flow);
	/* The first reply. Whoever loses the race has seen the same. */
	if (p->direction != HW_OPENER(state) && HW_STATE(state) != HW_FLOW_ESTABLISHED)
		__sync_val_compare_and_swap(&flow->state, state, HW_WITH_STATE(state, HW_FLOW_ESTABLISHED));
	return HW_REASON_NONE;
}

/* Whether the packet opens a flow in the place of one that has ended. */
static __always_inline bool opens_anew(const struct hw_flow *flow, const struct hw_packet *p)
{
	return p->may_open && HW_STATE(flow->state) == HW_FLOW_CLOSED &&
	       (p->kind != HW_L4_SCTP || sctp_opens_anew(flow, p));
}

static __always_inline void count_flow(const struct hw_packet *p, struct hw_flow *flow)
{
	__u32 direction = p->direction & 1;

	__sync_fetch_and_add(&flow->packets[direction], 1);
	__sync_fetch_and_add(&flow->bytes[direction], p->len_bytes);
	flow->seen_ns = p->now_ns;
	count_decision(flow->decision, p->len_bytes);
}

#endif
