/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* tcp_options.h - the one option of a SYN without which later windows cannot be read (RFC 7323, section 2.2). */
#ifndef HW_TCP_OPTIONS_H
#define HW_TCP_OPTIONS_H

#include "packet.h"
#include "transport.h"

#define HW_TCP_OPTION_END 0
#define HW_TCP_OPTION_NONE 1
#define HW_TCP_OPTION_SCALE 3
#define HW_TCP_OPTIONS_LEN 40u
#define HW_TCP_SCALE_MAX 14 /* RFC 7323, section 2.3 */
#define HW_NO_SCALE (-1)

/* In the order of RFC 7323, appendix A, which common stacks keep: MSS, SACK permitted, timestamps, none, scale. */
struct hw_common_options {
	__be16 mss_head;
	__be16 mss;
	__be32 sack_and_timestamps_heads;
	__be32 timestamps[2];
	__be32 scale;
};

static __always_inline int scale_in_common_options(struct __sk_buff *skb, __u32 offset)
{
	struct hw_common_options options;
	__u32 scale;

	if (bpf_skb_load_bytes(skb, offset, &options, sizeof(options)))
		return HW_NO_SCALE;
	scale = bpf_ntohl(options.scale);
	if (options.mss_head != bpf_htons(0x0204) || options.sack_and_timestamps_heads != bpf_htonl(0x0402080a) ||
	    scale >> 8 != 0x010303)
		return HW_NO_SCALE;
	return scale & 0xff;
}

static __always_inline int scale_in_any_options(struct __sk_buff *skb, __u32 offset, __u32 len)
{
	/* Zeroed, and a power of two: Linux 6.1 follows an index into the stack only within what was written. */
	__u8 options[64] = {};
	__u32 at = 0;

	if (!len || len > HW_TCP_OPTIONS_LEN)
		return HW_NO_SCALE;
	/* The same number, as Linux 6.1 can see that it is neither 0 nor beyond the buffer. */
	asm volatile("" : "+r"(len));
	len = ((len - 1) & 63) + 1;
	if (bpf_skb_load_bytes(skb, offset, options, len))
		return HW_NO_SCALE;
	for (__u32 i = 0; i < HW_TCP_OPTIONS_LEN; i++) {
		__u32 kind = options[at & 63], option_len = options[(at + 1) & 63], one_byte;

		if (kind == HW_TCP_OPTION_END)
			return HW_NO_SCALE;
		if (kind == HW_TCP_OPTION_SCALE && option_len == 3 && at + 2 < len)
			return options[(at + 2) & 63];
		/* 1 for the option that is a byte without a length; no branch, or the verifier follows each sequence of
		 * them. */
		one_byte = ((kind ^ HW_TCP_OPTION_NONE) - 1) >> 31;
		asm volatile("" : "+r"(one_byte));
		at += one_byte | (option_len & (one_byte - 1));
		if (at + 2 >= len)
			return HW_NO_SCALE;
	}
	return HW_NO_SCALE;
}

/* The window scale that a SYN offers, or HW_NO_SCALE. Beyond the largest it counts as that one. */
__noinline int offered_scale(struct __sk_buff *skb, const struct hw_packet *p)
{
	int scale = HW_NO_SCALE;
	__u32 offset;

	if (!p || !p->tcp_options_len)
		return HW_NO_SCALE;
	offset = p->l4_offset + HW_TCP_LEN;
	if (p->tcp_options_len == sizeof(struct hw_common_options))
		scale = scale_in_common_options(skb, offset);
	if (scale == HW_NO_SCALE)
		scale = scale_in_any_options(skb, offset, p->tcp_options_len);
	return scale > HW_TCP_SCALE_MAX ? HW_TCP_SCALE_MAX : scale;
}

#endif
