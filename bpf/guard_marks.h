/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * guard_marks.h - counts what an endpoint tries, within a window, and responds when it is too much.
 *
 * Distinct addresses and ports are marks in a few bits (linear counting, Whang et al. 1990): what is in the bits is the
 * count up to collisions, for which userspace allows when it turns a threshold into marks. The hash has a secret of the
 * endpoint's own, so nobody can choose addresses that collide.
 */
#ifndef HW_GUARD_MARKS_H
#define HW_GUARD_MARKS_H

#include "maps.h"
#include "packet.h"
#include "report.h"
#include "tcp.h"

#define HW_GUARD_WINDOW_NS 10000000000ull
/* How long a throttle lasts if nothing renews it: some windows, so that what goes on stays throttled. */
#define HW_THROTTLE_NS 30000000000ull

/* What became of something that an endpoint tried. */
enum hw_outcome {
	HW_OUTCOME_NONE = 0,
	HW_OUTCOME_REFUSED = 1,	   /* denied here, refused by the peer, or never answered */
	HW_OUTCOME_UNFINISHED = 2, /* a handshake that its opener never completed */
	HW_OUTCOME_ANSWERED = 4,
	HW_OUTCOME_SPOOFED = 8,
};

static __always_inline bool take_guard(struct hw_guard *guard)
{
	return !__sync_val_compare_and_swap(&guard->busy, 0, 1);
}

static __always_inline void release_guard(struct hw_guard *guard)
{
	*(volatile __u32 *)&guard->busy = 0;
}

