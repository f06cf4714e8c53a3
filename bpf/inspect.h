/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * inspect.h - packets for the inspector, and what it asks for their flows.
 *
 * Where a rule says `inspect=`, its flows' packets of both directions go, whole as they pass the port (GSO frames too),
 * into the ring hw_inspect, which the inspector reads in a process without privileges. A flow whose packets need not
 * go there, and an endpoint that asked for no inspection, never comes here: the flow's decision says so in a bit that
 * every packet tests together with another.
 *
 * No endpoint fills the ring for others: what waits there of one is at most HW_INSPECT_SHARE of it. What finds no room
 * passes and is counted as not seen, or is denied, as its rule has it.
 */
#ifndef HW_INSPECT_H
#define HW_INSPECT_H

#include "flow_table.h"
#include "maps.h"
#include "packet.h"

#define HW_INSPECT_SHARE 4

static __always_inline __u32 as_marked(__u32 decision, __u8 marks)
{
	if (marks & HW_FLOW_STOPPED)
		return decision | HW_INSPECTED;
	return marks & HW_FLOW_BYPASSED ? decision & ~HW_INSPECTED : decision;
}

/* A ring's record has a size that the verifier knows: the smallest of these that holds the frame. */
#define HW_INSPECT_ROOM_1 512
#define HW_INSPECT_ROOM_2 2048
#define HW_INSPECT_ROOM_3 8192
#define HW_INSPECT_ROOM_4 24576
#define HW_INSPECT_ROOM_5 (HW_INSPECT_FRAME_MAX + (__u32)sizeof(struct hw_inspected))

static __always_inline __u32 room_for(__u32 len_bytes)
{
	__u32 need = len_bytes + sizeof(struct hw_inspected);

	if (need <= HW_INSPECT_ROOM_1)
		return HW_INSPECT_ROOM_1;
	if (need <= HW_INSPECT_ROOM_2)
		return HW_INSPECT_ROOM_2;
	if (need <= HW_INSPECT_ROOM_3)
		return HW_INSPECT_ROOM_3;
	return need <= HW_INSPECT_ROOM_4 ? HW_INSPECT_ROOM_4 : HW_INSPECT_ROOM_5;
}

/* The frame behind the record's header; the record is gone afterwards. */
static __always_inline int fill_record(struct __sk_buff *skb, const struct hw_packet *p, struct hw_inspected *record,
				       const struct hw_inspected *header, const __u32 room)
{
	__u32 len = p->len_bytes;

	if (!record)
		return 0;
	__builtin_memcpy(record, header, sizeof(*record));
	/* The compiler would test both bounds in one, and Linux 6.1 learns nothing from "not 0". */
	asm volatile("" : "+r"(len));
	if (len < HW_ETH_LEN)
		goto discard;
	asm volatile("" : "+r"(len));
	if (len > room - sizeof(*record))
		goto discard;
	if (bpf_skb_load_bytes(skb, 0, record + 1, len))
		goto discard;
	bpf_ringbuf_submit(record, 0);
	return 1;
discard:
	bpf_ringbuf_discard(record, 0);
	return 0;
}

#define HW_FILL_RECORD(skb, p, room, header)                                                                           \
	fill_record(skb, p, bpf_ringbuf_reserve(&hw_inspect, room, 0), header, room)

static __always_inline int send_record(struct __sk_buff *skb, const struct hw_packet *p, __u32 room,
				       const struct hw_inspected *header)
{
	switch (room) {
	case HW_INSPECT_ROOM_1:
		return HW_FILL_RECORD(skb, p, HW_INSPECT_ROOM_1, header);
	case HW_INSPECT_ROOM_2:
		return HW_FILL_RECORD(skb, p, HW_INSPECT_ROOM_2, header);
	case HW_INSPECT_ROOM_3:
		return HW_FILL_RECORD(skb, p, HW_INSPECT_ROOM_3, header);
	case HW_INSPECT_ROOM_4:
		return HW_FILL_RECORD(skb, p, HW_INSPECT_ROOM_4, header);
	default:
		return HW_FILL_RECORD(skb, p, HW_INSPECT_ROOM_5, header);
	}
}

