/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* filter.h - one packet of one endpoint, from its first byte to its verdict. */
#ifndef HW_FILTER_H
#define HW_FILTER_H

#include <linux/pkt_cls.h>

#include "answer.h"
#include "arp.h"
#include "dhcp.h"
#include "flow.h"
#include "fragment.h"
#include "guard.h"
#include "inspect.h"
#include "ip.h"
#include "limit.h"
#include "nd.h"
#include "pickup.h"
#include "sample.h"

#define HW_EEXIST 17

/*
 * The slower ways of a packet are global functions, so that the verifier looks at each once and not once for every path
 * that leads there. Each way is one function all the same, with what it needs inlined: a return costs as much as a
 * small map's look-up where the kernel guards returns (retbleed, SRSO).
 */
static __always_inline bool names_its_rule(enum hw_reason reason)
{
	return reason == HW_REASON_RATE_LIMIT || reason == HW_REASON_SIGNATURE || reason == HW_REASON_UNINSPECTED;
}

static __always_inline void account_denial(struct __sk_buff *skb, struct hw_packet *p, struct hw_answer *a)
{
	if (a->decision)
		count_decision(a->decision, p->len_bytes);
	if (names_its_rule(a->reason))
		a->number = p->limit;
	else if (a->reason != HW_REASON_POLICY && a->reason != HW_REASON_UNKNOWN_PEER)
		a->number = 0;
	if (verdict_of_reason(a->reason) == HW_VERDICT_INVALID)
		a->verdict = HW_VERDICT_INVALID;
	note_outcome(skb, a->number, a->peer, a->verdict, a->reason, HW_PROCESS_UNKNOWN);
	watch_denial(p, a->reason);
	report_denial(skb, p, a);
}

/* A denial that consulted no rule still names the revision that was in force. */
__noinline int deny_for(struct __sk_buff *skb, struct hw_packet *p, __u8 reason)
{
	struct hw_answer a = {.reason = reason, .verdict = HW_VERDICT_DENY};
	struct hw_policy *policy;
	__u32 index;

	if (!p)
		return TC_ACT_SHOT;
	index = p->active.policy;
	policy = bpf_map_lookup_elem(&hw_policies, &index);
	if (policy && reason != HW_REASON_NO_REVISION) {
		a.revision = policy->revision;
		a.identity = policy->identity;
	}
	account_denial(skb, p, &a);
	return TC_ACT_SHOT;
}

/* Not inlined: its key would not fit on the stack beside what its callers keep there. */
__noinline int insert_flow(struct __sk_buff *skb, const struct hw_packet *p, const struct hw_answer *a)
{
	__u32 index = 0, direction;
	struct hw_usage *usage;
	struct hw_flow *flow;
	long error;

	if (!p || !a)
		return -1;
	flow = bpf_map_lookup_elem(&new_flow, &index);
	if (!flow)
		return -1;
	direction = p->direction & 1;
	__builtin_memset(flow, 0, sizeof(*flow));
	flow->tag = flow_tag(&p->key);
	flow->generation = p->active.generation;
	flow->epoch = p->epoch;
	flow->seen_ns = p->now_ns;
	flow->decision = a->decision;
	flow->reported = p->now_ns >> HW_REPORT_SHIFT;
	flow->reported_packets = 1;
	flow->reported_bytes = p->len_bytes;
	flow->revision = a->revision;
	flow->number = a->number;
	flow->peer = a->peer;
	flow->state = HW_OPENER_BIT(p->direction);
	if (p->kind == HW_L4_TCP && !p->may_open) {
		begin_picked_up(p, flow);
	} else if (p->kind == HW_L4_TCP) {
		flow->state |= scale_word(skb, p);
		begin_tcp(p, flow);
	}
	if (p->kind == HW_L4_SCTP)
		begin_sctp(p, flow);
	flow->verdict = a->verdict;
	flow->port_class = p->port;
	flow->marks = a->flags & HW_DECISION_KEEP;
	flow->process = p->direction == HW_EGRESS ? process_number(skb, p->key.slot) : p->process;
	flow->place = p->place;
	flow->packets[direction] = 1;
	flow->bytes[direction] = p->len_bytes;
	error = add_flow(&p->key, flow);
	if (error)
		return error == -HW_EEXIST ? 0 : error; /* another CPU opened it a moment ago */
	index = p->key.slot;
	usage = bpf_map_lookup_elem(&hw_usage, &index);
	if (usage)
		__sync_fetch_and_add(&usage->flows, 1);
	return 0;
}

