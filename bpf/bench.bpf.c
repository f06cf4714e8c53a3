// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * bench.bpf.c - the verdict over many flows, for `bench datapath`. Run on frames, never attached.
 *
 * A test run repeats one frame. To visit many flows, and to send new data in each, each run first writes the next
 * flow's port, address and sequence number into the frame; hw_rotate_floor writes them too and decides nothing, so that
 * the difference is the verdict alone.
 */
#include "filter.h"

/* Userspace's twin is `Rotation` in crates/hostward-datapath/src/bench.rs. */
struct hw_rotation {
	__u32 next;	      /* flow of the next run */
	__u32 flows;	      /* flows visited in turn; at least 1 */
	__u32 addresses;      /* remote addresses that they are spread over; at least 1 */
	__u32 first_address;  /* the last 32 bits of the first remote address, in host order */
	__u32 address_offset; /* of those bits in the frame */
	__u32 first_port;     /* the opener's port of the first flow */
	__u32 port_offset;    /* of that port in the frame */
	__u32 seq;	      /* sequence number of the next run, in host order */
	__u32 seq_step;	      /* what every flow's visit sends */
	__u32 seq_offset;     /* of that number in the frame */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hw_rotation);
} hw_rotations SEC(".maps");

/* The fields lie in the headers of IPv6 and TCP at the latest. */
#define HW_OFFSET_MASK 63u

static __always_inline bool rotate(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	struct hw_rotation *rotation;
	__be32 *address;
	__be16 *port;
	__be32 *seq;
	__u32 flow, zero = 0;

	rotation = bpf_map_lookup_elem(&hw_rotations, &zero);
	if (!rotation || !rotation->addresses)
		return false;
	flow = rotation->next;
	address = data + (rotation->address_offset & HW_OFFSET_MASK);
	port = data + (rotation->port_offset & HW_OFFSET_MASK);
	seq = data + (rotation->seq_offset & HW_OFFSET_MASK);
	if ((void *)(address + 1) > data_end || (void *)(port + 1) > data_end || (void *)(seq + 1) > data_end)
		return false;
	*seq = bpf_htonl(rotation->seq);
	*address = bpf_htonl(rotation->first_address + flow % rotation->addresses);
	*port = bpf_htons(rotation->first_port + flow / rotation->addresses);
	rotation->next = flow + 1;
	if (rotation->next >= rotation->flows) {
		rotation->next = 0;
		rotation->seq += rotation->seq_step;
	}
	return true;
}

SEC("tc")
int hw_rotate_egress(struct __sk_buff *skb)
{
	return rotate(skb) ? filter(skb, HW_EGRESS) : TC_ACT_UNSPEC;
}

SEC("tc")
int hw_rotate_ingress(struct __sk_buff *skb)
{
	return rotate(skb) ? filter(skb, HW_INGRESS) : TC_ACT_UNSPEC;
}

SEC("tc")
int hw_rotate_floor(struct __sk_buff *skb)
{
	return rotate(skb) ? TC_ACT_OK : TC_ACT_UNSPEC;
}

/*
 * A trial of sampling, with random numbers that can be repeated: how many packets of one class are taken of many. A
 * packet is of the class if its number leaves `phase` when it is divided by `period`. Userspace's twin is `Trial` in
 * crates/hostward-datapath/src/bench.rs; the frame is one.
 */
struct hw_trial {
	__u64 seed; /* not 0 */
	__u64 sampling;
	__u32 packets;
	__u32 period;
	__u32 phase;
	__u32 every; /* every so many-th packet is taken, in step; 0: at random */
};

struct hw_trial_state {
	struct hw_trial trial;
	__u64 place; /* behind the last packet that was taken */
	__u32 found;
};

#define HW_TRIAL_DRAWS (1u << 23)

/* xorshift64* (Vigna, 2016); its upper half. */
static __always_inline __u32 draw_repeatable(__u64 *state)
{
	__u64 x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545f4914f6cdd1dull >> 32;
}

static long take_next(__u32 index, struct hw_trial_state *state)
{
	const struct hw_trial *trial = &state->trial;
	__u64 skip = trial->every;

	if (!skip)
		skip = draw_skip(trial->sampling, draw_repeatable(&state->trial.seed));
	state->place += skip;
	if (state->place > trial->packets)
		return 1;
	if (trial->period && (state->place - 1) % trial->period == trial->phase)
		state->found++;
	return 0;
}

SEC("tc")
int hw_sampling_trial(struct __sk_buff *skb)
{
	struct hw_trial_state state = {};

	if (bpf_skb_load_bytes(skb, 0, &state.trial, sizeof(state.trial)))
		return TC_ACT_UNSPEC;
	bpf_loop(HW_TRIAL_DRAWS, take_next, &state, 0);
	return state.found;
}

/* Clang describes what only a pointer names, as the values of inner maps are, by its name alone; these in full. */
struct hw_inner_values {
	struct hw_class_block class_block;
	struct hw_ring_place ring_place;
};

const volatile struct hw_inner_values *const hw_inner_value_types = 0;

char LICENSE[] SEC("license") = "GPL";
