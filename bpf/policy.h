/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * policy.h - the decision: address to peer, (local, peer) to row, port to class, cell to decision.
 *
 * Policy is data: this code is the same for every policy and its cost does not depend on the number of rules.
 */
#ifndef HW_POLICY_H
#define HW_POLICY_H

#include "address.h"
#include "maps.h"
#include "packet.h"
#include "process.h"

/* Peer index 0 stands for every address in a pool that no endpoint has. */
#define HW_PEER_UNKNOWN 0

struct hw_answer {
	__u64 revision;
	__u32 decision; /* index, with HW_LIMITED and HW_INSPECTED */
	__u32 number;
	__u32 peer;
	__u32 identity;
	__u8 verdict;
	__u8 reason;
	__u8 flags; /* of the decision: enum hw_decision_flag */
};

static __always_inline __u32 *find_peer4(const __u8 address[4], __be32 network)
{
	struct hw_host4_key host = {.network = network};
	struct hw_prefix4_key prefix = {.prefix_bits = 64, .network = network};
	__u32 *peer;

	__builtin_memcpy(host.address, address, 4);
	peer = bpf_map_lookup_elem(&hw_hosts4, &host);
	if (peer)
		return peer;
	__builtin_memcpy(prefix.address, address, 4);
	return bpf_map_lookup_elem(&hw_prefixes4, &prefix);
}

static __always_inline __u32 *find_peer6(const __u8 address[16], __be32 network)
{
	struct hw_host6_key host = {.network = network};
	struct hw_prefix6_key prefix = {.prefix_bits = 160, .network = network};
	__u32 *peer;

	address_copy(host.address, address);
	peer = bpf_map_lookup_elem(&hw_hosts6, &host);
	if (peer)
		return peer;
	address_copy(prefix.address, address);
	return bpf_map_lookup_elem(&hw_prefixes6, &prefix);
}

static __always_inline __u32 *find_peer(const struct hw_packet *p, __u32 network)
{
	return p->family == 4 ? find_peer4(p->key.remote + 12, bpf_htonl(network))
			      : find_peer6(p->key.remote, bpf_htonl(network));
}

/* The class of the packet that opens the flow. False if the class set is not there. */
static __always_inline bool find_class(const struct hw_packet *p, __u16 port, __u32 set, __u16 *class)
{
	__u32 index = set * HW_CLASSES_PER_SET, zero = 0, offset = port;
	struct hw_class_block *block;
	void *inner;

	switch (p->key.protocol) {
	case HW_PROTOCOL_TCP:
		index += HW_CLASSES_TCP;
		break;
	case HW_PROTOCOL_UDP:
		index += HW_CLASSES_UDP;
		break;
	case HW_PROTOCOL_SCTP:
		index += HW_CLASSES_SCTP;
		break;
	case HW_PROTOCOL_ICMP:
		index += HW_CLASSES_OTHER;
		offset = HW_CLASSES_ICMP + (port & 0xff);
		break;
	case HW_PROTOCOL_ICMPV6:
		index += HW_CLASSES_OTHER;
		offset = HW_CLASSES_ICMPV6 + (port & 0xff);
		break;
	default:
		index += HW_CLASSES_OTHER;
		offset = HW_CLASSES_PROTOCOL + p->key.protocol;
	}
	inner = bpf_map_lookup_elem(&hw_classes, &index);
	if (!inner)
		return false;
	block = bpf_map_lookup_elem(inner, &zero);
	if (!block)
		return false;
	/* The compiler knows the bound and would drop the mask that the verifier needs to see. */
	asm volatile("" : "+r"(offset));
	*class = block->class_of[offset & (HW_CLASS_PORTS - 1)];
	return true;
}

/*
 * Decides the flow that the packet belongs to, by the direction of its opener and `port`, the opener's destination
 * port, and by the process at this end, which the flow may remember. Always fills `a` as far as it came.
 */
static __always_inline void decide(struct __sk_buff *skb, struct hw_packet *p, __u32 network, __u16 port, __u32 process,
				   struct hw_answer *a)
{
	__u32 *peer, index;
	struct hw_decision *decision;
	struct hw_policy *policy;
	struct hw_cell *cell;
	struct hw_ref *ref;
	__u16 class;

	__builtin_memset(a, 0, sizeof(*a));
	p->process = HW_PROCESS_UNKNOWN;
	a->verdict = HW_VERDICT_DENY;
	a->reason = p->direction == HW_EGRESS ? HW_REASON_IP_SPOOF : HW_REASON_NOT_ADDRESSED;
	policy = own_policy(p, p->key.local, p->family);
	if (!policy) {
		index = p->active.policy;
		policy = bpf_map_lookup_elem(&hw_policies, &index);
		if (policy)
			a->revision = policy->revision;
		return;
	}
	a->revision = policy->revision;
	a->identity = policy->identity;

	a->reason = HW_REASON_UNKNOWN_PEER;
	peer = find_peer(p, network);
	if (!peer || *peer == HW_PEER_UNKNOWN)
		return;
	a->peer = *peer;
	index = p->opener == HW_EGRESS ? policy->peers[HW_EGRESS] : policy->peers[HW_INGRESS];
	if (a->peer >= index)
		return;
	index = (p->opener == HW_EGRESS ? policy->table[HW_EGRESS] : policy->table[HW_INGRESS]) + a->peer;
	ref = bpf_map_lookup_elem(&hw_refs, &index);
	if (!ref || !ref->row_length)
		return;

	a->reason = HW_REASON_INTERNAL;
	if (!find_class(p, port, ref->class_set, &class) || class >= ref->row_length)
		return;
	index = ref->row + class;
	cell = bpf_map_lookup_elem(&hw_cells, &index);
	if (!cell || !cell->decision)
		return;
	/* Linux 6.1 takes a key from the stack or from a map, not from memory that a caller passed. */
	index = cell->decision;
	a->decision = index;
	decision = bpf_map_lookup_elem(&hw_decisions, &index);
	if (!decision)
		return;
	if (decision->flags & HW_DECISION_BY_PROCESS) {
		index = choose(skb, p, index, decision->flags, process);
		decision = bpf_map_lookup_elem(&hw_decisions, &index);
		if (!index || !decision)
			return;
		a->decision = index;
	}
	a->number = decision->number;
	a->flags = decision->flags;
	if (decision->flags & HW_DECISION_LIMITED)
		a->decision |= HW_LIMITED;
	if (p->opener == HW_EGRESS ? decision->inspect[HW_CHOICE_OPENER] : decision->inspect[HW_CHOICE_ACCEPTOR])
		a->decision |= HW_INSPECTED;
	if (decision->verdict == HW_VERDICT_ALLOW || decision->verdict == HW_VERDICT_WOULD_DENY) {
		a->verdict = decision->verdict;
		a->reason = decision->verdict == HW_VERDICT_ALLOW ? HW_REASON_NONE : HW_REASON_POLICY;
	} else {
		a->reason = HW_REASON_POLICY;
	}
}

#endif
