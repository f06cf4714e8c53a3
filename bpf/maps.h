/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * maps.h - the maps. Sizes are defaults; the loader sets them from its capacity before the first load and pins them,
 * and every later load of the same object, one per port, uses the pinned ones.
 */
#ifndef HW_MAPS_H
#define HW_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

const volatile struct hw_constants constants SEC(".rodata.port") = {
	.abi_version = HW_ABI_VERSION,
	.tick_ns = 4000000,
};

/*
 * Nanoseconds since some moment, as coarse as CLOCK_MONOTONIC_COARSE and advancing with it. The verifier turns the
 * helper into one load, whereas reading a clock is two calls, and returns are dear where the kernel guards them
 * (retbleed, SRSO).
 */
static __always_inline __u64 ticks(void)
{
	return bpf_jiffies64() * constants.tick_ns;
}

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct hw_endpoint);
} hw_endpoints SEC(".maps");

/* Memory-mapped, because an update by system call copies bytes, and a packet must never see half of one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct hw_active);
} hw_active SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct hw_network);
} hw_networks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct hw_policy);
} hw_policies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1048576);
	__type(key, __u32);
	__type(value, struct hw_ref);
} hw_refs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1048576);
	__type(key, __u32);
	__type(value, struct hw_cell);
} hw_cells SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 131072);
	__type(key, __u32);
	__type(value, struct hw_decision);
} hw_decisions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 131072);
	__type(key, __u32);
	__type(value, struct hw_count);
} hw_counts SEC(".maps");

/* Of the decisions that have any. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, __u32); /* index into hw_decisions */
	__type(value, struct hw_limits);
} hw_limits SEC(".maps");

/* Index: slot * HW_BUCKETS_PER_ENDPOINT + place. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct hw_bucket);
} hw_buckets SEC(".maps");

/* The executable that uses a socket; written by process.bpf.c. It hangs on the socket, and goes with it. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct hw_user);
} hw_sockets SEC(".maps");

/* The executables that rules name, of each endpoint whose rules do. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct hw_process_key);
	__type(value, __u8);
} hw_processes SEC(".maps");

/* Index: slot * HW_PROCESSES_PER_ENDPOINT + number: the executable, 0 when no rule names it any more. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u64);
} hw_executables SEC(".maps");

/* Of the decisions that depend on a process. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, struct hw_choice_key);
	__type(value, __u32); /* index into hw_decisions */
} hw_choices SEC(".maps");

/*
 * Inner maps are declared by size and not by type: a map that the loader creates has no BTF, and Linux before 6.2
 * refuses it in place of a template that has (bpf_map_meta_equal compares timer_off, which tells "no timer" from "no
 * BTF").
 */
struct hw_class_inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct hw_class_block));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__array(values, struct hw_class_inner);
} hw_classes SEC(".maps");

/*
 * Who an address is: single addresses by hash, the rest by longest-prefix match, whose cost grows with the number of
 * prefixes. A single address is the longest prefix there is, so it is asked for first.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct hw_host4_key);
	__type(value, __u32); /* peer index */
} hw_hosts4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct hw_host6_key);
	__type(value, __u32); /* peer index */
} hw_hosts6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct hw_prefix4_key);
	__type(value, __u32); /* peer index */
} hw_prefixes4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct hw_prefix6_key);
	__type(value, __u32); /* peer index */
} hw_prefixes6 SEC(".maps");

/* Never evicts: an endpoint's share is bounded by its ring, and the rings together fit. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__type(key, struct hw_flow4_key);
	__type(value, struct hw_flow);
} hw_flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__type(key, struct hw_flow_key);
	__type(value, struct hw_flow);
} hw_flows6 SEC(".maps");

/* Where a flow is put together before it is inserted: the stack of 512 bytes has no room for one. Each load has its
 * own, unpinned, which is why its name begins like no other's. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hw_flow);
} new_flow SEC(".maps");

/* Likewise what goes before a packet in hw_inspect. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hw_inspected);
} new_inspected SEC(".maps");

/* Likewise both ends of a packet, as the look-up of a socket wants them. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bpf_sock_tuple);
} new_ends SEC(".maps");

struct hw_ring_inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_INNER_MAP); /* rings have as many places as the endpoint's quota */
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct hw_ring_place));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 256);
	__type(key, __u32);
	__array(values, struct hw_ring_inner);
} hw_rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct hw_usage);
} hw_usage SEC(".maps");

/* What each endpoint tries, and the response; nothing that comes with a revision is here. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct hw_guard);
} hw_guards SEC(".maps");

/* Index: slot * HW_REASON_STRIDE + reason. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
} hw_reasons SEC(".maps");

/* Index: slot * HW_DENIALS_PER_ENDPOINT + a hash of what was denied. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct hw_denial);
} hw_denials SEC(".maps");

/* Index: slot * HW_DATAGRAMS_PER_ENDPOINT + place. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct hw_datagram);
} hw_datagrams SEC(".maps");

/* At 200,000 events a second (100,000 flows that open and end) a reader may be away for an eighth of a second. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4194304);
} hw_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct hw_sampler);
} hw_samplers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4194304);
} hw_samples SEC(".maps");

/* Where a sample is kept while its packet is decided; as new_flow. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hw_sample);
} new_sample SEC(".maps");

/* Packets for the inspector, each behind a struct hw_inspected. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16777216);
} hw_inspect SEC(".maps");

/* By slot. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct hw_inspect_usage);
} hw_inspect_usage SEC(".maps");

/* By slot: the room in hw_inspect that was read and given back. Mapped by the inspector, which may write nothing else.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} hw_inspect_done SEC(".maps");

#endif