static __always_inline int report_opening(struct __sk_buff *skb, struct hw_packet *p, const struct hw_answer *a)
{
	struct hw_event *event;

	count_decision(a->decision, p->len_bytes);
	note_outcome(skb, a->number, a->peer, a->verdict, a->reason, p->process);
	if (a->verdict == HW_VERDICT_WOULD_DENY)
		count_reason(p->key.slot, HW_REASON_POLICY);
	event = reserve_event(p->key.slot);
	if (event) {
		fill_event(event, skb, p, a);
		event->kind = HW_EVENT_NEW;
		if (p->direction == HW_EGRESS) {
			event->total_packets[HW_EGRESS] = 1;
			event->total_bytes[HW_EGRESS] = p->len_bytes;
		} else {
			event->total_packets[HW_INGRESS] = 1;
			event->total_bytes[HW_INGRESS] = p->len_bytes;
		}
		event->seen_ns = p->now_ns;
		event->place = p->place;
		event->state = HW_OPENER_BIT(p->direction);
		event->process = p->direction == HW_EGRESS ? process_number(skb, p->key.slot) : p->process;
		submit_event(event);
	}
	return TC_ACT_OK;
}

static __always_inline bool is_allowed(const struct hw_answer *a)
{
	return a->verdict == HW_VERDICT_ALLOW || a->verdict == HW_VERDICT_WOULD_DENY;
}

/* The policy allows the packet, and it opens no flow all the same. */
static __always_inline void refuse_opening(struct hw_answer *a, enum hw_reason reason)
{
	a->decision = 0;
	a->verdict = HW_VERDICT_DENY;
	a->reason = reason;
}

/*
 * Decides a packet that has no live flow, and opens one if it may. The stamps were read before the decision: a policy
 * or a membership that changes meanwhile makes the flow stale at birth.
 */
__noinline int open_flow(struct __sk_buff *skb, struct hw_packet *p, const struct hw_endpoint *endpoint)
{
	enum hw_reason reason = HW_REASON_NONE;
	struct hw_answer a;

	if (!p || !endpoint)
		return TC_ACT_SHOT;
	decide(skb, p, endpoint->network, p->port, HW_PROCESS_UNKNOWN, &a);
	if (!is_allowed(&a) && may_be_picked_up(p, endpoint))
		decide_as_reply(skb, p, endpoint->network, &a);
	if (is_allowed(&a)) {
		/* Where nothing is tracked every packet opens. */
		bool opens = p->may_open || p->kind == HW_L4_STATELESS || may_be_picked_up(p, endpoint);

		if (!opens)
			reason = HW_REASON_NO_FLOW;
		else if (is_rated(p, a.decision))
			reason = judge_rate(skb, p, a.decision, opens);
		if (reason) {
			refuse_opening(&a, reason);
		} else if (p->kind == HW_L4_STATELESS) {
			if (a.decision & HW_INSPECTED)
				reason = inspect_packet(skb, p, a.decision, 0);
			if (reason) {
				p->limit = a.number;
				refuse_opening(&a, reason);
			} else if (a.verdict == HW_VERDICT_ALLOW) {
				count_decision(a.decision, p->len_bytes);
				note_outcome(skb, a.number, a.peer, a.verdict, a.reason, HW_PROCESS_UNKNOWN);
				return TC_ACT_OK;
			}
		} else if (p->direction == HW_EGRESS && guard_opening(p, endpoint)) {
			refuse_opening(&a, HW_REASON_THROTTLED);
		} else if (!within_opening_rate(p, endpoint)) {
			refuse_opening(&a, HW_REASON_RATE_CAP);
		} else if (!claim_place(p, endpoint->flow_quota)) {
			refuse_opening(&a, HW_REASON_FLOW_QUOTA);
		} else if (insert_flow(skb, p, &a)) {
			refuse_opening(&a, HW_REASON_TABLE_FULL);
		} else if (a.decision & HW_INSPECTED && inspect_packet(skb, p, a.decision, flow_tag(&p->key))) {
			/* The flow is there, and says nothing: the sender tries again. */
			p->limit = a.number;
			refuse_opening(&a, HW_REASON_UNINSPECTED);
		} else {
			return report_opening(skb, p, &a);
		}
	}
	/* Only here, where it would be denied: a RST of the datapath's own passes whatever the policy says. */
	if (p->tcp_flags & HW_TCP_RST && is_own_answer(skb, p))
		return TC_ACT_OK;
	account_denial(skb, p, &a);
	if (a.verdict == HW_VERDICT_WOULD_DENY)
		return TC_ACT_OK;
	return rejects(&a) ? answer_denied(skb, p) : TC_ACT_SHOT;
}

