/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * ip.h - IPv4 (RFC 791) and IPv6 (RFC 8200) down to the transport header.
 *
 * Strict where strictness costs nobody: IPv4 options and IPv6 routing headers steer packets past the policy, and are
 * denied with a reason of their own.
 */
#ifndef HW_IP_H
#define HW_IP_H

#include <linux/ip.h>
#include <linux/ipv6.h>

#include "packet.h"

#define HW_IPV4_MORE_FRAGMENTS 0x2000
#define HW_IPV4_FRAGMENT_OFFSET 0x1fff
/* Extension headers walked before a packet is denied. */
#define HW_IPV6_EXTENSIONS 4

enum hw_ipv6_header {
	HW_IPV6_HOP_BY_HOP = 0,
	HW_IPV6_ROUTING = 43,
	HW_IPV6_FRAGMENT = 44,
	HW_IPV6_NONE = 59,
	HW_IPV6_DESTINATION = 60,
};

/* `l4_len_bytes` is what the fragment carries, `before` how much more of the datagram counts as its length. */
static __always_inline enum hw_reason note_fragment(struct hw_packet *p, __u32 id, __u32 offset, bool more,
						    __u32 before)
{
	/* All but the last are cut at multiples of eight, and the whole is no longer than a length can say. */
	if (!p->l4_len_bytes || (more && p->l4_len_bytes % 8) || offset + p->l4_len_bytes + before > 65535)
		return HW_REASON_FRAGMENT;
	if (!offset) {
		p->special |= HW_SPECIAL_FIRST_FRAGMENT;
		return HW_REASON_NONE;
	}
	p->special |= HW_SPECIAL_LATER_FRAGMENT;
	p->kind = HW_L4_FRAGMENT;
	p->fragment_id = id;
	p->fragment_offset = offset;
	p->more_fragments = more;
	return HW_REASON_NONE;
}

static __always_inline enum hw_reason parse_ipv4(struct hw_packet *p, void *data, void *data_end)
{
	struct iphdr *ip = data + HW_ETH_LEN;
	__u32 total;

	if ((void *)(ip + 1) > data_end)
		return HW_REASON_TRUNCATED;
	if (ip->version != 4 || ip->ihl < 5)
		return HW_REASON_IP_HEADER;
	if (ip->ihl > 5)
		return HW_REASON_IP_OPTION;
	total = bpf_ntohs(ip->tot_len);
	if (total < HW_IPV4_LEN)
		return HW_REASON_IP_HEADER;
	if (total > p->len_bytes - HW_ETH_LEN)
		return HW_REASON_TRUNCATED;
	p->family = 4;
	p->key.protocol = ip->protocol;
	p->hop_limit = ip->ttl;
	address_from_ipv4(packet_source(p), ip->saddr);
	address_from_ipv4(packet_destination(p), ip->daddr);
	p->l4_offset = HW_ETH_LEN + HW_IPV4_LEN;
	p->l4_len_bytes = total - HW_IPV4_LEN;
	if (ip->frag_off & bpf_htons(HW_IPV4_MORE_FRAGMENTS | HW_IPV4_FRAGMENT_OFFSET))
		return note_fragment(p, bpf_ntohs(ip->id), (bpf_ntohs(ip->frag_off) & HW_IPV4_FRAGMENT_OFFSET) * 8,
				     ip->frag_off & bpf_htons(HW_IPV4_MORE_FRAGMENTS), HW_IPV4_LEN);
	return HW_REASON_NONE;
}

#define HW_IPV6_MORE_FRAGMENTS 1
/* What fragments of IPv6 begin with (RFC 8200, section 4.5). */
struct hw_fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 offset; /* in bytes, as the unit is eight, and below it two bits and HW_IPV6_MORE_FRAGMENTS */
	__be32 id;
};

/* One that is whole all the same is as good as none (RFC 6946); a second one is nobody's. */
static __always_inline enum hw_reason parse_fragment_header(struct __sk_buff *skb, struct hw_packet *p)
{
	struct hw_fragment_header header;
	__u32 offset;

	if (p->l4_len_bytes < sizeof(header) || bpf_skb_load_bytes(skb, p->l4_offset, &header, sizeof(header)))
		return HW_REASON_TRUNCATED;
	p->key.protocol = header.next;
	p->l4_offset += sizeof(header);
	p->l4_len_bytes -= sizeof(header);
	if (!(header.offset & bpf_htons(~6u & 0xffff)))
		return HW_REASON_NONE;
	offset = bpf_ntohs(header.offset);
	/* Headers before the fragment header count in the length of the whole too. */
	return note_fragment(p, bpf_ntohl(header.id), offset & ~7u, offset & HW_IPV6_MORE_FRAGMENTS,
			     p->l4_offset - sizeof(header) - HW_ETH_LEN - HW_IPV6_LEN);
}

__noinline int walk_extensions(struct __sk_buff *skb, struct hw_packet *p)
{
	struct {
		__u8 next;
		__u8 len_8bytes;
	} header;
	__u32 fragmented = 0;

	if (!p)
		return HW_REASON_INTERNAL;
	/* Once more than there may be: behind the last of them stands something else. */
	for (int i = 0; i <= HW_IPV6_EXTENSIONS; i++) {
		__u8 type = p->key.protocol;
		__u32 len;

		if (type == HW_IPV6_FRAGMENT) {
			enum hw_reason reason = fragmented++ ? HW_REASON_FRAGMENT : parse_fragment_header(skb, p);

			if (reason || p->kind == HW_L4_FRAGMENT)
				return reason;
			continue;
		}
		if (type == HW_IPV6_ROUTING || (type == HW_IPV6_HOP_BY_HOP && i))
			return HW_REASON_EXTENSION_HEADER;
		if (type != HW_IPV6_HOP_BY_HOP && type != HW_IPV6_DESTINATION)
			return HW_REASON_NONE;
		if (p->l4_len_bytes < 8 || bpf_skb_load_bytes(skb, p->l4_offset, &header, sizeof(header)))
			return HW_REASON_TRUNCATED;
		len = ((__u32)header.len_8bytes + 1) * 8;
		if (len > p->l4_len_bytes)
			return HW_REASON_IP_HEADER;
		p->key.protocol = header.next;
		p->l4_offset += len;
		p->l4_len_bytes -= len;
	}
	return HW_REASON_EXTENSION_HEADER;
}

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == HW_IPV6_HOP_BY_HOP || protocol == HW_IPV6_ROUTING || protocol == HW_IPV6_FRAGMENT ||
	       protocol == HW_IPV6_DESTINATION;
}

static __always_inline enum hw_reason parse_ipv6(struct __sk_buff *skb, struct hw_packet *p, void *data, void *data_end)
{
	struct ipv6hdr *ip = data + HW_ETH_LEN;

	if ((void *)(ip + 1) > data_end)
		return HW_REASON_TRUNCATED;
	if (ip->version != 6)
		return HW_REASON_IP_HEADER;
	p->family = 6;
	p->key.protocol = ip->nexthdr;
	p->hop_limit = ip->hop_limit;
	address_copy(packet_source(p), &ip->saddr);
	address_copy(packet_destination(p), &ip->daddr);
	p->l4_offset = HW_ETH_LEN + HW_IPV6_LEN;
	p->l4_len_bytes = bpf_ntohs(ip->payload_len);
	if (p->l4_len_bytes > p->len_bytes - HW_ETH_LEN - HW_IPV6_LEN)
		return HW_REASON_TRUNCATED;
	if (is_extension(p->key.protocol))
		return walk_extensions(skb, p);
	return HW_REASON_NONE;
}

#endif