/* Whether the endpoint has room left in the ring; if so it is taken. */
static __always_inline bool take_room(struct hw_inspect_usage *usage, __u32 slot, __u32 room)
{
	__u64 *done = bpf_map_lookup_elem(&hw_inspect_done, &slot);
	__u64 share = bpf_ringbuf_query(&hw_inspect, BPF_RB_RING_SIZE) / HW_INSPECT_SHARE;

	/* Signed: a reader that died between a record's two steps has given its room back twice. */
	if (!done || (__s64)(usage->room_bytes + room - *(volatile __u64 *)done) > (__s64)share)
		return false;
	__sync_fetch_and_add(&usage->room_bytes, room);
	return true;
}

/*
 * Sends a packet that passes to the inspector. The reason why it may not pass without, or NONE. `decision` and `tag`
 * are its flow's.
 */
__noinline int inspect_packet(struct __sk_buff *skb, struct hw_packet *p, __u32 decision, __u32 tag)
{
	__u32 index = decision & HW_DECISION_INDEX, slot, zero = 0, room;
	struct hw_inspect_usage *usage;
	struct hw_inspected *header;
	struct hw_decision *rule;
	struct hw_policy *policy;
	__u8 how;

	if (!p)
		return HW_REASON_INTERNAL;
	slot = p->key.slot;
	rule = bpf_map_lookup_elem(&hw_decisions, &index);
	usage = bpf_map_lookup_elem(&hw_inspect_usage, &slot);
	header = bpf_map_lookup_elem(&new_inspected, &zero);
	if (!rule || !usage || !header)
		return HW_REASON_INTERNAL;
	how = p->opener == HW_EGRESS ? rule->inspect[HW_CHOICE_OPENER] : rule->inspect[HW_CHOICE_ACCEPTOR];
	if (!how)
		return HW_REASON_NONE;
	room = room_for(p->len_bytes);
	header->time_ns = bpf_ktime_get_ns();
	index = p->active.policy;
	policy = bpf_map_lookup_elem(&hw_policies, &index);
	header->revision = policy ? policy->revision : 0;
	__builtin_memcpy(&header->key, &p->key, sizeof(header->key));
	header->tag = tag;
	header->number = rule->number;
	header->peer = 0;
	header->len_bytes = p->len_bytes;
	header->room_bytes = room;
	header->direction = p->direction;
	header->opener = p->opener;
	header->profile = how & HW_INSPECT_PROFILE;
	header->process = p->process;
	if (take_room(usage, slot, room)) {
		if (send_record(skb, p, room, header)) {
			__sync_fetch_and_add(&usage->packets, 1);
			return HW_REASON_NONE;
		}
		__sync_fetch_and_sub(&usage->room_bytes, room);
	}
	if (how & HW_INSPECT_FAIL_CLOSED) {
		__sync_fetch_and_add(&usage->refused_packets, 1);
		return HW_REASON_UNINSPECTED;
	}
	__sync_fetch_and_add(&usage->missed_packets, 1);
	__sync_fetch_and_add(&usage->missed_bytes, p->len_bytes);
	return HW_REASON_NONE;
}

/* A packet of a flow whose decision has HW_INSPECTED. */
static __always_inline enum hw_reason inspect_flow(struct __sk_buff *skb, struct hw_packet *p, struct hw_flow *flow)
{
	if (flow->marks & HW_FLOW_STOPPED)
		return HW_REASON_SIGNATURE;
	p->process = flow->process;
	return inspect_packet(skb, p, flow->decision, flow->tag);
}

/* The frame is a struct hw_judgement of this slot; whether its flow is there and is still the same. */
static __always_inline int judge_flow(struct __sk_buff *skb)
{
	struct hw_judgement judgement;
	struct hw_flow *flow;
	__u8 marks;

	if (bpf_skb_load_bytes(skb, 0, &judgement, sizeof(judgement)) || judgement.key.slot != constants.slot)
		return 0;
	flow = find_flow(&judgement.key, is_flow4(&judgement.key));
	if (!flow || flow->tag != judgement.tag)
		return 0;
	marks = flow->marks | (judgement.marks & (HW_FLOW_BYPASSED | HW_FLOW_STOPPED | HW_FLOW_REJECTED));
	flow->marks = marks;
	flow->decision = as_marked(flow->decision, marks);
	return 1;
}

#endif
