/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* address.h - whether an address is the endpoint's own, and which addresses can be nobody's. */
#ifndef HW_ADDRESS_H
#define HW_ADDRESS_H

#include "maps.h"
#include "packet.h"

/*
 * The policy of the endpoint's own address, or NULL if the address is not its own. The family is that of the packet: an
 * IPv6 packet that names ::ffff:a.b.c.d must not pass for the IPv4 address that is written like that here.
 */
static __always_inline struct hw_policy *own_policy(const struct hw_packet *p, const __u8 address[16], __u8 family)
{
	if (address_is_zero(address) || (family == 6 && is_mapped_ipv4(address)))
		return NULL;
	for (__u32 i = 0; i < HW_ADDRESSES_PER_ENDPOINT; i++) {
		__u32 index = p->active.policy + i;
		struct hw_policy *policy = bpf_map_lookup_elem(&hw_policies, &index);

		if (!policy || address_is_zero(policy->address))
			return NULL;
		if (address_equal(policy->address, address))
			return policy;
	}
	return NULL;
}

static __noinline bool own_address(const struct hw_packet *p, const __u8 address[16], __u8 family)
{
	return own_policy(p, address, family) != NULL;
}

static __always_inline bool own_ipv4(const struct hw_packet *p, __be32 ipv4)
{
	__u8 address[16] __attribute__((aligned(8)));

	address_from_ipv4(address, ipv4);
	return own_address(p, address, 4);
}

static __always_inline bool is_multicast(const __u8 a[16], __u8 family)
{
	const __u32 *words = (const __u32 *)a;

	if (family == 6)
		return a[0] == 0xff;
	/* RFC 5771: 224.0.0.0/4; the limited broadcast is group traffic too */
	return (a[12] & 0xf0) == 0xe0 || words[3] == 0xffffffff;
}

/* Addresses that no peer can have: RFC 1122 section 3.2.1.3, RFC 4291 sections 2.5.2, 2.5.3 and 2.5.6. */
static __always_inline bool is_martian(const __u8 a[16], __u8 family)
{
	const __u64 *halves = (const __u64 *)a;

	if (family == 4)
		return a[12] == 0 || a[12] == 127;
	/* unspecified, loopback, mapped and compatible IPv4: all start with 80 zero bits */
	if (!halves[0] && !(a[8] | a[9]))
		return true;
	return a[0] == 0xfe && (a[1] & 0xc0) == 0x80;
}

#endif
