/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * dhcp.h - DHCP (RFC 2131) and DHCPv6 (RFC 8415): an endpoint may ask for itself and may never answer. Where its
 * network names its servers, it may ask them or everybody, and is answered by them alone.
 */
#ifndef HW_DHCP_H
#define HW_DHCP_H

#include "address.h"

#define HW_DHCP_SERVER 67
#define HW_DHCP_CLIENT 68
#define HW_DHCP6_CLIENT 546
#define HW_DHCP6_SERVER 547
/* Offset of chaddr in a message, RFC 2131 figure 1. */
#define HW_DHCP_CHADDR 28

static __always_inline bool is_dhcp(__u8 family, __u16 source_port, __u16 destination_port)
{
	if (family == 4)
		return source_port == HW_DHCP_SERVER || destination_port == HW_DHCP_SERVER ||
		       source_port == HW_DHCP_CLIENT || destination_port == HW_DHCP_CLIENT;
	return source_port == HW_DHCP6_SERVER || destination_port == HW_DHCP6_SERVER ||
	       source_port == HW_DHCP6_CLIENT || destination_port == HW_DHCP6_CLIENT;
}

static __always_inline bool is_dhcp_server(const struct hw_endpoint *endpoint, const struct hw_packet *p,
					   const __u8 address[16])
{
	/* What names an IPv4 address here is no IPv6 packet's. */
	if (address_is_zero(address) || (p->family == 6 && is_mapped_ipv4(address)))
		return false;
	for (int i = 0; i < HW_DHCP_SERVERS; i++) {
		if (address_equal(endpoint->dhcp[i], address))
			return true;
	}
	return false;
}

/* 255.255.255.255, and ff02::1:2 (RFC 8415, section 7.1). */
static __always_inline bool is_every_dhcp_server(const struct hw_packet *p, const __u8 address[16])
{
	const __u32 *words = (const __u32 *)address;

	if (p->family == 4)
		return words[3] == 0xffffffff;
	return words[0] == bpf_htonl(0xff020000) && !words[1] && !words[2] && words[3] == bpf_htonl(0x00010002);
}

__noinline int check_dhcp(struct __sk_buff *skb, struct hw_packet *p, struct hw_endpoint *endpoint, __u16 source_port)
{
	bool ask, answer, named;

	if (!p || !endpoint)
		return HW_REASON_INTERNAL;
	if (p->family == 4) {
		ask = source_port == HW_DHCP_CLIENT && p->port == HW_DHCP_SERVER;
		answer = source_port == HW_DHCP_SERVER && p->port == HW_DHCP_CLIENT;
	} else {
		ask = source_port == HW_DHCP6_CLIENT && p->port == HW_DHCP6_SERVER;
		/* RFC 8415 section 7.2: only the destination port of an answer is fixed */
		answer = p->port == HW_DHCP6_CLIENT;
	}
	named = endpoint->flags & HW_ENDPOINT_NAMES_DHCP;
	if (p->direction == HW_INGRESS)
		return answer && (!named || is_dhcp_server(endpoint, p, p->key.remote)) ? HW_REASON_NONE
											: HW_REASON_DHCP_SPOOF;
	if (!ask || (named && !is_every_dhcp_server(p, p->key.remote) && !is_dhcp_server(endpoint, p, p->key.remote)))
		return HW_REASON_DHCP_SPOOF;
	if (p->family == 4) {
		struct {
			__u8 operation, hardware, hardware_len, hops;
		} head;
		__u8 chaddr[6];

		if (bpf_skb_load_bytes(skb, p->l4_offset + 8, &head, sizeof(head)) ||
		    bpf_skb_load_bytes(skb, p->l4_offset + 8 + HW_DHCP_CHADDR, chaddr, sizeof(chaddr)))
			return HW_REASON_TRUNCATED;
		if (head.operation != 1 || head.hardware_len != 6 || !mac_equal(chaddr, endpoint->mac))
			return HW_REASON_DHCP_SPOOF;
		if (*(const __u32 *)(p->key.local + 12) == 0)
			return HW_REASON_NONE;
	}
	return own_address(p, p->key.local, p->family) ? HW_REASON_NONE : HW_REASON_DHCP_SPOOF;
}

#endif
