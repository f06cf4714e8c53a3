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

/* 1 if two numbers below 2^31 are the same. No branch: a verifier follows each way through every sequence of them. */
static __always_inline __u32 same(__u32 a, __u32 b)
{
	__u32 result = ((a ^ b) - 1) >> 31;

	asm volatile("" : "+r"(result));
	return result;
}

/*
 * Every byte is looked at, whether an option begins there or not, so that all places are constant and nothing branches:
 * a walk from option to option costs the verifier as much as all the rest of the program.
 */
static __always_inline int scale_in_any_options(struct __sk_buff *skb, __u32 offset, __u32 len)
{
	__u8 options[64] = {}; /* behind what there is, the end of all options */
	__u32 next = 0, scale = 0;

	if (!len || len > HW_TCP_OPTIONS_LEN)
		return HW_NO_SCALE;
	/* The same number, as Linux 6.1 can see that it is neither 0 nor beyond the buffer. */
	asm volatile("" : "+r"(len));
	len = ((len - 1) & 63) + 1;
	if (bpf_skb_load_bytes(skb, offset, options, len))
		return HW_NO_SCALE;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i + 2 < HW_TCP_OPTIONS_LEN; i++) {
		__u32 kind = options[i], option_len = options[i + 1];
		__u32 begins = same(next, i), one_byte = same(kind, HW_TCP_OPTION_NONE);
		__u32 found = begins & same(kind, HW_TCP_OPTION_SCALE) & same(option_len, 3);
		/* Behind what was looked for, and behind the end of all options, no other begins. */
		__u32 last = found | same(kind, HW_TCP_OPTION_END);
		__u32 following = i + (one_byte | (option_len & (one_byte - 1))) + last * HW_TCP_OPTIONS_LEN;

		scale |= -found & (options[i + 2] + 1u);
		next = (-begins & following) | ((begins - 1) & next);
	}
	return (int)scale - 1;
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
