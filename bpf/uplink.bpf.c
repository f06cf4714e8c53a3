// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * uplink.bpf.c - at the host's uplink: who fills its downlink, and which queue a restrained destination has.
 *
 * Neither program is there in quiet times: hw_arrivals is attached while the downlink is nearly full, hw_ceiling while
 * some receiver has told this host to slow down. They decide nothing about a packet but its queue, and let every one go
 * on.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Userspace's twins are in crates/hostward-datapath/src/uplink.rs. */
struct hw_pool_key {
	__u32 bits;
	__u8 address[16]; /* IPv4 as ::ffff:a.b.c.d */
};

struct hw_ceiling_key {
	__u32 priority; /* the tenant's class, as the datapath wrote it */
	__u8 destination[16];
};

struct hw_ceiling {
	__u64 until_ns; /* on the kernel's monotonic clock; later it counts for nothing, whoever is still alive */
	__u32 priority; /* the class that has the ceiling */
	__u32 padding;
};

/* Where endpoints' addresses lie: only those are told apart, so that the internet cannot fill the table. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct hw_pool_key);
	__type(value, __u8);
} hw_pools SEC(".maps");

/* Bytes since userspace took them, by source address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u8[16]);
	__type(value, __u64);
} hw_arrived SEC(".maps");

/* Bytes of all others: from outside the pools, of no IP, or without room in the table. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} hw_others SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct hw_ceiling_key);
	__type(value, struct hw_ceiling);
} hw_ceilings SEC(".maps");

enum hw_end { HW_SOURCE, HW_DESTINATION };

/* One address of the packet; false: it is of no IP. Returns the length of the fixed header in *header. */
static __always_inline bool load_address(struct __sk_buff *skb, enum hw_end end, __u8 address[16], __u32 *header)
{
	__u32 offset;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		*header = sizeof(struct iphdr);
		offset = end == HW_SOURCE ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr);
		__builtin_memset(address, 0, 10);
		address[10] = address[11] = 0xff;
		return !bpf_skb_load_bytes(skb, ETH_HLEN + offset, address + 12, 4);
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		*header = sizeof(struct ipv6hdr);
		offset = end == HW_SOURCE ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr);
		return !bpf_skb_load_bytes(skb, ETH_HLEN + offset, address, 16);
	}
	return false;
}

/* What the packet was on the wire: the headers of its segments are in none of its lengths here. TCP's with timestamps.
 */
static __always_inline __u64 wire_bytes(const struct __sk_buff *skb, __u32 header)
{
	__u32 segments = skb->gso_segs;

	return skb->len + (segments > 1 ? (segments - 1) * (ETH_HLEN + header + 32) : 0);
}

SEC("tc")
int hw_arrivals(struct __sk_buff *skb)
{
	struct hw_pool_key key = {.bits = 128};
	__u32 header = 0, zero = 0;
	__u64 *count, bytes;
	bool told_apart;

	told_apart = load_address(skb, HW_SOURCE, key.address, &header) && bpf_map_lookup_elem(&hw_pools, &key);
	bytes = wire_bytes(skb, header);
	if (told_apart) {
		count = bpf_map_lookup_elem(&hw_arrived, key.address);
		if (!count) {
			if (!bpf_map_update_elem(&hw_arrived, key.address, &bytes, BPF_NOEXIST))
				return TC_ACT_UNSPEC;
			/* Another processor was first, or there is no room. */
			count = bpf_map_lookup_elem(&hw_arrived, key.address);
		}
		if (count) {
			__sync_fetch_and_add(count, bytes);
			return TC_ACT_UNSPEC;
		}
	}
	count = bpf_map_lookup_elem(&hw_others, &zero);
	if (count)
		__sync_fetch_and_add(count, bytes);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int hw_ceiling(struct __sk_buff *skb)
{
	struct hw_ceiling_key key = {.priority = skb->priority};
	struct hw_ceiling *ceiling;
	__u32 header;

	if (!load_address(skb, HW_DESTINATION, key.destination, &header))
		return TC_ACT_UNSPEC;
	ceiling = bpf_map_lookup_elem(&hw_ceilings, &key);
	if (ceiling && bpf_ktime_get_ns() < ceiling->until_ns)
		skb->priority = ceiling->priority;
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "GPL";
