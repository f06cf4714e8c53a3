/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * import.h - takes over one flow of an older datapath's table, while packets may already be deciding by it here.
 *
 * What refers to the old tables (generation, epoch, decision, peer, place) arrives as zeros: generation 0 is never in
 * force, so the first packet of a flow that was taken over has it decided anew by this datapath's policy, and until
 * then the flow is nobody's but the importer's. From that packet on it is only moved forward, never back.
 */
#ifndef HW_IMPORT_H
#define HW_IMPORT_H

#include "flow.h"

/* Each load has its own, as new_flow. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hw_import);
} import_record SEC(".maps");

static __always_inline bool was_imported(const struct hw_import *record)
{
	return record->before.seen_ns;
}

/* As fits_windows() moves it: the halves separately, and not at all if a packet moves it meanwhile. */
static __always_inline void advance_way(struct hw_flow *held, __u32 direction, struct hw_tcp_way seen)
{
	struct hw_tcp_way from = read_way(held, direction), to = from;

	if (seq_after(seen.end, from.end))
		to.end = seen.end;
	if (seq_after(seen.edge, from.edge))
		to.edge = seen.edge;
	move_way(held, direction, from, to.end, to.edge);
}

static __always_inline __u32 further_state(__u32 held, __u32 seen)
{
	__u32 fins = HW_FIN_BIT(0) | HW_FIN_BIT(1);
	__u32 next = (HW_STATE(seen) > HW_STATE(held) ? seen : held) | ((held | seen) & (fins | HW_RESET_BIT));

	return next & HW_RESET_BIT || (next & fins) == fins ? HW_WITH_STATE(next, HW_FLOW_CLOSED) : next;
}

/* TCP: the windows before the state that says that they are known. */
static __always_inline void advance_connection(struct hw_flow *held, const struct hw_flow *seen)
{
	__u32 state = *(volatile __u32 *)&held->state;
	bool begins = HW_STATE(state) == HW_FLOW_OPENING && HW_STATE(seen->state) != HW_FLOW_OPENING;

	for (int direction = 0; direction < 2; direction++) {
		if (begins) {
			held->ways[direction] = seen->ways[direction];
			held->ack[direction] = seen->ack[direction];
			held->window[direction] = seen->window[direction];
			continue;
		}
		advance_way(held, direction, seen->ways[direction]);
		if (seq_after(seen->ack[direction], held->ack[direction]))
			held->ack[direction] = seen->ack[direction];
		if (seen->window[direction] > held->window[direction])
			held->window[direction] = seen->window[direction];
	}
	__sync_val_compare_and_swap(&held->state, state, further_state(state, seen->state));
}

/* What the old datapath saw since it was imported first, added to what this one saw. */
static __always_inline void advance_import(struct hw_flow *held, const struct hw_import *record)
{
	const struct hw_flow *seen = &record->flow;

	for (int direction = 0; direction < 2; direction++) {
		__sync_fetch_and_add(&held->packets[direction],
				     seen->packets[direction] - record->before.packets[direction]);
		__sync_fetch_and_add(&held->bytes[direction], seen->bytes[direction] - record->before.bytes[direction]);
	}
	held->reported_packets += seen->reported_packets - record->before.reported_packets;
	held->reported_bytes += seen->reported_bytes - record->before.reported_bytes;
	if (seen->seen_ns > held->seen_ns)
		held->seen_ns = seen->seen_ns;
	if (record->key.protocol == HW_PROTOCOL_TCP)
		advance_connection(held, seen);
	else if (HW_STATE(seen->state) > HW_STATE(held->state))
		held->state = seen->state;
}

static __always_inline enum hw_import_outcome insert_import(struct hw_import *record, __u32 quota)
{
	struct hw_packet p = {.now_ns = ticks()};
	__u32 slot = constants.slot;
	struct hw_usage *usage;

	__builtin_memcpy(&p.key, &record->key, sizeof(p.key));
	if (!claim_place(&p, quota))
		return HW_IMPORT_NO_PLACE;
	record->flow.place = p.place;
	if (add_flow(&p.key, &record->flow))
		return HW_IMPORT_NO_PLACE;
	usage = bpf_map_lookup_elem(&hw_usage, &slot);
	if (usage)
		__sync_fetch_and_add(&usage->flows, 1);
	return HW_IMPORT_ADDED;
}

static __always_inline enum hw_import_outcome import_flow(struct hw_import *record, __u32 quota)
{
	struct hw_flow *held;

	if (flow_expired(&record->flow, record->key.protocol, ticks()))
		return HW_IMPORT_EXPIRED;
	record->flow.tag = flow_tag(&record->key);
	held = find_flow(&record->key, is_flow4(&record->key));
	/* This datapath ended it: what it decided stands. */
	if (!held)
		return was_imported(record) ? HW_IMPORT_HELD : insert_import(record, quota);
	if (!held->generation) {
		record->flow.place = held->place;
		__builtin_memcpy(held, &record->flow, sizeof(*held));
		return HW_IMPORT_ADVANCED;
	}
	/* It was opened here, or taken over before the importer was started anew. */
	if (!was_imported(record))
		return HW_IMPORT_HELD;
	/* Fewer than it came with: another flow of the same key, opened here. */
	if (held->packets[0] < record->before.packets[0] || held->packets[1] < record->before.packets[1])
		return HW_IMPORT_HELD;
	advance_import(held, record);
	return HW_IMPORT_ADVANCED;
}

/* The frame is a struct hw_import, of this slot. */
static __always_inline int import_frame(struct __sk_buff *skb)
{
	__u32 index = 0, slot = constants.slot;
	struct hw_endpoint *endpoint = bpf_map_lookup_elem(&hw_endpoints, &slot);
	struct hw_import *record = bpf_map_lookup_elem(&import_record, &index);

	if (!endpoint || !record || bpf_skb_load_bytes(skb, 0, record, sizeof(*record)) || record->key.slot != slot)
		return HW_IMPORT_REFUSED;
	return import_flow(record, endpoint->flow_quota);
}

#endif
