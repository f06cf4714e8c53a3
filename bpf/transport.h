/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* transport.h - TCP (RFC 9293), UDP (RFC 768), SCTP (RFC 9260), ESP (RFC 4303), ICMP (RFC 792) and ICMPv6 (RFC 4443)
 * headers. */
#ifndef HW_TRANSPORT_H
#define HW_TRANSPORT_H

#include <linux/tcp.h>
#include <linux/udp.h>

#include "packet.h"

enum hw_icmp_type {
	HW_ICMP_ECHO_REPLY = 0,
	HW_ICMP_UNREACHABLE = 3,
	HW_ICMP_SOURCE_QUENCH = 4,
	HW_ICMP_REDIRECT = 5,
	HW_ICMP_ECHO_REQUEST = 8,
	HW_ICMP_TIME_EXCEEDED = 11,
	HW_ICMP_PARAMETER_PROBLEM = 12,
};

#define HW_ICMP_CODE_TOO_BIG 4
#define HW_IPV4_MTU_MIN 68
#define HW_IPV6_MTU_MIN 1280

enum hw_icmpv6_type {
	HW_ICMPV6_TOO_BIG = 2,
	HW_ICMPV6_ECHO_REQUEST = 128,
	HW_ICMPV6_ECHO_REPLY = 129,
};

#define HW_TCP_FIN 0x01
#define HW_TCP_SYN 0x02
#define HW_TCP_RST 0x04
#define HW_TCP_ACK 0x10
#define HW_TCP_LEN 20u
#define HW_UDP_LEN 8u
#define HW_ICMP_LEN 8u
#define HW_SCTP_LEN 12u
#define HW_ESP_LEN 8u

/* The flag combinations that RFC 9293 gives a meaning, by FIN, SYN, RST and ACK packed into four bits. */
static __always_inline bool tcp_flags_valid(__u8 flags)
{
	const __u32 valid = 1u << 0x2 /* SYN */ | 1u << 0xa /* SYN ACK */ | 1u << 0x4 /* RST */ |
			    1u << 0xc /* RST ACK */ | 1u << 0x9 /* FIN ACK */ | 1u << 0x8 /* ACK */;

	return valid >> ((flags & 0x7) | (flags & HW_TCP_ACK) >> 1) & 1;
}

static __always_inline enum hw_reason parse_tcp(struct hw_packet *p, const __u8 *header)
{
	const struct tcphdr *tcp = (const struct tcphdr *)header;
	__u32 header_len = tcp->doff * 4u;

	if (header_len < HW_TCP_LEN || header_len > p->l4_len_bytes)
		return HW_REASON_L4_HEADER;
	p->tcp_flags = header[13];
	if (p->special & HW_SPECIAL_FIRST_FRAGMENT) {
		/* No stack sends so much with them that it has to be cut. */
		if (p->tcp_flags & (HW_TCP_SYN | HW_TCP_RST))
			return HW_REASON_FRAGMENT;
		/* It is behind the last byte, and so with the last fragment. */
		p->tcp_flags &= ~HW_TCP_FIN;
	}
	p->tcp_options_len = header_len - HW_TCP_LEN;
	p->tcp_window = bpf_ntohs(tcp->window);
	p->seq = bpf_ntohl(tcp->seq);
	p->ack = bpf_ntohl(tcp->ack_seq);
	p->seq_end = p->seq + p->l4_len_bytes - header_len + (p->tcp_flags & HW_TCP_FIN) +
		     ((p->tcp_flags & HW_TCP_SYN) >> 1);
	packet_set_ports(p, header);
	p->port = bpf_ntohs(tcp->dest);
	p->kind = HW_L4_TCP;
	if (!tcp_flags_valid(p->tcp_flags))
		return HW_REASON_TCP_FLAGS;
	p->may_open = (p->tcp_flags & (HW_TCP_SYN | HW_TCP_ACK)) == HW_TCP_SYN;
	return HW_REASON_NONE;
}

static __always_inline enum hw_reason parse_udp(struct hw_packet *p, const __u8 *header)
{
	const struct udphdr *udp = (const struct udphdr *)header;
	__u32 len = bpf_ntohs(udp->len);

	if (len < HW_UDP_LEN || (len > p->l4_len_bytes && !(p->special & HW_SPECIAL_FIRST_FRAGMENT)))
		return HW_REASON_L4_HEADER;
	packet_set_ports(p, header);
	p->port = bpf_ntohs(udp->dest);
	p->kind = HW_L4_DATAGRAM;
	p->may_open = 1;
	return HW_REASON_NONE;
}