static __always_inline void begin_window(struct hw_guard *guard, __u64 now_ns)
{
	if (!guard->seed)
		guard->seed = (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32() | 1;
	guard->window_ns = now_ns;
	guard->told = 0;
	guard->answered = 0;
	__builtin_memset(guard->seen, 0, sizeof(guard->seen));
	__builtin_memset(guard->addresses, 0, sizeof(guard->addresses));
	/* Marks of a target are cleared when its place is given to the next. */
	for (int i = 0; i < HW_GUARD_TARGETS; i++) {
		guard->targets[i].tag = 0;
		guard->targets[i].ports = 0;
	}
}

/* Whether a mark is new. */
static __always_inline bool mark(__u64 *words, __u32 bit)
{
	__u64 before = words[bit / 64], after = before | 1ull << (bit % 64);

	words[bit / 64] = after;
	return after != before;
}

static __always_inline __u64 hash_remote(const struct hw_guard *guard, const struct hw_flow_key *key)
{
	const __u64 *remote = (const __u64 *)key->remote;
	__u64 hash = remote[0] ^ guard->seed;

	/* The finaliser of MurmurHash3, twice. */
	hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccdull;
	hash ^= hash >> 33 ^ remote[1];
	hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53ull;
	return hash ^ hash >> 33;
}

/*
 * The place of an address whose ports are counted. Where all are taken, one by chance, and only one that has fewest: an
 * address that has had a second port stays, whatever others come between.
 */
static __always_inline struct hw_guard_target *find_target(struct hw_guard *guard, __u32 tag)
{
	struct hw_guard_target *target;
	__u32 fewest = HW_GUARD_PORT_BITS + 1, chance;

	for (int i = 0; i < HW_GUARD_TARGETS; i++) {
		target = &guard->targets[i];
		if (target->tag == tag)
			return target;
		if (target->ports < fewest)
			fewest = target->ports;
	}
	chance = bpf_get_prandom_u32();
	for (int i = 0; !fewest && i < HW_GUARD_TARGETS; i++) {
		if (!guard->targets[i].ports) {
			chance = i;
			break;
		}
	}
	target = &guard->targets[chance % HW_GUARD_TARGETS];
	if (target->ports > fewest)
		return NULL;
	target->tag = tag;
	target->ports = 0;
	__builtin_memset(target->marks, 0, sizeof(target->marks));
	return target;
}

static __always_inline void mark_attempt(struct hw_guard *guard, const struct hw_flow_key *key)
{
	__u64 hash = hash_remote(guard, key);
	struct hw_guard_target *target;
	__u32 port;

	if (mark(guard->addresses, hash % HW_GUARD_ADDRESS_BITS))
		guard->seen[HW_GUARD_HORIZONTAL_SCAN]++;
	if (key->protocol != HW_PROTOCOL_TCP && key->protocol != HW_PROTOCOL_UDP && key->protocol != HW_PROTOCOL_SCTP)
		return;
	target = find_target(guard, hash >> 32 | 1);
	port = (key->remote_port ^ (__u32)guard->seed) * 0x9e3779b1u >> 24;
	if (!target || !mark(target->marks, port % HW_GUARD_PORT_BITS))
		return;
	target->ports++;
	if (target->ports > guard->seen[HW_GUARD_VERTICAL_SCAN])
		guard->seen[HW_GUARD_VERTICAL_SCAN] = target->ports;
}

static __always_inline void tell(const struct hw_flow_key *key, __u32 kind, __u32 response, __u32 seen)
{
	struct hw_event *event = bpf_ringbuf_reserve(&hw_events, sizeof(*event), 0);
	__u32 slot = key->slot;

	/* Once a window and kind: no token of the endpoint's, whose flood would hide it. */
	if (!event) {
		struct hw_usage *usage = bpf_map_lookup_elem(&hw_usage, &slot);

		if (usage)
			count_lost_event(usage);
		return;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->kind = HW_EVENT_GUARD;
	event->slot = slot;
	event->number = kind;
	event->response = response;
	event->verdict = response > HW_RESPONSE_ALERT ? HW_VERDICT_DENY : HW_VERDICT_ALLOW;
	event->packets = seen;
	event->direction = HW_EGRESS;
	event->opener = HW_EGRESS;
	event->protocol = key->protocol;
	event->source_port = key->local_port;
	event->destination_port = key->remote_port;
	address_copy(event->source, key->local);
	address_copy(event->destination, key->remote);
	submit_event(event);
}

/* The answer to what has become too much; at most once a window and kind. */
static __always_inline void respond(struct hw_guard *guard, const struct hw_endpoint *endpoint,
				    const struct hw_flow_key *key, const __u32 kind)
{
	__u32 slot = key->slot, response = endpoint->responses[kind];
	struct hw_active *active;

	if (!response || guard->told & 1u << kind)
		return;
	guard->told |= 1u << kind;
	guard->recognised[kind]++;
	if (response == HW_RESPONSE_THROTTLE) {
		guard->throttled_for = kind;
		guard->throttled_until_ns = bpf_ktime_get_ns() + HW_THROTTLE_NS;
	} else if (response == HW_RESPONSE_QUARANTINE) {
		guard->quarantined_for = kind;
		guard->quarantined_ns = bpf_ktime_get_ns();
		active = bpf_map_lookup_elem(&hw_active, &slot);
		if (active)
			__sync_fetch_and_or(&active->generation, HW_QUARANTINED);
	}
	tell(key, kind, response, guard->seen[kind]);
}

/* Counts one thing that an endpoint tried; `outcome` is of enum hw_outcome. */
__noinline int note_attempt(const struct hw_flow_key *key, __u32 outcome)
{
	const struct hw_endpoint *endpoint;
	__u64 now_ns = ticks();
	struct hw_guard *guard;
	__u32 slot;

	if (!key || !outcome)
		return 0;
	slot = key->slot;
	guard = bpf_map_lookup_elem(&hw_guards, &slot);
	endpoint = bpf_map_lookup_elem(&hw_endpoints, &slot);
	/* Another CPU counts something of this endpoint: this once is not counted. */
	if (!guard || !endpoint || !take_guard(guard))
		return 0;
	if (!guard->seed || now_ns - guard->window_ns >= HW_GUARD_WINDOW_NS)
		begin_window(guard, now_ns);
	if (outcome & HW_OUTCOME_ANSWERED)
		guard->answered++;
	if (outcome & HW_OUTCOME_REFUSED) {
		mark_attempt(guard, key);
		/* Whoever finds what it asks for is a client: a few dead addresses among many are not a scan. */
		if (guard->seen[HW_GUARD_HORIZONTAL_SCAN] > endpoint->thresholds[HW_GUARD_HORIZONTAL_SCAN] &&
		    guard->seen[HW_GUARD_HORIZONTAL_SCAN] * 4ull > guard->answered)
			respond(guard, endpoint, key, HW_GUARD_HORIZONTAL_SCAN);
		if (guard->seen[HW_GUARD_VERTICAL_SCAN] > endpoint->thresholds[HW_GUARD_VERTICAL_SCAN])
			respond(guard, endpoint, key, HW_GUARD_VERTICAL_SCAN);
	}
	if (outcome & HW_OUTCOME_UNFINISHED) {
		guard->seen[HW_GUARD_SYN_FLOOD]++;
		if (guard->seen[HW_GUARD_SYN_FLOOD] > endpoint->thresholds[HW_GUARD_SYN_FLOOD] &&
		    guard->seen[HW_GUARD_SYN_FLOOD] > guard->answered * 4ull)
			respond(guard, endpoint, key, HW_GUARD_SYN_FLOOD);
	}
	if (outcome & HW_OUTCOME_SPOOFED) {
		guard->seen[HW_GUARD_SPOOF]++;
		if (guard->seen[HW_GUARD_SPOOF] > endpoint->thresholds[HW_GUARD_SPOOF])
			respond(guard, endpoint, key, HW_GUARD_SPOOF);
	}
	release_guard(guard);
	return 0;
}

static __always_inline bool has_handshake(__u32 protocol)
{
	return protocol == HW_PROTOCOL_TCP || protocol == HW_PROTOCOL_SCTP;
}

/* What became of a flow, as if nothing more came; of those alone that the endpoint opened. */
static __always_inline __u32 outcome_of(const struct hw_flow *flow, __u32 protocol)
{
	__u32 state = flow->state;

	if (HW_OPENER(state) != HW_EGRESS)
		return HW_OUTCOME_NONE;
	switch (HW_STATE(state)) {
	case HW_FLOW_OPENING:
		return HW_OUTCOME_REFUSED | (has_handshake(protocol) ? HW_OUTCOME_UNFINISHED : 0);
	case HW_FLOW_ANSWERED:
		return HW_OUTCOME_UNFINISHED;
	case HW_FLOW_CLOSED:
		/* One packet and a RST for it: nobody is there. More is a check that ends by a RST of its own. */
		if (state & HW_RESET_BIT && flow->packets[HW_EGRESS] == 1 && flow->packets[HW_INGRESS] == 1)
			return HW_OUTCOME_REFUSED;
	}
	return HW_OUTCOME_ANSWERED;
}

#endif
