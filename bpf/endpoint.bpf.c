// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * endpoint.bpf.c - the two programs on an endpoint's port. Loaded once per port with its slot set; all ports share the
 * maps.
 *
 * egress  = what the workload sends  = ingress hook of the host's side of the port
 * ingress = what the workload is sent = egress hook of the host's side of the port
 *
 * Returning TC_ACT_OK (the same number as TCX_PASS) ends processing; whatever is behind - the closed base - drops.
 */
#include "filter.h"
#include "import.h"

SEC("tc")
int hw_egress(struct __sk_buff *skb)
{
	return filter(skb, HW_EGRESS);
}

SEC("tc")
int hw_ingress(struct __sk_buff *skb)
{
	return filter(skb, HW_INGRESS);
}

/* The closed base: a lowest-priority classifier that lets nothing past it. */
SEC("tc")
int hw_closed(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}

/* The floor that `bench datapath` subtracts. */
SEC("tc")
int hw_empty(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

/* Run by the agent, never attached: judges what the endpoint opened, and reports what still waits in its denials. */
SEC("tc")
int hw_flush(struct __sk_buff *skb)
{
	__u32 first = constants.slot * HW_DENIALS_PER_ENDPOINT, slot = constants.slot;
	struct hw_usage *usage = bpf_map_lookup_elem(&hw_usage, &slot);
	__u64 now_ns = ticks();

	if (!usage)
		return TC_ACT_OK;
	for (int i = 0; i < HW_GUARD_FLUSHES; i++)
		judge_places(slot, HW_GUARD_PLACES);
	for (__u32 i = 0; i < HW_DENIALS_PER_ENDPOINT; i++) {
		__u32 index = first + i;
		struct hw_denial *denial = bpf_map_lookup_elem(&hw_denials, &index);

		if (!denial || !denial->event.packets)
			continue;
		if (!take_denial(denial))
			continue;
		if (i >= HW_DENIALS_BY_PORT) {
			if (denial_is_due(denial, now_ns))
				send_by_rule(denial, now_ns);
		} else {
			struct hw_event *event = take_event(slot, usage);

			if (event)
				send_waiting(denial, event, now_ns);
		}
		release_denial(denial);
	}
	return TC_ACT_OK;
}

/* Run by the agent, never attached: takes over a flow of an older datapath; enum hw_import_outcome. */
SEC("tc")
int hw_import(struct __sk_buff *skb)
{
	return import_frame(skb);
}

/* Run by the agent, never attached: the frame is a struct hw_order; whether it was carried out. */
SEC("tc")
int hw_order(struct __sk_buff *skb)
{
	struct hw_order order;

	return !bpf_skb_load_bytes(skb, 0, &order, sizeof(order)) && obey(&order, constants.slot);
}

/* Run by the agent, never attached: what the inspector asks for a flow. */
SEC("tc")
int hw_judge(struct __sk_buff *skb)
{
	return judge_flow(skb);
}

/* Instances of every shared structure, so that the object's BTF describes all of them. */
struct hw_abi {
	struct hw_constants constants;
	struct hw_rate rate;
	struct hw_endpoint endpoint;
	struct hw_active active;
	struct hw_network network;
	struct hw_policy policy;
	struct hw_ref ref;
	struct hw_cell cell;
	struct hw_decision decision;
	struct hw_user user;
	struct hw_choice_key choice_key;
	struct hw_process_key process_key;
	struct hw_limit limit;
	struct hw_limits limits;
	struct hw_bucket bucket;
	struct hw_class_block class_block;
	struct hw_host4_key host4_key;
	struct hw_host6_key host6_key;
	struct hw_prefix4_key prefix4_key;
	struct hw_prefix6_key prefix6_key;
	struct hw_flow_key flow_key;
	struct hw_flow4_key flow4_key;
	struct hw_tcp_way tcp_way;
	struct hw_sctp_tags sctp_tags;
	struct hw_flow flow;
	struct hw_import_before import_before;
	struct hw_import import;
	struct hw_ring_place ring_place;
	struct hw_reopening reopening;
	struct hw_usage usage;
	struct hw_stretch stretch;
	struct hw_datagram datagram;
	struct hw_count count;
	struct hw_denial denial;
	struct hw_event event;
	struct hw_guard_target guard_target;
	struct hw_guard guard;
	struct hw_order order;
	struct hw_sampler sampler;
	struct hw_sample sample;
	struct hw_inspected inspected;
	struct hw_inspect_usage inspect_usage;
	struct hw_judgement judgement;
	enum hw_direction direction;
	enum hw_verdict verdict;
	enum hw_reason reason;
	enum hw_event_kind event_kind;
	enum hw_flow_state flow_state;
	enum hw_decision_flag decision_flag;
	enum hw_endpoint_flag endpoint_flag;
	enum hw_import_outcome import_outcome;
	enum hw_stride stride;
	enum hw_process process;
	enum hw_choice_end choice_end;
	enum hw_sharing sharing;
	enum hw_unit unit;
	enum hw_rate_shift rate_shift;
	enum hw_guard_kind guard_kind;
	enum hw_response response;
	enum hw_guard_size guard_size;
	enum hw_order_kind order_kind;
	enum hw_place_use place_use;
	enum hw_sampling_bits sampling_bits;
	enum hw_sample_size sample_size;
	enum hw_flow_mark flow_mark;
	enum hw_inspect inspect;
};

const volatile struct hw_abi *const hw_abi_types = 0;

/* The kernel knows no word for "GPL-2.0-only OR Apache-2.0"; this is the one it grants GPL-only helpers for. */
char LICENSE[] SEC("license") = "GPL";
