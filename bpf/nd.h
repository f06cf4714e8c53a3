/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* nd.h - Neighbour Discovery (RFC 4861) and MLD: an endpoint speaks for its own MAC and addresses only (RFC 6105). */
#ifndef HW_ND_H
#define HW_ND_H

#include "address.h"

enum hw_nd_type {
	HW_ND_ROUTER_SOLICITATION = 133,
	HW_ND_ROUTER_ADVERTISEMENT = 134,
	HW_ND_NEIGHBOUR_SOLICITATION = 135,
	HW_ND_NEIGHBOUR_ADVERTISEMENT = 136,
	HW_ND_REDIRECT = 137,
};

#define HW_ND_ROUTER_ADVERTISEMENT_LEN 16u

/* Options looked through; a message with more is denied. RFC 4861 defines no message that needs more than four. */
#define HW_ND_OPTIONS 4

/* Every link-layer address option (types 1 and 2) of a message must carry the endpoint's MAC. */
static __always_inline bool link_layer_options_own(struct __sk_buff *skb, __u32 offset, __u32 end,
						   const struct hw_endpoint *endpoint)
{
	struct {
		__u8 type;
		__u8 len_8bytes;
		__u8 mac[6];
	} option;

	for (int i = 0; i < HW_ND_OPTIONS; i++) {
		if (offset == end)
			return true;
		if (offset + sizeof(option) > end || bpf_skb_load_bytes(skb, offset, &option, sizeof(option)))
			return false;
		if (!option.len_8bytes)
			return false;
		if ((option.type == 1 || option.type == 2) && !mac_equal(option.mac, endpoint->mac))
			return false;
		offset += (__u32)option.len_8bytes * 8;
	}
	return offset == end;
}

__noinline int check_nd(struct __sk_buff *skb, struct hw_packet *p, struct hw_endpoint *endpoint)
{
	__u8 target[16] __attribute__((aligned(8)));
	const __u8 *source;
	bool unspecified;
	__u32 end;

	if (!p || !endpoint)
		return HW_REASON_INTERNAL;
	end = p->l4_offset + p->l4_len_bytes;
	source = packet_source(p);
	unspecified = address_is_zero(source);

	/* RFC 4861 section 6.1 and 7.1: hop limit 255 proves that no router passed it on */
	if (p->hop_limit != 255 || p->icmp_code)
		return HW_REASON_ND_SPOOF;
	if (p->port == HW_ND_ROUTER_ADVERTISEMENT || p->port == HW_ND_REDIRECT) {
		if (p->direction == HW_EGRESS)
			return HW_REASON_RA_SPOOF;
		/* RFC 4861, section 6.1.2: only from the link, and with its fixed part */
		if (p->port == HW_ND_REDIRECT || source[0] != 0xfe || (source[1] & 0xc0) != 0x80)
			return HW_REASON_RA_SPOOF;
		return p->l4_len_bytes < HW_ND_ROUTER_ADVERTISEMENT_LEN ? HW_REASON_L4_HEADER : HW_REASON_NONE;
	}
	if (p->port == HW_ND_ROUTER_SOLICITATION) {
		if (p->direction == HW_INGRESS)
			return HW_REASON_MULTICAST;
		if (!unspecified && !own_address(p, source, 6))
			return HW_REASON_ND_SPOOF;
		return link_layer_options_own(skb, p->l4_offset + 8, end, endpoint) ? HW_REASON_NONE
										    : HW_REASON_ND_SPOOF;
	}
	if (p->l4_len_bytes < 24 || bpf_skb_load_bytes(skb, p->l4_offset + 8, target, sizeof(target)))
		return HW_REASON_L4_HEADER;
	if (p->direction == HW_INGRESS) {
		/* Nobody else may announce, or come from, the endpoint's own address. */
		if (p->port == HW_ND_NEIGHBOUR_ADVERTISEMENT && own_address(p, target, 6))
			return HW_REASON_ND_SPOOF;
		return own_address(p, source, 6) ? HW_REASON_ND_SPOOF : HW_REASON_NONE;
	}
	if (p->port == HW_ND_NEIGHBOUR_SOLICITATION && unspecified) {
		/* Duplicate address detection (RFC 4862): for its own address only */
		if (!own_address(p, target, 6))
			return HW_REASON_ND_SPOOF;
	} else if (unspecified || !own_address(p, source, 6)) {
		return HW_REASON_ND_SPOOF;
	}
	if (p->port == HW_ND_NEIGHBOUR_ADVERTISEMENT && !own_address(p, target, 6))
		return HW_REASON_ND_SPOOF;
	return link_layer_options_own(skb, p->l4_offset + 24, end, endpoint) ? HW_REASON_NONE : HW_REASON_ND_SPOOF;
}

#endif
