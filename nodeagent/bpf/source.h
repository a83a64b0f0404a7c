/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What a pod may send, before policy: from its own addresses, and while PENDING only answers to its own node's
 * probes. */
#pragma once

#include "maps.h"
#include "neighbour.h"
#include "packet.h"

/* A TCP segment with ACK to this node: the answer to a probe, never the start of a connection. `transport`: offset of
 * the TCP header. */
static __always_inline enum verdict probe_answer(struct __sk_buff *skb, __u8 protocol, __u32 transport,
						 const struct in6_addr *destination)
{
	__u8 flags;

	if (protocol != IPPROTO_TCP || !bpf_map_lookup_elem(&NODES, destination))
		return DROP_PENDING;
	if (bpf_skb_load_bytes(skb, transport + TCP_FLAGS, &flags, sizeof(flags)))
		return DROP_MALFORMED;
	return flags & TCP_ACK ? PASS : DROP_PENDING;
}

static __always_inline enum verdict ipv4_from_pod(struct __sk_buff *skb, const struct endpoint *endpoint)
{
	struct iphdr *ip = head(skb, ETH_HLEN + sizeof(*ip));
	struct in6_addr destination;

	if (!ip)
		return DROP_MALFORMED;
	ip = (void *)ip + ETH_HLEN;
	if (ip->version != 4 || ip->ihl < 5)
		return DROP_MALFORMED;
	if (!ip->saddr || ip->saddr != endpoint->ipv4)
		return DROP_SOURCE;
	if (endpoint->state == STATE_OPEN)
		return PASS;
	if (ip->frag_off & bpf_htons(IP_OFFSET))
		return DROP_PENDING;
	destination = mapped(ip->daddr);
	return probe_answer(skb, ip->protocol, ETH_HLEN + ip->ihl * 4, &destination);
}

/* `link`: it is for the link alone, which no policy concerns. */
static __always_inline enum verdict ipv6_from_pod(struct __sk_buff *skb, const struct endpoint *endpoint, bool *link)
{
	struct ipv6hdr *ip = head(skb, ETH_HLEN + sizeof(*ip));
	struct in6_addr source, destination;
	bool own;

	if (!ip)
		return DROP_MALFORMED;
	ip = (void *)ip + ETH_HLEN;
	if (ip->version != 6)
		return DROP_MALFORMED;
	__builtin_memcpy(&source, &ip->saddr, sizeof(source));
	own = !unspecified(&source) && same(&source, &endpoint->ipv6);
	if (ip->nexthdr == IPPROTO_ICMPV6 || ip->nexthdr == IPPROTO_HOPOPTS) {
		enum link_message message = link_from_pod(skb, ip, endpoint);

		if (message == LINK_FORGED)
			return DROP_NEIGHBOUR;
		*link = message == LINK_MESSAGE && (own || unspecified(&source) || link_local(&source));
		if (*link)
			return PASS;
	}
	if (!own)
		return DROP_SOURCE;
	if (endpoint->state == STATE_OPEN)
		return PASS;
	__builtin_memcpy(&destination, &ip->daddr, sizeof(destination));
	return probe_answer(skb, ip->nexthdr, ETH_HLEN + sizeof(*ip), &destination);
}
