/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * guard.h - where an endpoint that scans, floods or forges is recognised, and what it may still do.
 *
 * Looked at is only what the endpoint itself sends, and only where a packet is denied, a flow opens, or a place of the
 * ring is given away: an established flow comes here never. A denial counts at once. A flow that was let out counts if
 * nobody has answered some time later; to find those, the places of the ring are judged in the order in which they were
 * taken. So what is answered is never held against anybody.
 *
 * The state is one element of the endpoint's own: who attacks can only harm itself.
 */
#ifndef HW_GUARD_H
#define HW_GUARD_H

#include "flow.h"
#include "guard_marks.h"

/* How long a peer has to answer: a SYN may be lost, and comes again after a second (RFC 6298, section 2). */
#define HW_GRACE_NS 2000000000ull
/* Places that are judged at most at once, while a flow opens and by the agent. */
#define HW_GUARD_STEPS 4
#define HW_GUARD_PLACES 64
#define HW_GUARD_FLUSHES 16
/* What a throttled endpoint may open: five flows a second. */
#define HW_THROTTLE_INTERVAL_NS 200000000ull
#define HW_THROTTLE_BURST_NS 1000000000ull
#define HW_ORDER_TRIES 4096

/* While it opens, a flow keeps in `reported` when it began; later reports only make it look younger. */
static __always_inline bool is_young(const struct hw_flow *flow, __u64 now_ns)
{
	__u32 age = (__u32)(now_ns >> HW_REPORT_SHIFT) - flow->reported;

	return HW_STATE(flow->state) < HW_FLOW_ESTABLISHED && age < HW_GRACE_NS >> HW_REPORT_SHIFT;
}

/* Judges places in the order in which they were taken, up to one whose flow may yet be answered. */
__noinline int judge_places(__u32 slot, __u32 most)
{
	struct hw_endpoint *endpoint = bpf_map_lookup_elem(&hw_endpoints, &slot);
	struct hw_usage *usage = bpf_map_lookup_elem(&hw_usage, &slot);
	struct hw_guard *guard = bpf_map_lookup_elem(&hw_guards, &slot);
	void *ring = bpf_map_lookup_elem(&hw_rings, &slot);
	__u64 now_ns = ticks();

	if (!endpoint || !usage || !guard || !ring || !endpoint->flow_quota)
		return 0;
	for (__u32 i = 0; i < HW_GUARD_PLACES && i < most; i++) {
		__u64 cursor = *(volatile __u64 *)&usage->cursor, at = *(volatile __u64 *)&guard->judged;
		__u32 position, outcome = HW_OUTCOME_NONE;
		struct hw_ring_place *place;

		if (at >= cursor) {
			/* The cursor begins anew where a quota has grown. */
			if (at > cursor)
				guard->judged = cursor;
			break;
		}
		/* Places that were taken twice meanwhile were judged when they were given away. */
		if (cursor - at > endpoint->flow_quota)
			at = cursor - endpoint->flow_quota;
		position = (__u32)at % endpoint->flow_quota;
		place = bpf_map_lookup_elem(ring, &position);
		if (!place) {
			guard->judged = cursor;
			break;
		}
		if (place->used == HW_PLACE_NEW) {
			struct hw_flow *flow = find_flow(&place->key, is_flow4(&place->key));

			if (flow && flow->place == position) {
				if (is_young(flow, now_ns))
					break;
				outcome = outcome_of(flow, place->key.protocol);
			}
			if (__sync_val_compare_and_swap(&place->used, HW_PLACE_NEW, HW_PLACE_JUDGED) == HW_PLACE_NEW)
				note_attempt(&place->key, outcome);
		}
		guard->judged = at + 1;
	}
	return 0;
}

/* Whether a flow more is too much for an endpoint that is throttled. */
__noinline int is_throttled(__u32 slot)
{
	__u64 until_ns, arrival_ns, now_ns;
	struct hw_guard *guard;

	guard = bpf_map_lookup_elem(&hw_guards, &slot);
	if (!guard)
		return 0;
	until_ns = *(volatile __u64 *)&guard->throttled_until_ns;
	if (!until_ns)
		return 0;
	now_ns = bpf_ktime_get_ns();
	if (now_ns >= until_ns) {
		__sync_val_compare_and_swap(&guard->throttled_until_ns, until_ns, 0);
		return 0;
	}
	arrival_ns = *(volatile __u64 *)&guard->throttle_arrival_ns;
	if (arrival_ns < now_ns)
		arrival_ns = now_ns;
	if (arrival_ns + HW_THROTTLE_INTERVAL_NS > now_ns + HW_THROTTLE_BURST_NS)
		return 1;
	*(volatile __u64 *)&guard->throttle_arrival_ns = arrival_ns + HW_THROTTLE_INTERVAL_NS;
	return 0;
}

/* Whether a flow that the endpoint opens is more than it may. Inlined: the stacks of a chain of calls are 512 bytes. */
static __always_inline bool guard_opening(const struct hw_packet *p, const struct hw_endpoint *endpoint)
{
	if (*(const __u32 *)endpoint->responses)
		judge_places(p->key.slot, HW_GUARD_STEPS);
	return is_throttled(p->key.slot);
}

/* What a denial of something that the endpoint sent says of it. */
static __always_inline void watch_denial(const struct hw_packet *p, __u8 reason)
{
	if (p->direction != HW_EGRESS)
		return;
	if (reason >= HW_REASON_MAC_SPOOF && reason <= HW_REASON_RA_SPOOF)
		note_attempt(&p->key, HW_OUTCOME_SPOOFED);
	else if (p->may_open && (reason == HW_REASON_POLICY || reason == HW_REASON_UNKNOWN_PEER))
		note_attempt(&p->key, HW_OUTCOME_REFUSED);
	else if (reason == HW_REASON_THROTTLED)
		/* What goes on while it is throttled renews the throttle. */
		note_attempt(&p->key, HW_OUTCOME_REFUSED | (has_handshake(p->key.protocol) ? HW_OUTCOME_UNFINISHED
											   : HW_OUTCOME_NONE));
}

/* Carries out an order of the agent's; 0 if the guard was busy all the time. */
static __always_inline int obey(const struct hw_order *order, __u32 slot)
{
	struct hw_active *active = bpf_map_lookup_elem(&hw_active, &slot);
	struct hw_guard *guard = bpf_map_lookup_elem(&hw_guards, &slot);
	bool taken = false;

	if (!active || !guard)
		return 0;
	for (int i = 0; i < HW_ORDER_TRIES && !taken; i++)
		taken = take_guard(guard);
	if (!taken)
		return 0;
	if (order->kind == HW_ORDER_HOLD) {
		guard->held = 1;
	} else if (order->kind == HW_ORDER_UNHOLD) {
		guard->held = 0;
	} else if (order->kind == HW_ORDER_RELEASE) {
		guard->release = order->release;
		guard->throttled_until_ns = 0;
		guard->throttle_arrival_ns = 0;
		guard->quarantined_ns = 0;
		guard->held = 0;
		begin_window(guard, ticks());
	}
	if (guard->held || guard->quarantined_ns)
		__sync_fetch_and_or(&active->generation, HW_QUARANTINED);
	else
		__sync_fetch_and_and(&active->generation, ~HW_QUARANTINED);
	release_guard(guard);
	return 1;
}

#endif
