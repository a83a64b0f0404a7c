/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* ARP, and what IPv6 says on its link: neighbour discovery (RFC 4861) and multicast listeners (RFC 3810). */
#pragma once

#include "maps.h"
#include "packet.h"

/* ARP for IPv4 over Ethernet (RFC 826). linux/if_arp.h would draw in libc's headers. */
struct arp {
	__u16 hardware;
	__u16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__u16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u32 sender;
	__u8 target_mac[ETH_ALEN];
	__u32 target;
} __attribute__((packed));

#define ARP_ETHERNET 1
#define ARP_REQUEST 1
#define ND_ROUTER_SOLICIT 133
#define ND_SOLICIT 135
#define ND_ADVERT 136
#define MLD_REPORT 131
#define MLD_DONE 132
#define MLD2_REPORT 143
#define ND_HOP_LIMIT 255 /* what crossed a router has less */

/* The sender is the pod's own address, or 0.0.0.0 in a probe for duplicates (RFC 5227). */
static __always_inline enum verdict arp_from_pod(struct __sk_buff *skb, const struct endpoint *endpoint)
{
	struct arp *arp = head(skb, ETH_HLEN + sizeof(*arp));

	if (!arp)
		return DROP_MALFORMED;
	arp = (void *)arp + ETH_HLEN;
	if (arp->hardware != bpf_htons(ARP_ETHERNET) || arp->protocol != bpf_htons(ETH_P_IP) ||
	    arp->hardware_length != ETH_ALEN || arp->protocol_length != sizeof(__u32))
		return DROP_MALFORMED;
	if (arp->sender ? arp->sender == endpoint->ipv4 : arp->operation == bpf_htons(ARP_REQUEST))
		return PASS;
	return DROP_NEIGHBOUR;
}

/* Type and offset of an ICMPv6 message, also behind the hop-by-hop header with which MLD goes out. 0: none. */
static __always_inline __u8 icmp6_type(struct __sk_buff *skb, __u8 next, __u32 *offset)
{
	__u8 extension[2], type = 0; /* next header, length in units of 8 bytes less one */

	*offset = ETH_HLEN + sizeof(struct ipv6hdr);
	if (next == IPPROTO_HOPOPTS) {
		if (bpf_skb_load_bytes(skb, *offset, extension, sizeof(extension)) || extension[1])
			return 0;
		next = extension[0];
		*offset += 8;
	}
	if (next != IPPROTO_ICMPV6 || bpf_skb_load_bytes(skb, *offset, &type, sizeof(type)))
		return 0;
	return type;
}

enum link_message {
	LINK_OTHER,   /* not a message of the link's own */
	LINK_MESSAGE, /* needed on any link, whatever the endpoint's state */
	LINK_FORGED,  /* an advertisement of somebody else's address */
};

/* What a pod says to its link. Router advertisements and redirects are not a pod's to send. */
static __always_inline enum link_message link_from_pod(struct __sk_buff *skb, const struct ipv6hdr *ip,
						       const struct endpoint *endpoint)
{
	bool on_link = link_local((void *)&ip->daddr) || link_multicast((void *)&ip->daddr);
	bool unrouted = ip->hop_limit == ND_HOP_LIMIT;
	struct in6_addr target;
	__u32 offset;

	switch (icmp6_type(skb, ip->nexthdr, &offset)) {
	case ND_ADVERT:
		if (bpf_skb_load_bytes(skb, offset + 8, &target, sizeof(target)))
			return LINK_FORGED;
		if (!link_local(&target) && (unspecified(&target) || !same(&target, &endpoint->ipv6)))
			return LINK_FORGED;
		return on_link && unrouted ? LINK_MESSAGE : LINK_OTHER;
	case ND_ROUTER_SOLICIT:
	case ND_SOLICIT:
		return on_link && unrouted ? LINK_MESSAGE : LINK_OTHER;
	case MLD_REPORT:
	case MLD_DONE:
	case MLD2_REPORT:
		return on_link ? LINK_MESSAGE : LINK_OTHER;
	}
	return LINK_OTHER;
}

/* ARP is never routed and a routed packet has lost a hop: both can only be this host's own. */
static __always_inline bool neighbour_to_pod(struct __sk_buff *skb)
{
	struct ipv6hdr *ip;
	__u8 next, hops;
	__u32 offset;

	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return true;
	if (skb->protocol != bpf_htons(ETH_P_IPV6))
		return false;
	ip = head(skb, ETH_HLEN + sizeof(*ip));
	if (!ip)
		return false;
	ip = (void *)ip + ETH_HLEN;
	next = ip->nexthdr;
	hops = ip->hop_limit;
	if (hops != ND_HOP_LIMIT || next != IPPROTO_ICMPV6)
		return false;
	switch (icmp6_type(skb, next, &offset)) {
	case ND_SOLICIT:
	case ND_ADVERT:
		return true;
	}
	return false;
}
