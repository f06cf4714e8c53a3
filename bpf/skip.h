/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * skip.h - how many packets pass until the next sample.
 *
 * To take each packet with probability p = 1/N, independently, is to take the first that comes after a number of
 * packets that is geometrically distributed (Phaal and Panchen, "Packet Sampling Basics", 2002: no pattern in the
 * traffic can keep step with it). For U uniform in (0, 1], 1 + floor(log2 U / log2(1 - p)) is: P(more than k) = P(U <=
 * (1 - p)^k).
 *
 * Programs have no floating point. -log2 U is taken from 32 random bits, by the place of the highest one and a
 * polynomial of degree six for what follows it, whose error is below 8e-6 everywhere and 7e-8 in the mean; 1/-log2(1 -
 * p) comes from userspace, which has logarithms. The mean distance is N within 0.001 %
 * (crates/hostward-datapath/src/sampling.rs, tests/netns/test_sampling_bias.py).
 */
#ifndef HW_SKIP_H
#define HW_SKIP_H

#include <linux/types.h>

#include "abi.h"

/* Of the fractions below. */
#define HW_LOG_BITS 30

/* log2(1 + f) for f in [0, 1), interpolated at Chebyshev's nodes so that 0 and 1 are exact. */
static __always_inline __u64 log2_of_mantissa(__u64 f)
{
	__s64 x = (__s64)f, sum = -27585783;

	sum = (sum * x >> HW_LOG_BITS) + 131955457;
	sum = (sum * x >> HW_LOG_BITS) - 302046434;
	sum = (sum * x >> HW_LOG_BITS) + 494641002;
	sum = (sum * x >> HW_LOG_BITS) - 772260434;
	sum = (sum * x >> HW_LOG_BITS) + 1549038015;
	return (__u64)(sum * x >> HW_LOG_BITS);
}

/* -log2((random + 1) / 2^32), with HW_LOG_BITS behind the point: from 0 to 32. */
static __always_inline __u64 negative_log2(__u32 random)
{
	__u64 x = (__u64)random + 1, place = 0, mantissa;

	/* The highest one of 33 bits. */
	for (__u32 step = 32; step; step >>= 1) {
		if (x >> (place + step))
			place += step;
	}
	mantissa = x << (32 - place) & 0xffffffff;
	return ((32 - place) << HW_LOG_BITS) - log2_of_mantissa(mantissa >> (32 - HW_LOG_BITS));
}

/* Packets until the next sample, it too. `sampling` is that of struct hw_endpoint. */
static __always_inline __u64 draw_skip(__u64 sampling, __u32 random)
{
	__u64 scale = sampling & ((1ull << HW_SAMPLING_RATE_SHIFT) - 1), log = negative_log2(random);
	__u64 whole = scale >> HW_SAMPLING_FRACTION_BITS, part = scale & ((1ull << HW_SAMPLING_FRACTION_BITS) - 1);

	/* In two products: one would not fit. */
	return 1 + ((log * whole + (log * part >> HW_SAMPLING_FRACTION_BITS)) >> HW_LOG_BITS);
}

#endif
