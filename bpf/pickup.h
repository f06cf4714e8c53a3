/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * pickup.h - TCP connections whose beginning the datapath did not see, where the host is set to pick them up.
 *
 * Who opened one is not known. A segment in its middle is taken for the opener's, and if policy denies that, for the
 * other side's: so whoever may open a port may also be answered from it without having asked, once, with the right
 * addresses and ports. That is the price, and why it is off unless it is chosen.
 */
#ifndef HW_PICKUP_H
#define HW_PICKUP_H

#include "packet.h"
#include "policy.h"
#include "transport.h"

/* Only what belongs to a connection that stands: nothing that begins or ends one. */
static __always_inline bool may_be_picked_up(const struct hw_packet *p, const struct hw_endpoint *endpoint)
{
	return endpoint->flags & HW_ENDPOINT_PICKS_UP && p->kind == HW_L4_TCP &&
	       (p->tcp_flags & (HW_TCP_SYN | HW_TCP_FIN | HW_TCP_RST | HW_TCP_ACK)) == HW_TCP_ACK;
}

/* As new_flow: with the chain of calls below it, the stack of 512 bytes has no room for it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hw_answer);
} new_reply SEC(".maps");

/* Decides as if the packet were the other side's. Denied, `a` stays what it was. */
__noinline int decide_as_reply(struct __sk_buff *skb, struct hw_packet *p, __u32 network, struct hw_answer *a)
{
	struct hw_answer *reply;
	__u32 index = 0;

	if (!p || !a)
		return 0;
	reply = bpf_map_lookup_elem(&new_reply, &index);
	if (!reply)
		return 0;
	p->opener = !p->direction;
	decide(skb, p, network, bpf_ntohs(p->direction == HW_EGRESS ? p->key.local_port : p->key.remote_port),
	       HW_PROCESS_UNKNOWN, reply);
	if (reply->verdict == HW_VERDICT_ALLOW || reply->verdict == HW_VERDICT_WOULD_DENY)
		*a = *reply;
	else
		p->opener = p->direction;
	return 0;
}

#endif
