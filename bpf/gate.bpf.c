// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * gate.bpf.c - what a trusted NIC lets through of a host's network: everything until a deadline, behind it the
 * quarantine profile alone. Loaded once per port of the gate with its index set.
 *
 * No process has to live for a port to close: each packet compares the clock with the deadline. The profile is the
 * gate's own; nothing that a host sends, and no grant, changes it.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define HW_GATE_PORTS 64
#define HW_GATE_ALLOWED 16
/* In place of a deadline, which is a CLOCK_MONOTONIC time: closed, and the profile does not hold either. */
#define HW_GATE_CUT 1

#define HW_IPV4_FRAGMENT 0x3fff /* more to come, or an offset */
#define HW_ICMPV6_FIRST_ND 133	/* router solicitation */
#define HW_ICMPV6_LAST_ND 136	/* neighbour advertisement; not the redirect behind it */
#define HW_DHCP_SERVER 67
#define HW_DHCP_CLIENT 68
#define HW_DHCPV6_CLIENT 546
#define HW_DHCPV6_SERVER 547

enum hw_gate_way {
	HW_FROM_HOST = 0,
	HW_TO_HOST = 1,
};

/* Userspace's twin is `Allowed` in crates/hostward-datapath/src/gate.rs. */
struct hw_gate_allowed {
	__u8 address[16]; /* of the far end; IPv4 as ::ffff:a.b.c.d */
	__u8 prefix_bits; /* of the 128 */
	__u8 protocol;	  /* 0: any */
	__be16 port;	  /* of the far end; 0: any */
	__u32 used;
};

const volatile __u32 gate_port SEC(".rodata.gate");

/* One aligned word a port, memory-mapped: a packet never sees half of a deadline. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HW_GATE_PORTS);
	__type(key, __u32);
	__type(value, __u64);
} hw_gate_ends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HW_GATE_ALLOWED);
	__type(key, __u32);
	__type(value, struct hw_gate_allowed);
} hw_gate_profile SEC(".maps");

/* Index: port * 2 + enum hw_gate_way. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HW_GATE_PORTS * 2);
	__type(key, __u32);
	__type(value, __u64);
} hw_gate_dropped SEC(".maps");

/* What of a packet the profile is about. */
struct far_end {
	__u8 address[16];
	__u8 protocol;
	__be16 port;	  /* of the far end */
	__be16 near_port; /* of the host */
};

static __always_inline long load(void *ctx, bool is_xdp, __u32 offset, void *to, __u32 len)
{
	return is_xdp ? bpf_xdp_load_bytes(ctx, offset, to, len) : bpf_skb_load_bytes(ctx, offset, to, len);
}

/* Whether it is an entry's: address by prefix, protocol and port. */
static __always_inline bool is_allowed(const struct hw_gate_allowed *entry, const struct far_end *end)
{
	if (!entry->used || (entry->protocol && entry->protocol != end->protocol) ||
	    (entry->port && entry->port != end->port))
		return false;
	for (int i = 0; i < 16; i++) {
		int bits = entry->prefix_bits - 8 * i;
		__u8 mask = bits >= 8 ? 0xff : bits <= 0 ? 0 : 0xff << (8 - bits);

		if ((entry->address[i] ^ end->address[i]) & mask)
			return false;
	}
	return true;
}

static __always_inline bool is_dhcp(const struct far_end *end, bool is_ipv4)
{
	__be16 client = bpf_htons(is_ipv4 ? HW_DHCP_CLIENT : HW_DHCPV6_CLIENT);
	__be16 server = bpf_htons(is_ipv4 ? HW_DHCP_SERVER : HW_DHCPV6_SERVER);

	return end->protocol == IPPROTO_UDP && end->near_port == client && end->port == server;
}

