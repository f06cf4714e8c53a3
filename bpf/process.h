/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * process.h - decisions that depend on the process at this end: which process it is, and what it gets.
 *
 * What hangs on a socket is written by process.bpf.c. The socket that sends stays with the packet up to the host's side
 * of a veth; the one that a packet is for is looked up in the workload's namespace. A guest has no sockets here, and
 * what is forwarded inside the workload belongs to none: their processes are not known. Only a new or renewed flow
 * comes here. A flow keeps the process as a number of its endpoint, so that it can be decided anew where no socket is
 * found.
 */
#ifndef HW_PROCESS_H
#define HW_PROCESS_H

#include "maps.h"
#include "packet.h"

/* The executable of the process whose socket sends the packet; 0: not known. */
static __always_inline __u64 executable_of(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct hw_user *user;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	user = bpf_sk_storage_get(&hw_sockets, sk, 0, 0);
	return user ? user->executable : 0;
}

/* The number by which a flow remembers an executable. */
static __always_inline __u8 number_of(__u64 executable, __u32 slot)
{
	struct hw_process_key key = {.executable = executable, .slot = slot};
	__u8 *number;

	if (!executable)
		return HW_PROCESS_UNKNOWN;
	number = bpf_map_lookup_elem(&hw_processes, &key);
	return number ? *number : HW_PROCESS_OTHER;
}

/* The number by which a flow remembers whose socket sends. */
__noinline int process_number(struct __sk_buff *skb, __u32 slot)
{
	return number_of(executable_of(skb), slot);
}

/* The packet's ends as the workload's stack looks for its socket. The length, which tells the family; 0: none. */
static __always_inline __u32 ends_of(const struct hw_packet *p, struct bpf_sock_tuple *ends)
{
	if (p->family == 4) {
		ends->ipv4.saddr = *(const __be32 *)(p->key.remote + 12);
		ends->ipv4.daddr = *(const __be32 *)(p->key.local + 12);
		ends->ipv4.sport = p->key.remote_port;
		ends->ipv4.dport = p->key.local_port;
		return sizeof(ends->ipv4);
	}
	__builtin_memcpy(ends->ipv6.saddr, p->key.remote, sizeof(ends->ipv6.saddr));
	__builtin_memcpy(ends->ipv6.daddr, p->key.local, sizeof(ends->ipv6.daddr));
	ends->ipv6.sport = p->key.remote_port;
	ends->ipv6.dport = p->key.local_port;
	return sizeof(ends->ipv6);
}

/* Has them come from an address and port that no connection has. */
static __always_inline void forget_remote(const struct hw_packet *p, struct bpf_sock_tuple *ends)
{
	if (p->family == 4) {
		ends->ipv4.saddr = 0;
		ends->ipv4.sport = 0;
	} else {
		__builtin_memset(ends->ipv6.saddr, 0, sizeof(ends->ipv6.saddr));
		ends->ipv6.sport = 0;
	}
}

#define HW_NOBODY 0
#define HW_SOMEBODY 1 /* and not known; no path has this hash, but for one in 2^64 */

/*
 * The executable of who accepts a packet that the workload is sent, or HW_NOBODY or HW_SOMEBODY: by the look-up of the
 * workload's own stack. That knows sockets by the workload's devices and this one by the port, so a socket that is
 * bound to a device is nobody's whom a rule could name. Sockets of SCTP, ICMP and the rest cannot be looked up.
 */
static __always_inline __u64 find_acceptor(struct __sk_buff *skb, const struct hw_packet *p)
{
	__u32 len, index = p->key.slot, netns, forbidden = HW_SHARED_BY_ANYBODY;
	struct hw_endpoint *endpoint = bpf_map_lookup_elem(&hw_endpoints, &index);
	__u64 executable = HW_SOMEBODY;
	struct bpf_sock_tuple *ends;
	struct hw_user *user;
	struct bpf_sock *sk;

	index = 0;
	ends = bpf_map_lookup_elem(&new_ends, &index);
	if (!endpoint || !ends || !endpoint->workload_netns)
		return HW_NOBODY;
	netns = endpoint->workload_netns - 1;
	len = ends_of(p, ends);
	if (p->kind == HW_L4_TCP) {
		sk = bpf_sk_lookup_tcp(skb, ends, len, netns, 0);
		if (!sk && p->may_open) {
			/* A connection that has just ended keeps its ports for a while, and gives way to a new one for
			 * whoever listens; which one of a user's group, its own ends would tell. */
			forget_remote(p, ends);
			forbidden |= HW_SHARED_BY_USER;
			sk = bpf_sk_lookup_tcp(skb, ends, len, netns, 0);
		}
	} else if (p->kind == HW_L4_DATAGRAM) {
		sk = bpf_sk_lookup_udp(skb, ends, len, netns, 0);
	} else {
		return HW_NOBODY;
	}
	if (!sk)
		return HW_NOBODY;
	user = sk->bound_dev_if ? NULL : bpf_sk_storage_get(&hw_sockets, sk, 0, 0);
	if (user && user->executable && !(user->sharing & forbidden))
		executable = user->executable;
	bpf_sk_release(sk);
	return executable;
}

/*
 * The index of the plain decision that a conditional one leads to at this end; 0 if there is none. The socket at this
 * end tells its process; without one it is `process`, which the flow remembers. That it was none that a rule named then
 * does not say that none names it now. `flags` are the conditional decision's.
 */
__noinline int choose(struct __sk_buff *skb, struct hw_packet *p, __u32 decision, __u32 flags, __u32 process)
{
	struct hw_choice_key key = {.decision = decision};
	__u64 executable = HW_NOBODY;
	__u32 *chosen;

	if (!p)
		return 0;
	if (p->opener == HW_INGRESS)
		key.end = HW_CHOICE_ACCEPTOR;
	if (p->opener == HW_EGRESS || flags & HW_DECISION_AT_PROCESS) {
		if (p->direction == HW_EGRESS)
			executable = executable_of(skb);
		else if (p->opener == HW_INGRESS)
			executable = find_acceptor(skb, p);
		if (executable == HW_NOBODY && process >= HW_PROCESS_FIRST) {
			__u32 index = p->key.slot * HW_PROCESSES_PER_ENDPOINT + (process & 0xff);
			__u64 *remembered = bpf_map_lookup_elem(&hw_executables, &index);

			if (remembered)
				executable = *remembered;
		} else if (executable > HW_SOMEBODY) {
			p->process = number_of(executable, p->key.slot);
		}
	}
	if (executable > HW_SOMEBODY) {
		key.executable = executable;
		key.process = HW_PROCESS_OTHER;
	}
	chosen = bpf_map_lookup_elem(&hw_choices, &key);
	if (!chosen && key.executable) {
		key.executable = 0;
		chosen = bpf_map_lookup_elem(&hw_choices, &key);
	}
	return chosen ? *chosen : 0;
}

#endif
