/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Reading headers, and the small facts about addresses. */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define IP_OFFSET 0x1fff
#define TCP_FLAGS 13 /* offset of the flags in the TCP header */
#define TCP_ACK 0x10

/* The first `length` bytes for direct reading; NULL if the packet is shorter. A packet's headers may lie outside its
 * linear part (GRO, AF_PACKET); pulling them in invalidates what an earlier call returned. */
static __always_inline void *head(struct __sk_buff *skb, __u32 length)
{
	void *data = (void *)(long)skb->data;

	if (data + length <= (void *)(long)skb->data_end)
		return data;
	if (bpf_skb_pull_data(skb, length))
		return NULL;
	data = (void *)(long)skb->data;
	return data + length <= (void *)(long)skb->data_end ? data : NULL;
}

static __always_inline bool same(const struct in6_addr *a, const struct in6_addr *b)
{
	return !((a->s6_addr32[0] ^ b->s6_addr32[0]) | (a->s6_addr32[1] ^ b->s6_addr32[1]) |
		 (a->s6_addr32[2] ^ b->s6_addr32[2]) | (a->s6_addr32[3] ^ b->s6_addr32[3]));
}

static __always_inline bool unspecified(const struct in6_addr *a)
{
	return !(a->s6_addr32[0] | a->s6_addr32[1] | a->s6_addr32[2] | a->s6_addr32[3]);
}

/* fe80::/10 */
static __always_inline bool link_local(const struct in6_addr *a)
{
	return (a->s6_addr32[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* ff02::/16 */
static __always_inline bool link_multicast(const struct in6_addr *a)
{
	return (a->s6_addr32[0] & bpf_htonl(0xffff0000)) == bpf_htonl(0xff020000);
}

static __always_inline struct in6_addr mapped(__u32 ipv4)
{
	return (struct in6_addr){ .s6_addr32 = { 0, 0, bpf_htonl(0xffff), ipv4 } };
}
