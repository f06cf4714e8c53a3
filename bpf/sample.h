/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * sample.h - samples of an endpoint's packets, of those that pass and of those that are dropped.
 *
 * Each CPU counts its endpoint's packets down to the next one that is taken (skip.h); so the pool is exact, and what is
 * taken is independent of everything. Of a packet that is taken the first bytes are copied before its verdict, because
 * an answer is written over it; the verdict's way then leaves what it found in skb->cb, which is nobody else's while
 * the program runs; and the whole goes to a ring of its own, so that samples and events do not take each other's space.
 * No endpoint takes the others' space either: of each so many go there a second, and what is beyond is counted as lost.
 *
 * An endpoint that is not sampled pays one comparison, and one at its verdict.
 */
#ifndef HW_SAMPLE_H
#define HW_SAMPLE_H

#include <linux/pkt_cls.h>

#include "maps.h"
#include "packet.h"
#include "skip.h"

/* Of each endpoint on each CPU, sustained and at once: an eleventh of the ring's space a reading of the agent. */
#define HW_SAMPLE_INTERVAL_NS (1000000000ull / 4096)
#define HW_SAMPLE_BURST_NS (1024 * HW_SAMPLE_INTERVAL_NS)

/* Of skb->cb, in words. */
enum hw_note {
	HW_NOTE_TAKEN = 0, /* whether the packet is a sample; the others are there only if it is */
	HW_NOTE_NUMBER,	   /* of the rule */
	HW_NOTE_PEER,
	HW_NOTE_OUTCOME, /* verdict, reason, process; a byte each. 0: nothing was noted */
};

/* What becomes of the packet and why; the last note holds. */
static __always_inline void note_outcome(struct __sk_buff *skb, __u32 number, __u32 peer, __u8 verdict, __u8 reason,
					 __u8 process)
{
	if (!skb->cb[HW_NOTE_TAKEN])
		return;
	skb->cb[HW_NOTE_NUMBER] = number;
	skb->cb[HW_NOTE_PEER] = peer;
	skb->cb[HW_NOTE_OUTCOME] = verdict | reason << 8 | process << 16;
}

/* Of a packet of a flow that stands. */
static __always_inline void note_flow(struct __sk_buff *skb, const struct hw_flow *flow)
{
	if (skb->cb[HW_NOTE_TAKEN])
		note_outcome(skb, flow->number, flow->peer, flow->verdict,
			     flow->verdict == HW_VERDICT_WOULD_DENY ? HW_REASON_POLICY : HW_REASON_NONE, flow->process);
}

/* The countdown is over, or was for another rate. Whether this packet is taken: then its first bytes are kept. */
__noinline int take_sample(struct __sk_buff *skb, __u64 sampling)
{
	__u32 slot = constants.slot, zero = 0, len;
	struct hw_sampler *sampler = bpf_map_lookup_elem(&hw_samplers, &slot);
	struct hw_sample *sample = bpf_map_lookup_elem(&new_sample, &zero);

	if (!sampler || !sample)
		return 0;
	if (sampler->sampling != sampling) {
		/* What is left of a geometric distance is as long as a new one: nothing of the old rate is biased. */
		sampler->sampling = sampling;
		sampler->skip = draw_skip(sampling, bpf_get_prandom_u32());
		if (--sampler->skip)
			return 0;
	}
	sampler->skip = draw_skip(sampling, bpf_get_prandom_u32());
	sampler->taken++;
	__builtin_memset(sample, 0, sizeof(*sample));
	sample->time_ns = bpf_ktime_get_ns();
	sample->slot = slot;
	sample->cpu = bpf_get_smp_processor_id();
	sample->pool = sampler->pool;
	sample->lost = sampler->lost;
	sample->rate = sampling >> HW_SAMPLING_RATE_SHIFT;
	sample->frame_len_bytes = skb->len;
	sample->segments = skb->gso_segs;
	len = skb->len < HW_SAMPLE_HEADER ? skb->len : HW_SAMPLE_HEADER;
	/* Linux 6.1 learns nothing from a comparison with zero: the length less one is masked, and is no less than one.
	 */
	_Static_assert(!(HW_SAMPLE_HEADER & (HW_SAMPLE_HEADER - 1)), "a mask");
	len = (len - 1) & (HW_SAMPLE_HEADER - 1);
	asm volatile("" : "+r"(len));
	len += 1;
	if (skb->len && !bpf_skb_load_bytes(skb, 0, sample->header, len))
		sample->header_len_bytes = len;
	skb->cb[HW_NOTE_NUMBER] = 0;
	skb->cb[HW_NOTE_PEER] = 0;
	skb->cb[HW_NOTE_OUTCOME] = 0;
	return 1;
}

/* Before the verdict of each packet. */
static __always_inline void begin_sample(struct __sk_buff *skb, const struct hw_endpoint *endpoint)
{
	__u64 sampling = *(volatile __u64 *)&endpoint->sampling;
	__u32 slot = constants.slot;
	struct hw_sampler *sampler;

	skb->cb[HW_NOTE_TAKEN] = 0;
	if (!sampling)
		return;
	sampler = bpf_map_lookup_elem(&hw_samplers, &slot);
	if (!sampler)
		return;
	sampler->pool++;
	if (sampler->sampling == sampling && --sampler->skip)
		return;
	skb->cb[HW_NOTE_TAKEN] = take_sample(skb, sampling);
}

/* Generic cell rate algorithm, see take_token(); each CPU has its own bucket, so nothing races. */
static __always_inline bool take_turn(struct hw_sampler *sampler)
{
	__u64 now_ns = ticks(), arrival = sampler->arrival_ns > now_ns ? sampler->arrival_ns : now_ns;

	if (arrival + HW_SAMPLE_INTERVAL_NS > now_ns + HW_SAMPLE_BURST_NS)
		return false;
	sampler->arrival_ns = arrival + HW_SAMPLE_INTERVAL_NS;
	return true;
}

/* Sends the sample. `action` is what the program returns for the packet. */
__noinline int send_sample(struct __sk_buff *skb, int action, __u32 direction)
{
	__u32 slot = constants.slot, zero = 0, outcome = skb->cb[HW_NOTE_OUTCOME];
	struct hw_sample *sample = bpf_map_lookup_elem(&new_sample, &zero);
	struct hw_sampler *sampler = bpf_map_lookup_elem(&hw_samplers, &slot);

	if (!sample || !sampler)
		return 0;
	sample->number = skb->cb[HW_NOTE_NUMBER];
	sample->peer = skb->cb[HW_NOTE_PEER];
	sample->direction = direction;
	sample->verdict = outcome;
	sample->reason = outcome >> 8;
	sample->process = outcome >> 16;
	if (!outcome) {
		/* What is checked and never ruled says nothing on its way. */
		sample->verdict = action == TC_ACT_OK ? HW_VERDICT_ALLOW : HW_VERDICT_DENY;
		sample->reason = action == TC_ACT_OK ? HW_REASON_NONE : HW_REASON_INTERNAL;
	}
	/* The agent polls, as it does for events. */
	if (!take_turn(sampler) || bpf_ringbuf_output(&hw_samples, sample, sizeof(*sample), BPF_RB_NO_WAKEUP))
		sampler->lost++;
	return 0;
}

/* Behind the verdict of each packet. */
static __always_inline int end_sample(struct __sk_buff *skb, int action, const enum hw_direction direction)
{
	if (skb->cb[HW_NOTE_TAKEN])
		send_sample(skb, action, direction);
	return action;
}

#endif