/* Decides a flow anew because a stamp differs. True if it may go on. */
static __always_inline bool renew_flow(struct __sk_buff *skb, struct hw_packet *p, struct hw_flow *flow,
				       const struct hw_endpoint *endpoint, struct hw_answer *a)
{
	__u8 opener = HW_OPENER(flow->state);
	__u16 port;

	if (p->kind == HW_L4_ECHO)
		port = flow->port_class;
	else
		port = bpf_ntohs(opener == HW_EGRESS ? p->key.remote_port : p->key.local_port);
	p->opener = opener;
	decide(skb, p, endpoint->network, port, flow->process, a);
	if (is_allowed(a)) {
		flow->verdict = a->verdict;
		flow->marks = (flow->marks & ~HW_FLOW_KEPT) | (a->flags & HW_DECISION_KEEP);
	} else if (!(flow->marks & HW_FLOW_KEPT) || a->reason != HW_REASON_POLICY || !(a->flags & HW_DECISION_KEEPS)) {
		return false;
	}
	/* A kept flow refers to the denial that spares it, so that the old decision's place can be given away. */
	flow->decision = as_marked(a->decision, flow->marks);
	flow->number = a->number;
	flow->revision = a->revision;
	flow->peer = a->peer;
	/* Another rule may have a process at this end named that nobody asked for when the flow was opened. */
	if (p->process >= HW_PROCESS_FIRST)
		flow->process = p->process;
	flow->epoch = p->epoch;
	flow->generation = p->active.generation;
	return true;
}

/* The first two are what becomes of the packet. */
enum hw_revisit {
	/* the policy in force does not allow the flow any more; it was ended and reported */
	HW_REVISIT_DENIED = TC_ACT_SHOT,
	HW_REVISIT_REJECTED = TC_ACT_REDIRECT, /* the same, and the sender is answered */
	HW_REVISIT_ENDED = 0x100,	       /* the packet is decided as if the flow were not there */
	HW_REVISIT_RENEWED,
};

/* A flow that is known but not simply current: expired, closed, stale. */
__noinline int revisit_flow(struct __sk_buff *skb, struct hw_packet *p, struct hw_flow *flow,
			    const struct hw_endpoint *endpoint)
{
	struct hw_answer a;

	if (!p || !flow || !endpoint)
		return HW_REVISIT_DENIED;
	if (flow->tag != flow_tag(&p->key))
		return HW_REVISIT_ENDED;
	if (flow_expired(flow, p->key.protocol, p->now_ns) || opens_anew(flow, p)) {
		end_flow(&p->key, flow, p->now_ns);
		return HW_REVISIT_ENDED;
	}
	if (!renew_flow(skb, p, flow, endpoint, &a)) {
		end_flow(&p->key, flow, p->now_ns);
		account_denial(skb, p, &a);
		return rejects(&a) ? answer_denied(skb, p) : HW_REVISIT_DENIED;
	}
	return HW_REVISIT_RENEWED;
}