/* Address resolution, addresses, and the way to the controller. What is fragmented or has options is none of it. */
static __always_inline bool in_profile(void *ctx, bool is_xdp, enum hw_gate_way way)
{
	struct far_end end = {};
	__be16 ethertype, ports[2];
	__u32 offset = ETH_HLEN;
	bool is_ipv4;

	if (load(ctx, is_xdp, offsetof(struct ethhdr, h_proto), &ethertype, sizeof(ethertype)))
		return false;
	if (ethertype == bpf_htons(ETH_P_ARP))
		return true;
	is_ipv4 = ethertype == bpf_htons(ETH_P_IP);
	if (is_ipv4) {
		struct iphdr ip;
		__be32 far;

		if (load(ctx, is_xdp, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl != 5 ||
		    ip.frag_off & bpf_htons(HW_IPV4_FRAGMENT))
			return false;
		far = way == HW_FROM_HOST ? ip.daddr : ip.saddr;
		end.address[10] = end.address[11] = 0xff;
		__builtin_memcpy(end.address + 12, &far, sizeof(far));
		end.protocol = ip.protocol;
		offset += sizeof(ip);
	} else if (ethertype == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip;
		__u8 type;

		if (load(ctx, is_xdp, offset, &ip, sizeof(ip)) || ip.version != 6)
			return false;
		offset += sizeof(ip);
		if (ip.nexthdr == IPPROTO_ICMPV6)
			return !load(ctx, is_xdp, offset, &type, sizeof(type)) && ip.hop_limit == 255 &&
			       type >= HW_ICMPV6_FIRST_ND && type <= HW_ICMPV6_LAST_ND;
		__builtin_memcpy(end.address, way == HW_FROM_HOST ? &ip.daddr : &ip.saddr, sizeof(end.address));
		end.protocol = ip.nexthdr;
	} else {
		return false;
	}
	if (end.protocol == IPPROTO_TCP || end.protocol == IPPROTO_UDP) {
		if (load(ctx, is_xdp, offset, ports, sizeof(ports)))
			return false;
		end.port = way == HW_FROM_HOST ? ports[1] : ports[0];
		end.near_port = way == HW_FROM_HOST ? ports[0] : ports[1];
		if (is_dhcp(&end, is_ipv4))
			return true;
	}
	for (__u32 i = 0; i < HW_GATE_ALLOWED; i++) {
		__u32 index = i;
		struct hw_gate_allowed *entry = bpf_map_lookup_elem(&hw_gate_profile, &index);

		if (!entry || !entry->used)
			return false;
		if (is_allowed(entry, &end))
			return true;
	}
	return false;
}

static __always_inline bool passes(void *ctx, bool is_xdp, enum hw_gate_way way)
{
	__u32 port = gate_port, index = port * 2 + way;
	__u64 *end = bpf_map_lookup_elem(&hw_gate_ends, &port), *dropped;
	__u64 until = end ? *(volatile __u64 *)end : HW_GATE_CUT;

	if (bpf_ktime_get_ns() < until)
		return true;
	if (until != HW_GATE_CUT && in_profile(ctx, is_xdp, way))
		return true;
	dropped = bpf_map_lookup_elem(&hw_gate_dropped, &index);
	if (dropped)
		*dropped += 1;
	return false;
}

SEC("tc")
int hw_gate_from(struct __sk_buff *skb)
{
	return passes(skb, false, HW_FROM_HOST) ? TC_ACT_OK : TC_ACT_SHOT;
}

SEC("tc")
int hw_gate_to(struct __sk_buff *skb)
{
	return passes(skb, false, HW_TO_HOST) ? TC_ACT_OK : TC_ACT_SHOT;
}

/* Behind the verdicts, at the lowest priority: nothing passes a port whose programs are gone. */
SEC("tc")
int hw_gate_closed(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}

SEC("xdp")
int hw_gate_xdp_from(struct xdp_md *ctx)
{
	return passes(ctx, true, HW_FROM_HOST) ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int hw_gate_xdp_to(struct xdp_md *ctx)
{
	return passes(ctx, true, HW_TO_HOST) ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
