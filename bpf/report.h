/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * report.h - counters and events. Counters are exact; events pass a token bucket of the endpoint's own before they take
 * ring space, and what the bucket or the ring refuses is counted in hw_usage.events_lost. Denials for which the bucket
 * has no token are told by rule, one event a second: a scan cannot hide what another rule denies meanwhile.
 */
#ifndef HW_REPORT_H
#define HW_REPORT_H

#include "maps.h"
#include "packet.h"
#include "policy.h"

#define HW_DENIAL_INTERVAL_NS 1000000000ull

static __always_inline void count_decision(__u32 decision, __u32 bytes)
{
	__u32 index = decision & HW_DECISION_INDEX;
	struct hw_count *count = bpf_map_lookup_elem(&hw_counts, &index);

	/* Per CPU, and never entered twice on one: both hooks run with bottom halves off. */
	if (count) {
		count->packets++;
		count->bytes += bytes;
	}
}

static __always_inline void count_reason(__u32 slot, __u8 reason)
{
	__u32 index = slot * HW_REASON_STRIDE + (reason & (HW_REASON_STRIDE - 1));
	__u64 *packets = bpf_map_lookup_elem(&hw_reasons, &index);

	if (packets)
		(*packets)++;
}

/* Generic cell rate algorithm (ITU-T I.371): one word of state, advanced by compare-and-swap. */
static __always_inline bool take_token(__u64 *arrival_ns, const struct hw_endpoint *endpoint, __u64 now_ns)
{
	__u64 arrival = *(volatile __u64 *)arrival_ns;
	__u64 next = (arrival > now_ns ? arrival : now_ns) + endpoint->event_interval_ns;

	if (next > now_ns + endpoint->event_burst_ns)
		return false;
	/* Losing the race costs one event of a flood; it is counted as lost. */
	return __sync_val_compare_and_swap(arrival_ns, arrival, next) == arrival;
}

static __always_inline void count_lost_event(struct hw_usage *usage)
{
	__sync_fetch_and_add(&usage->events_lost, 1);
}

static __always_inline struct hw_event *reserve_space(struct hw_usage *usage)
{
	struct hw_event *event = bpf_ringbuf_reserve(&hw_events, sizeof(*event), 0);

	if (!event)
		__sync_fetch_and_add(&usage->events_unplaced, 1);
	return event;
}

/* Ring space for an event of the endpoint if its bucket has a token, or NULL; the caller fills and submits it. */
static __always_inline struct hw_event *take_event(__u32 slot, struct hw_usage *usage)
{
	struct hw_endpoint *endpoint = bpf_map_lookup_elem(&hw_endpoints, &slot);

	if (!endpoint || !take_token(&usage->event_arrival_ns, endpoint, ticks()))
		return NULL;
	return reserve_space(usage);
}

/* The same for an event that nobody else will tell of. */
static __always_inline struct hw_event *reserve_event(__u32 slot)
{
	struct hw_usage *usage = bpf_map_lookup_elem(&hw_usage, &slot);
	struct hw_event *event;

	if (!usage)
		return NULL;
	event = take_event(slot, usage);
	if (!event)
		count_lost_event(usage);
	return event;
}