static __always_inline bool flow_is_stamped(const struct hw_flow *flow, const struct hw_packet *p)
{
	return flow->generation == p->active.generation && flow->epoch == p->epoch;
}

static __always_inline bool flow_is_current(const struct hw_flow *flow, const struct hw_packet *p)
{
	return flow->tag == flow_tag(&p->key) && flow_is_stamped(flow, p) &&
	       !flow_expired(flow, p->key.protocol, p->now_ns) && !opens_anew(flow, p);
}

/* A path's MTU that no path may have: RFC 1191, section 3; RFC 8201, section 4. Who believes it sends crumbs. */
static __always_inline bool mtu_is_absurd(struct __sk_buff *skb, const struct hw_packet *p)
{
	__be16 mtu[2]; /* IPv4 has the lower half alone */

	if (p->family == 4 ? p->port != HW_ICMP_UNREACHABLE || p->icmp_code != HW_ICMP_CODE_TOO_BIG
			   : p->port != HW_ICMPV6_TOO_BIG)
		return false;
	if (bpf_skb_load_bytes(skb, p->l4_offset + 4, mtu, sizeof(mtu)))
		return true;
	return p->family == 4 ? bpf_ntohs(mtu[1]) < HW_IPV4_MTU_MIN : !mtu[0] && bpf_ntohs(mtu[1]) < HW_IPV6_MTU_MIN;
}

/*
 * The reason why an ICMP error may not pass. One passes if the packet that it quotes belongs to a live flow and the
 * error goes back to its sender.
 */
__noinline int judge_error(struct __sk_buff *skb, struct hw_packet *p)
{
	__u8 ports[8] __attribute__((aligned(4))); /* of TCP also the sequence number */
	struct hw_packet inner = {};
	__u32 offset, need;

	if (!p)
		return HW_REASON_ICMP_UNRELATED;
	inner.key.slot = p->key.slot;
	inner.family = p->family;
	offset = p->l4_offset + HW_ICMP_LEN;
	/* A redirect is a way to steer, never an answer. */
	if (p->family == 4 && (p->port == HW_ICMP_REDIRECT || p->port == HW_ICMP_SOURCE_QUENCH))
		return HW_REASON_ICMP_UNRELATED;
	/* The quoted packet went the other way. */
	inner.direction = !p->direction;
	need = HW_ICMP_LEN + 8 + (p->family == 4 ? HW_IPV4_LEN : HW_IPV6_LEN);
	if (p->l4_len_bytes < need)
		return HW_REASON_ICMP_UNRELATED;
	if (p->family == 4) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl != 5 ||
		    ip.frag_off & bpf_htons(HW_IPV4_FRAGMENT_OFFSET))
			return HW_REASON_ICMP_UNRELATED;
		inner.key.protocol = ip.protocol;
		address_from_ipv4(packet_source(&inner), ip.saddr);
		address_from_ipv4(packet_destination(&inner), ip.daddr);
		offset += HW_IPV4_LEN;
	} else {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 6)
			return HW_REASON_ICMP_UNRELATED;
		inner.key.protocol = ip.nexthdr;
		address_copy(packet_source(&inner), &ip.saddr);
		address_copy(packet_destination(&inner), &ip.daddr);
		inner.l4_offset = offset + HW_IPV6_LEN;
		inner.l4_len_bytes = bpf_ntohs(ip.payload_len);
		/* What is too big for a path often was a fragment already. */
		if (is_extension(ip.nexthdr) && (walk_extensions(skb, &inner) || inner.kind == HW_L4_FRAGMENT))
			return HW_REASON_ICMP_UNRELATED;
		offset = inner.l4_offset;
	}
	/* Errors go to the sender of what they quote (RFC 1122, section 3.2.2). */
	if (!address_equal(packet_destination(p), packet_source(&inner)))
		return HW_REASON_ICMP_UNRELATED;
	if (bpf_skb_load_bytes(skb, offset, ports, sizeof(ports)))
		return HW_REASON_ICMP_UNRELATED;
	switch (inner.key.protocol) {
	case HW_PROTOCOL_TCP:
	case HW_PROTOCOL_UDP:
	case HW_PROTOCOL_SCTP:
	case HW_PROTOCOL_ESP:
		packet_set_ports(&inner, ports);
		break;
	case HW_PROTOCOL_ICMP:
	case HW_PROTOCOL_ICMPV6:
		if (parse_icmp(&inner, ports) || inner.kind != HW_L4_ECHO)
			return HW_REASON_ICMP_UNRELATED;
		break;
	default:
		return HW_REASON_ICMP_UNRELATED;
	}
	struct hw_flow *flow = find_flow(&inner.key, inner.family == 4);

	if (!flow || !flow_is_stamped(flow, p) || flow_expired(flow, inner.key.protocol, p->now_ns) ||
	    !flow->packets[inner.direction & 1])
		return HW_REASON_ICMP_UNRELATED;
	if (inner.key.protocol == HW_PROTOCOL_TCP &&
	    !tcp_sent(flow, inner.direction, bpf_ntohl(*(__be32 *)(ports + 4))))
		return HW_REASON_ICMP_UNRELATED;
	if (inner.key.protocol == HW_PROTOCOL_SCTP) {
		__u32 tag = *(__u32 *)(ports + 4);

		if (!tag && bpf_skb_load_bytes(skb, offset + HW_SCTP_LEN + HW_SCTP_CHUNK_LEN, ports, sizeof(tag)))
			return HW_REASON_ICMP_UNRELATED;
		if (!sctp_sent(flow, inner.direction, tag, *(__u32 *)ports))
			return HW_REASON_ICMP_UNRELATED;
	}
	if (inner.key.protocol == HW_PROTOCOL_ESP && inner.direction != HW_OPENER(flow->state))
		return HW_REASON_ICMP_UNRELATED;
	return mtu_is_absurd(skb, p) ? HW_REASON_ICMP_MTU : HW_REASON_NONE;
}