static __always_inline enum hw_reason parse_icmp(struct hw_packet *p, const __u8 *header)
{
	__u8 request = p->family == 4 ? HW_ICMP_ECHO_REQUEST : HW_ICMPV6_ECHO_REQUEST;
	__u8 reply = p->family == 4 ? HW_ICMP_ECHO_REPLY : HW_ICMPV6_ECHO_REPLY;
	__u8 type = header[0];

	p->port = type;
	p->icmp_code = header[1];
	if (type == request || type == reply) {
		p->kind = HW_L4_ECHO;
		p->may_open = type == request;
		p->opener = type == request ? p->direction : !p->direction;
		p->key.local_port = *(const __be16 *)(header + 4);
		/* Two ends may ping each other under one identifier: who asked is part of the tuple. */
		p->key.remote_port = 1 + p->opener;
		return HW_REASON_NONE;
	}
	if (p->family == 4 &&
	    (type == HW_ICMP_UNREACHABLE || type == HW_ICMP_TIME_EXCEEDED || type == HW_ICMP_PARAMETER_PROBLEM ||
	     type == HW_ICMP_SOURCE_QUENCH || type == HW_ICMP_REDIRECT))
		p->kind = HW_L4_ICMP_ERROR;
	else if (p->family == 6 && type < 128)
		p->kind = HW_L4_ICMP_ERROR;
	else if (p->family == 6 && type >= 133 && type <= 137)
		p->kind = HW_L4_CHECKED;
	return HW_REASON_NONE;
}

/*
 * A security association is one way: its SPI is its receiver's choice, and which SPI goes back only IKE knows. So ESP
 * has a flow for each SPI, no packet of the other direction belongs to it, and each direction is opened by its own
 * rule.
 */
static __always_inline enum hw_reason parse_esp(struct hw_packet *p, const __u8 *header)
{
	if (!*(const __u32 *)header)
		return HW_REASON_L4_HEADER; /* never on the wire (RFC 4303, section 2.1) */
	packet_set_ports(p, header);
	p->kind = HW_L4_ESP;
	p->may_open = 1;
	return HW_REASON_NONE;
}

/* The shortest header of a protocol, in bytes; 0 for one whose header is not looked at. */
static __always_inline __u32 transport_header_len(__u8 protocol)
{
	switch (protocol) {
	case HW_PROTOCOL_TCP:
		return HW_TCP_LEN;
	case HW_PROTOCOL_UDP:
		return HW_UDP_LEN;
	case HW_PROTOCOL_ICMP:
	case HW_PROTOCOL_ICMPV6:
		return HW_ICMP_LEN;
	case HW_PROTOCOL_SCTP:
		return HW_SCTP_LEN;
	case HW_PROTOCOL_ESP:
		return HW_ESP_LEN;
	default:
		return 0;
	}
}

static __always_inline enum hw_reason parse_header(struct hw_packet *p, const __u8 *header)
{
	switch (p->key.protocol) {
	case HW_PROTOCOL_TCP:
		return parse_tcp(p, header);
	case HW_PROTOCOL_UDP:
		return parse_udp(p, header);
	case HW_PROTOCOL_SCTP:
		packet_set_ports(p, header);
		p->port = bpf_ntohs(*(const __be16 *)(header + 2));
		p->sctp_tag = *(const __u32 *)(header + 4);
		p->kind = HW_L4_SCTP;
		return HW_REASON_NONE;
	case HW_PROTOCOL_ESP:
		return parse_esp(p, header);
	default:
		return parse_icmp(p, header);
	}
}

/* ICMP belongs to IPv4 and ICMPv6 to IPv6; the other way round means nothing that a peer's stack would agree on. */
static __always_inline enum hw_reason parse_transport(struct __sk_buff *skb, struct hw_packet *p, void *data,
						      void *data_end)
{
	__u32 len = transport_header_len(p->key.protocol);
	__u8 copy[HW_TCP_LEN] __attribute__((aligned(4)));

	if ((p->key.protocol == HW_PROTOCOL_ICMP && p->family != 4) ||
	    (p->key.protocol == HW_PROTOCOL_ICMPV6 && p->family != 6))
		return HW_REASON_L4_HEADER;
	if (!len)
		return HW_REASON_NONE;
	if (p->l4_len_bytes < len)
		return HW_REASON_L4_HEADER;
	if (p->family == 4 && data + HW_ETH_LEN + HW_IPV4_LEN + HW_TCP_LEN <= data_end)
		return parse_header(p, data + HW_ETH_LEN + HW_IPV4_LEN);
	if (p->family == 6 && p->l4_offset == HW_ETH_LEN + HW_IPV6_LEN &&
	    data + HW_ETH_LEN + HW_IPV6_LEN + HW_TCP_LEN <= data_end)
		return parse_header(p, data + HW_ETH_LEN + HW_IPV6_LEN);
	/* Short datagrams, or a header behind extension headers. */
	if (len == HW_TCP_LEN	 ? bpf_skb_load_bytes(skb, p->l4_offset, copy, HW_TCP_LEN)
	    : len == HW_SCTP_LEN ? bpf_skb_load_bytes(skb, p->l4_offset, copy, HW_SCTP_LEN)
				 : bpf_skb_load_bytes(skb, p->l4_offset, copy, HW_UDP_LEN))
		return HW_REASON_TRUNCATED;
	return parse_header(p, copy);
}

#endif