static __always_inline void submit_event(struct hw_event *event)
{
	event->time_ns = bpf_ktime_get_ns();
	event->ticks_ns = ticks();
	/* The agent polls: a wake-up per event would let a flood spend the host's time. */
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

/* What waits for its event, to the ring. */
static __always_inline void send_waiting(struct hw_denial *denial, struct hw_event *event, __u64 now_ns)
{
	__builtin_memcpy(event, &denial->event, sizeof(*event));
	submit_event(event);
	denial->event.packets = 0;
	denial->event.bytes = 0;
	denial->reported_ns = now_ns;
}

/* The same without a token: only where the number of places and the interval are the bound. */
static __always_inline bool send_by_rule(struct hw_denial *denial, __u64 now_ns)
{
	struct hw_event *event = bpf_ringbuf_reserve(&hw_events, sizeof(*event), 0);

	if (!event)
		return false;
	send_waiting(denial, event, now_ns);
	return true;
}

/*
 * Takes a place, or not if another CPU holds it: the packet path never waits. The counters are exact all the same.
 */
static __always_inline bool take_denial(struct hw_denial *denial)
{
	return !__sync_val_compare_and_swap(&denial->busy, 0, 1);
}

static __always_inline void release_denial(struct hw_denial *denial)
{
	*(volatile __u32 *)&denial->busy = 0;
}

static __always_inline bool denial_is_due(const struct hw_denial *denial, __u64 now_ns)
{
	return !denial->reported_ns || now_ns - denial->reported_ns >= HW_DENIAL_INTERVAL_NS;
}

/* The endpoint's direction, reason and rule. */
static __always_inline __u32 rule_tag(const struct hw_packet *p, const struct hw_answer *a)
{
	__u64 rule = (__u64)a->number << 32 | a->reason << 1 | (p->direction & 1);

	return (__u32)(rule * 0x9e3779b97f4a7c15ull >> 32) | 1;
}

/*
 * The rule, and the peer and destination port.
 *
 * Multiplicative hashing (Knuth, TAOCP 6.4) by 2^64 / golden ratio and another odd constant, side by side. A product's
 * upper half depends on all bits below it: neighbours among the addresses get places of their own.
 */
static __always_inline __u32 denial_tag(const struct hw_packet *p, const struct hw_answer *a)
{
	const __u64 *remote = (const __u64 *)p->key.remote;
	__u64 rule = (__u64)a->number << 32 | (__u32)p->port << 16 | a->reason << 9 | p->key.protocol << 1 |
		     (p->direction & 1);

	rule = (rule ^ remote[0]) * 0x9e3779b97f4a7c15ull;
	rule ^= remote[1] * 0xc2b2ae3d27d4eb4full;
	return (__u32)((rule ^ rule >> 32) * 0x9e3779b97f4a7c15ull >> 32) | 1;
}

static __always_inline __u8 verdict_of_reason(__u8 reason)
{
	switch (reason) {
	case HW_REASON_TRUNCATED:
	case HW_REASON_ARP_HEADER:
	case HW_REASON_IP_HEADER:
	case HW_REASON_FRAGMENT:
	case HW_REASON_FRAGMENT_ORPHAN:
	case HW_REASON_FRAGMENT_OVERLAP:
	case HW_REASON_L4_HEADER:
	case HW_REASON_TCP_FLAGS:
	case HW_REASON_TCP_STATE:
	case HW_REASON_TCP_WINDOW:
	case HW_REASON_SCTP_TAG:
	case HW_REASON_SCTP_STATE:
	case HW_REASON_NO_FLOW:
	case HW_REASON_ICMP_UNRELATED:
	case HW_REASON_ICMP_MTU:
		return HW_VERDICT_INVALID;
	default:
		return HW_VERDICT_DENY;
	}
}

static __always_inline void fill_event(struct hw_event *event, struct __sk_buff *skb, struct hw_packet *p,
				       const struct hw_answer *a)
{
	__builtin_memset(event, 0, sizeof(*event));
	event->revision = a->revision;
	event->packets = 1;
	event->bytes = p->len_bytes;
	event->slot = p->key.slot;
	event->number = a->number;
	event->peer = a->peer;
	event->identity = a->identity;
	event->kind = HW_EVENT_DENIED;
	event->verdict = a->verdict;
	event->reason = a->reason;
	event->direction = p->direction;
	event->protocol = p->key.protocol;
	event->opener = p->opener;
	event->ethertype = p->ethertype.wire;
	bpf_skb_load_bytes(skb, ETH_ALEN, event->source_mac, ETH_ALEN);
	if (p->kind == HW_L4_TCP || p->kind == HW_L4_DATAGRAM || p->kind == HW_L4_SCTP) {
		event->source_port = p->direction == HW_EGRESS ? p->key.local_port : p->key.remote_port;
		event->destination_port = p->direction == HW_EGRESS ? p->key.remote_port : p->key.local_port;
	} else {
		event->destination_port = bpf_htons(p->port);
	}
	address_copy(event->source, packet_source(p));
	address_copy(event->destination, packet_destination(p));
}

/* Where the bucket has no token: the rule's own place, whose event needs none and comes once a second. */
static __always_inline void report_by_rule(struct __sk_buff *skb, struct hw_packet *p, const struct hw_answer *a,
					   struct hw_usage *usage, __u64 now_ns)
{
	__u32 tag = rule_tag(p, a), index, slot = p->key.slot;
	struct hw_denial *denial;

	index = slot * HW_DENIALS_PER_ENDPOINT + HW_DENIALS_BY_PORT + (tag >> 1) % HW_DENIALS_BY_RULE;
	denial = bpf_map_lookup_elem(&hw_denials, &index);
	if (!denial)
		return;
	if (!take_denial(denial)) {
		count_lost_event(usage);
		return;
	}
	if (denial->tag == tag && denial->event.packets) {
		denial->event.packets++;
		denial->event.bytes += p->len_bytes;
	} else if (denial->tag == tag || denial_is_due(denial, now_ns)) {
		/* The first packet since the last event stands for those that follow. */
		if (denial->event.packets && !send_by_rule(denial, now_ns))
			count_lost_event(usage);
		fill_event(&denial->event, skb, p, a);
		denial->event.others = 1;
		denial->tag = tag;
	} else {
		count_lost_event(usage); /* two rules of one place within a second */
	}
	if (denial->tag == tag && denial_is_due(denial, now_ns)) {
		denial->event.revision = a->revision;
		send_by_rule(denial, now_ns);
	}
	release_denial(denial);
}

/* A denial of a kind that has no place yet, or whose event is due. `place` is its index into hw_denials. */
__noinline int report_due_denial(struct __sk_buff *skb, struct hw_packet *p, const struct hw_answer *a, __u32 place,
				 __u32 tag)
{
	__u64 now_ns = ticks();
	struct hw_denial *denial;
	struct hw_usage *usage;
	struct hw_event *event;
	__u32 slot;

	if (!p || !a)
		return 0;
	slot = p->key.slot;
	denial = bpf_map_lookup_elem(&hw_denials, &place);
	usage = bpf_map_lookup_elem(&hw_usage, &slot);
	if (!denial || !usage)
		return 0;
	if (!take_denial(denial)) {
		count_lost_event(usage);
		return 0;
	}
	event = take_event(slot, usage);
	if (!event) {
		if (denial->tag == tag)
			denial->reported_ns = now_ns;
		release_denial(denial);
		report_by_rule(skb, p, a, usage, now_ns);
		return 0;
	}
	if (denial->tag == tag) {
		denial->event.packets++;
		denial->event.bytes += p->len_bytes;
		denial->event.revision = a->revision;
	} else {
		if (denial->event.packets) {
			struct hw_event *before = take_event(slot, usage);

			if (before)
				send_waiting(denial, before, now_ns);
			else
				count_lost_event(usage);
		}
		fill_event(&denial->event, skb, p, a);
		denial->tag = tag;
	}
	send_waiting(denial, event, now_ns);
	release_denial(denial);
	return 0;
}

/* Counts and reports a packet that is denied, or would be. */
static __always_inline void report_denial(struct __sk_buff *skb, struct hw_packet *p, const struct hw_answer *a)
{
	__u32 tag = denial_tag(p, a), index, slot = p->key.slot;
	struct hw_denial *denial;

	count_reason(slot, a->reason);
	/* A switch floods such frames to every port: who sent one has reported it, here it is only counted. */
	if (p->direction == HW_INGRESS && (a->reason == HW_REASON_MULTICAST || a->reason == HW_REASON_NOT_ADDRESSED))
		return;
	index = slot * HW_DENIALS_PER_ENDPOINT + (tag >> 1) % HW_DENIALS_BY_PORT;
	denial = bpf_map_lookup_elem(&hw_denials, &index);
	if (!denial)
		return;
	if (denial->tag == tag && !denial_is_due(denial, ticks()) && take_denial(denial)) {
		/* Another CPU may have given the place away since it was looked at. */
		bool known = denial->tag == tag;

		if (known) {
			denial->event.packets++;
			denial->event.bytes += p->len_bytes;
			denial->event.revision = a->revision;
		}
		release_denial(denial);
		if (known)
			return;
	}
	report_due_denial(skb, p, a, index, tag);
}

#endif