/* Down to the transport header; the reason why the packet cannot be decided, or NONE. */
static __always_inline enum hw_reason parse(struct __sk_buff *skb, struct hw_packet *p, struct hw_endpoint *endpoint)
{
	void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	struct ethhdr *ethernet = data;
	enum hw_reason reason;
	bool group_frame;

	if (data + HW_LINEAR_LEN > data_end && data_end - data < p->len_bytes) {
		/* Not linear: a failure leaves the pointers as they are, and the checks below deny. */
		bpf_skb_pull_data(skb, p->len_bytes < HW_LINEAR_LEN ? p->len_bytes : HW_LINEAR_LEN);
		data = (void *)(long)skb->data;
		data_end = (void *)(long)skb->data_end;
		ethernet = data;
	}
	if ((void *)(ethernet + 1) > data_end)
		return HW_REASON_TRUNCATED;
	p->ethertype.wire = ethernet->h_proto;
	group_frame = mac_is_group(ethernet->h_dest);
	if (skb->vlan_present || ethernet->h_proto == bpf_htons(ETH_P_8021Q) ||
	    ethernet->h_proto == bpf_htons(ETH_P_8021AD))
		return HW_REASON_VLAN;
	if (p->direction == HW_EGRESS) {
		if (!mac_equal(ethernet->h_source, endpoint->mac))
			return HW_REASON_MAC_SPOOF;
	} else if (!group_frame && !mac_equal(ethernet->h_dest, endpoint->mac)) {
		return HW_REASON_NOT_ADDRESSED;
	} else if (mac_equal(ethernet->h_source, endpoint->mac)) {
		return HW_REASON_MAC_SPOOF;
	}
	if (ethernet->h_proto == bpf_htons(ETH_P_ARP)) {
		p->kind = HW_L4_CHECKED;
		return check_arp(skb, p, endpoint);
	}
	if (ethernet->h_proto == bpf_htons(ETH_P_IP))
		reason = parse_ipv4(p, data, data_end);
	else if (ethernet->h_proto == bpf_htons(ETH_P_IPV6))
		reason = parse_ipv6(skb, p, data, data_end);
	else
		return HW_REASON_ETHERTYPE;
	if (reason)
		return reason;
	if (p->kind != HW_L4_FRAGMENT) {
		reason = parse_transport(skb, p, data, data_end);
		if (reason)
			return reason;
	}
	/* RFC 6980, section 5; and errors are made to fit into any path's MTU. */
	if (p->special & HW_SPECIAL_FIRST_FRAGMENT && (p->kind == HW_L4_CHECKED || p->kind == HW_L4_ICMP_ERROR))
		return HW_REASON_FRAGMENT;
	if (p->kind == HW_L4_CHECKED)
		return check_nd(skb, p, endpoint);
	if (p->kind == HW_L4_SCTP) {
		reason = parse_chunks(skb, p);
		if (reason)
			return reason;
	}
	if (p->key.protocol == HW_PROTOCOL_UDP && p->kind != HW_L4_FRAGMENT) {
		__u16 source_port = bpf_ntohs(p->direction == HW_EGRESS ? p->key.local_port : p->key.remote_port);

		if (is_dhcp(p->family, source_port, p->port)) {
			if (p->special & HW_SPECIAL_FIRST_FRAGMENT)
				return HW_REASON_FRAGMENT;
			p->kind = HW_L4_CHECKED;
			return check_dhcp(skb, p, endpoint, source_port);
		}
	}
	/* A unicast address in a group frame is a way past a switch's tables (RFC 1122, section 3.3.6). */
	if (group_frame || is_multicast(packet_destination(p), p->family))
		return HW_REASON_MULTICAST;
	if (is_martian(p->key.remote, p->family) || is_multicast(packet_source(p), p->family))
		return HW_REASON_MARTIAN;
	return HW_REASON_NONE;
}

