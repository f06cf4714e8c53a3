/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* arp.h - ARP (RFC 826, RFC 5227): an endpoint speaks for its own MAC and addresses only. */
#ifndef HW_ARP_H
#define HW_ARP_H

#include "address.h"

struct hw_arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender_ip[4];
	__u8 target_mac[6];
	__u8 target_ip[4];
} __attribute__((packed));

__noinline int check_arp(struct __sk_buff *skb, struct hw_packet *p, struct hw_endpoint *endpoint)
{
	struct hw_arp arp;
	__be32 sender, target;

	if (!p || !endpoint)
		return HW_REASON_INTERNAL;
	if (bpf_skb_load_bytes(skb, HW_ETH_LEN, &arp, sizeof(arp)))
		return HW_REASON_TRUNCATED;
	if (arp.hardware != bpf_htons(1) || arp.protocol != bpf_htons(ETH_P_IP) || arp.hardware_len != 6 ||
	    arp.protocol_len != 4)
		return HW_REASON_ARP_HEADER;
	if (arp.operation != bpf_htons(1) && arp.operation != bpf_htons(2))
		return HW_REASON_ARP_HEADER;
	__builtin_memcpy(&sender, arp.sender_ip, 4);
	__builtin_memcpy(&target, arp.target_ip, 4);
	address_from_ipv4(packet_source(p), sender);
	address_from_ipv4(packet_destination(p), target);
	p->family = 4;
	if (p->direction == HW_EGRESS) {
		if (!mac_equal(arp.sender_mac, endpoint->mac))
			return HW_REASON_ARP_SPOOF;
		/* RFC 5227: a probe has no sender address; only for an address of its own may an endpoint probe */
		if (!sender)
			return arp.operation == bpf_htons(1) && own_ipv4(p, target) ? HW_REASON_NONE
										    : HW_REASON_ARP_SPOOF;
		return own_ipv4(p, sender) ? HW_REASON_NONE : HW_REASON_ARP_SPOOF;
	}
	/* Towards the endpoint: nobody may claim its address or its MAC, and a reply must be meant for it. */
	if (mac_equal(arp.sender_mac, endpoint->mac) || (sender && own_ipv4(p, sender)))
		return HW_REASON_ARP_SPOOF;
	/* An announcement (RFC 5227) names its sender twice and is for all. */
	if (arp.operation == bpf_htons(2) && target != sender && !own_ipv4(p, target))
		return HW_REASON_NOT_ADDRESSED;
	return HW_REASON_NONE;
}

#endif
