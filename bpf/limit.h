/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * limit.h - token buckets: what an allowance lets through of bits, packets and openings a second (`limit=` of a rule),
 * and what one endpoint may send and be sent at most, whatever its rules.
 *
 * A bucket is the one word of the generic cell rate algorithm (ITU-T I.371): when the next unit would be due if all
 * came at the rate. A bucket whose moment has passed says the same as none, so an endpoint's few places serve any
 * number of rules: who needs one takes over what has run dry. No other endpoint's are ever touched.
 */
#ifndef HW_LIMIT_H
#define HW_LIMIT_H

#include "maps.h"
#include "packet.h"
#include "policy.h"
#include "transport.h"

/* The number of no rule: the endpoint's own buckets. */
#define HW_LIMIT_OWN 0
/* Other CPUs' packets of one bucket that may come between reading the word and writing it. */
#define HW_BUCKET_TRIES 8

/* What one packet takes of each unit. Segments of a super-packet count as they will be on the wire. */
static __always_inline __u64 amount_of(struct __sk_buff *skb, const struct hw_packet *p, __u32 unit)
{
	__u32 segments = skb->gso_segs > 1 ? skb->gso_segs : 1;

	if (unit != HW_UNIT_BYTES)
		return unit == HW_UNIT_PACKETS ? segments : 1;
	return p->len_bytes + (__u64)(segments - 1) * (p->l4_offset + transport_header_len(p->key.protocol));
}

static __always_inline __u64 bucket_tag(__u32 number, __u32 unit, __u32 direction)
{
	return (__u64)number << 8 | unit << 2 | (direction & 1) << 1 | 1;
}

/* The bucket of a rule, or NULL while all of the endpoint's places are others' and in use. */
static __always_inline struct hw_bucket *find_bucket(__u32 slot, __u64 tag, __u64 now_ns)
{
	__u32 home = (__u32)(tag * 0x9e3779b97f4a7c15ull >> 32);
	struct hw_bucket *dry = NULL;
	__u64 before = 0;

	for (__u32 i = 0; i < HW_BUCKETS_PER_ENDPOINT; i++) {
		__u32 index = slot * HW_BUCKETS_PER_ENDPOINT + (home + i) % HW_BUCKETS_PER_ENDPOINT;
		struct hw_bucket *bucket = bpf_map_lookup_elem(&hw_buckets, &index);
		__u64 held;

		if (!bucket)
			return NULL;
		held = *(volatile __u64 *)&bucket->tag;
		if (held == tag)
			return bucket;
		if (!dry && *(volatile __u64 *)&bucket->arrival_ns <= now_ns) {
			dry = bucket;
			before = held;
		}
		/* Places are taken from the home on, so behind one that never was used there is none of this rule. */
		if (!held)
			break;
	}
	if (!dry || __sync_val_compare_and_swap(&dry->tag, before, tag) != before)
		return NULL;
	return dry;
}

static __always_inline bool take_from(__u64 *arrival_ns, const struct hw_rate *rate, __u64 amount, __u64 now_ns)
{
	__u64 cost_ns = amount * rate->cost >> HW_RATE_SHIFT;

	for (int i = 0; i < HW_BUCKET_TRIES; i++) {
		__u64 arrival = *(volatile __u64 *)arrival_ns;
		__u64 next = (arrival > now_ns ? arrival : now_ns) + cost_ns;

		if (next > now_ns + rate->burst_ns)
			return false;
		if (__sync_val_compare_and_swap(arrival_ns, arrival, next) == arrival)
			return true;
	}
	return false;
}

/* Not inlined: the search is a loop, and there are up to six buckets for one packet. */
__noinline int take(struct __sk_buff *skb, const struct hw_packet *p, const struct hw_rate *rate, __u32 number,
		    __u32 unit)
{
	__u64 now_ns = bpf_ktime_get_ns();
	struct hw_bucket *bucket;

	if (!p || !rate)
		return 0;
	bucket = find_bucket(p->key.slot, bucket_tag(number, unit, p->direction), now_ns);
	return bucket && take_from(&bucket->arrival_ns, rate, amount_of(skb, p, unit), now_ns);
}

/*
 * The allowance's limits at this end of the flow. Those of the opener's side bind where the opener is, those of the
 * other side where that is: each host counts for its own endpoint.
 */
static __always_inline bool within_limits(struct __sk_buff *skb, struct hw_packet *p, __u32 decision, __u32 opens)
{
	struct hw_limits *limits;
	__u32 key = decision & HW_DECISION_INDEX;

	limits = bpf_map_lookup_elem(&hw_limits, &key);
	if (!limits)
		return false;
	for (__u32 unit = 0; unit < HW_UNITS; unit++) {
		struct hw_limit *limit = &limits->at[p->opener == HW_EGRESS ? 0 : 1][unit];

		if (!limit->rate.cost || (unit == HW_UNIT_CONNECTIONS && !opens))
			continue;
		if (!take(skb, p, &limit->rate, limit->number, unit)) {
			p->limit = limit->number;
			return false;
		}
	}
	return true;
}

/*
 * Whether a packet that policy allows is more than may pass now; NONE if it is not. `opens`: whether it is the first of
 * its flow, or of a protocol that has none.
 */
__noinline int judge_rate(struct __sk_buff *skb, struct hw_packet *p, __u32 decision, __u32 opens)
{
	struct hw_endpoint *endpoint;
	__u32 slot;

	if (!p)
		return HW_REASON_INTERNAL;
	slot = p->key.slot;
	endpoint = bpf_map_lookup_elem(&hw_endpoints, &slot);
	if (!endpoint)
		return HW_REASON_INTERNAL;
	for (__u32 unit = 0; unit < HW_UNIT_CONNECTIONS; unit++) {
		if (endpoint->cap[unit].cost && !take(skb, p, &endpoint->cap[unit], HW_LIMIT_OWN, unit))
			return HW_REASON_RATE_CAP;
	}
	if (decision & HW_LIMITED && !within_limits(skb, p, decision, opens))
		return HW_REASON_RATE_LIMIT;
	return HW_REASON_NONE;
}

static __always_inline bool is_rated(const struct hw_packet *p, __u32 decision)
{
	return decision & HW_LIMITED || p->special & HW_SPECIAL_CAPPED;
}

/* Whether a packet of a flow with this decision is more than let through: one test for all that is rare. */
static __always_inline bool is_marked(const struct hw_packet *p, __u32 decision)
{
	return decision & (HW_LIMITED | HW_INSPECTED) || p->special & HW_SPECIAL_CAPPED;
}

#endif