/* What becomes of a packet that has its verdict: the first fragment of a datagram passes only if the rest can. */
static __always_inline int finish(struct __sk_buff *skb, struct hw_packet *p, int verdict)
{
	enum hw_reason reason;

	if (verdict != TC_ACT_OK || !(p->special & HW_SPECIAL_FIRST_FRAGMENT))
		return verdict;
	reason = begin_datagram(skb, p);
	return reason ? deny_for(skb, p, reason) : TC_ACT_OK;
}

/* A packet that its flow's rule would let pass, had it been inspected, or had nothing been found. */
static __always_inline int refuse_inspected(struct __sk_buff *skb, struct hw_packet *p, const struct hw_flow *flow,
					    enum hw_reason reason)
{
	int verdict;

	/* What answers its sender goes past here too. */
	if (p->tcp_flags & HW_TCP_RST && is_own_answer(skb, p))
		return TC_ACT_OK;
	p->limit = flow->number;
	verdict = deny_for(skb, p, reason);
	return reason == HW_REASON_SIGNATURE && flow->marks & HW_FLOW_REJECTED ? answer_denied(skb, p) : verdict;
}

static __always_inline int decide_packet(struct __sk_buff *skb, const enum hw_direction direction,
					 struct hw_endpoint *endpoint)
{
	struct hw_packet p = {
		.key.slot = constants.slot, .len_bytes = skb->len, .direction = direction, .opener = direction};
	struct hw_network *network;
	struct hw_flow *flow;
	enum hw_reason reason;
	__u32 index = constants.slot;
	__u64 *word, seen_ns;

