/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * flow_table.h - the flow tables by one key. Each family has a table of its own: an IPv4 flow's key is a third of an
 * IPv6 flow's, it is hashed in half the time, and its entry costs two lines of the cache instead of three.
 */
#ifndef HW_FLOW_TABLE_H
#define HW_FLOW_TABLE_H

#include "maps.h"
#include "packet.h"

static __always_inline void flow4_key(struct hw_flow4_key *to, const struct hw_flow_key *key)
{
	to->local = *(const __be32 *)(key->local + 12);
	to->remote = *(const __be32 *)(key->remote + 12);
	to->ports = *(const __u32 *)&key->local_port;
	to->slot_protocol = key->slot << 8 | (key->protocol & 0xff);
}

/* An IPv6 packet with such an address is denied before any flow is looked for. */
static __always_inline bool is_flow4(const struct hw_flow_key *key)
{
	return is_mapped_ipv4(key->local);
}

/* The key lies on the caller's stack or in a map: Linux 6.1 takes no other memory, see decide(). */
static __always_inline struct hw_flow *find_flow(const struct hw_flow_key *key, bool is_ipv4)
{
	if (is_ipv4) {
		struct hw_flow4_key short_key;

		flow4_key(&short_key, key);
		return bpf_map_lookup_elem(&hw_flows4, &short_key);
	}
	return bpf_map_lookup_elem(&hw_flows6, key);
}

static __always_inline long add_flow(const struct hw_flow_key *key, const struct hw_flow *flow)
{
	if (is_flow4(key)) {
		struct hw_flow4_key short_key;

		flow4_key(&short_key, key);
		return bpf_map_update_elem(&hw_flows4, &short_key, flow, BPF_NOEXIST);
	} else {
		struct hw_flow_key copy = *key;

		return bpf_map_update_elem(&hw_flows6, &copy, flow, BPF_NOEXIST);
	}
}

static __always_inline long remove_flow(const struct hw_flow_key *key)
{
	if (is_flow4(key)) {
		struct hw_flow4_key short_key;

		flow4_key(&short_key, key);
		return bpf_map_delete_elem(&hw_flows4, &short_key);
	} else {
		struct hw_flow_key copy = *key;

		return bpf_map_delete_elem(&hw_flows6, &copy);
	}
}

#endif