	word = bpf_map_lookup_elem(&hw_active, &index);
	if (!word)
		return TC_ACT_SHOT;
	*(__u64 *)&p.active = *(volatile __u64 *)word;
	if ((__s32)p.active.generation <= 0) /* see HW_QUARANTINED */
		return deny_for(skb, &p, p.active.generation ? HW_REASON_QUARANTINED : HW_REASON_NO_REVISION);
	index = endpoint->network;
	network = bpf_map_lookup_elem(&hw_networks, &index);
	if (!network)
		return deny_for(skb, &p, HW_REASON_INTERNAL);
	p.epoch = *(volatile __u64 *)&network->epoch;
	p.special = endpoint->capped; /* HW_SPECIAL_CAPPED */
	if (direction == HW_EGRESS && endpoint->priority)
		skb->priority = endpoint->priority;
	reason = parse(skb, &p, endpoint);
	if (reason)
		return deny_for(skb, &p, reason);
	p.now_ns = ticks();
	if (p.special & HW_SPECIAL_FRAGMENT) {
		reason = p.kind == HW_L4_FRAGMENT ? join_datagram(&p) : expect_datagram(skb, &p);
		if (reason)
			return deny_for(skb, &p, reason);
	}
	switch (p.kind) {
	case HW_L4_CHECKED:
		return TC_ACT_OK;
	case HW_L4_STATELESS:
		return finish(skb, &p, open_flow(skb, &p, endpoint));
	case HW_L4_ICMP_ERROR:
		if (!own_address(&p, p.key.local, p.family))
			return deny_for(skb, &p, direction == HW_EGRESS ? HW_REASON_IP_SPOOF : HW_REASON_NOT_ADDRESSED);
		reason = judge_error(skb, &p);
		if (reason && !is_own_answer(skb, &p))
			return deny_for(skb, &p, reason);
		return TC_ACT_OK;
	}
	flow = find_flow(&p.key, p.family == 4);
	if (!flow)
		return finish(skb, &p, open_flow(skb, &p, endpoint));
	if (p.kind == HW_L4_ESP && p.direction != HW_OPENER(flow->state)) {
		/* The other direction has happened to choose the same number: this packet is its rule's alone. */
		p.kind = HW_L4_STATELESS;
		return finish(skb, &p, open_flow(skb, &p, endpoint));
	}
	if (!flow_is_current(flow, &p)) {
		int outcome = revisit_flow(skb, &p, flow, endpoint);

		if (outcome != HW_REVISIT_RENEWED)
			return outcome == HW_REVISIT_ENDED ? finish(skb, &p, open_flow(skb, &p, endpoint)) : outcome;
	}
	reason = advance_flow(skb, &p, flow, direction);
	if (reason)
		return deny_for(skb, &p, reason);
	if (is_marked(&p, flow->decision)) {
		p.opener = HW_OPENER(flow->state);
		if (is_rated(&p, flow->decision)) {
			reason = judge_rate(skb, &p, flow->decision, false);
			if (reason)
				return deny_for(skb, &p, reason);
		}
		if (flow->decision & HW_INSPECTED) {
			reason = inspect_flow(skb, &p, flow);
			if (reason)
				return refuse_inspected(skb, &p, flow, reason);
		}
	}
	/* Before it is counted: a flow counts what passes. */
	if (p.special & HW_SPECIAL_FIRST_FRAGMENT) {
		reason = begin_datagram(skb, &p);
		if (reason)
			return deny_for(skb, &p, reason);
	}
	seen_ns = flow->seen_ns;
	count_flow(&p, flow);
	note_flow(skb, flow);
	if ((p.now_ns ^ seen_ns) >> HW_UPDATE_CHECK_SHIFT &&
	    (__u32)(p.now_ns >> HW_REPORT_SHIFT) - flow->reported > HW_UPDATE_INTERVAL_NS >> HW_REPORT_SHIFT)
		report_flow(&p.key, flow, p.now_ns);
	return TC_ACT_OK;
}

static __always_inline int filter(struct __sk_buff *skb, const enum hw_direction direction)
{
	__u32 slot = constants.slot;
	struct hw_endpoint *endpoint = bpf_map_lookup_elem(&hw_endpoints, &slot);

	if (!endpoint)
		return TC_ACT_SHOT;
	begin_sample(skb, endpoint);
	return end_sample(skb, decide_packet(skb, direction, endpoint), direction);
}

#endif
