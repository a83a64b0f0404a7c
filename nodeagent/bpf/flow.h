/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* From a packet to the flow that it belongs to. */
#pragma once

#include "connmaps.h"
#include "packet.h"

#define IP_MORE_FRAGMENTS 0x2000
#define IP6_MORE_FRAGMENTS 1
#define IP6_OFFSET 0xfff8
#define MOST_EXTENSIONS 6

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04

enum shape {
	SHAPE_ANSWER = 1, /* of ICMP: to a question */
	SHAPE_ERROR = 2,  /* of ICMP: about another packet, at `payload` */
};

struct flow {
	struct in6_addr source;
	struct in6_addr destination;
	__u16 source_port;
	__u16 port; /* of ICMP: type and code */
	__u16 id;   /* of ICMP */
	__u8 protocol;
	__u8 family;
	__u8 tcp_flags;
	__u8 shape;
	__u16 zero;
	__u32 payload; /* offset of what comes after 8 bytes of ICMP */
};

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/* What an ICMP message is the answer to; 0: it is none. Codes: linux/icmp.h, RFC 4443. */
static __always_inline __u8 question(__u8 protocol, __u8 type)
{
	if (protocol == IPPROTO_ICMPV6)
		return type == 129 ? 128 : 0;
	switch (type) {
	case 0:
		return 8;
	case 14: /* timestamp */
		return 13;
	case 18: /* address mask */
		return 17;
	}
	return 0;
}

static __always_inline bool is_question(__u8 protocol, __u8 type)
{
	return protocol == IPPROTO_ICMPV6 ? type == 128 : type == 8 || type == 13 || type == 17;
}

static __always_inline bool is_error(__u8 protocol, __u8 type)
{
	if (protocol == IPPROTO_ICMPV6)
		return type >= 1 && type <= 4;
	return type == 3 || type == 4 || type == 11 || type == 12;
}

static __always_inline void shape_of(struct flow *flow)
{
	__u8 type = flow->port >> 8;

	if (question(flow->protocol, type))
		flow->shape = SHAPE_ANSWER;
	else if (is_error(flow->protocol, type))
		flow->shape = SHAPE_ERROR;
	else if (!is_question(flow->protocol, type))
		flow->id = 0;
}

/* Ports, or type, code and identifier. `offset`: of the transport header. */
static __always_inline enum verdict transport(struct __sk_buff *skb, __u32 offset, struct flow *flow)
{
	__u8 bytes[14];

	if (flow->protocol == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, offset, bytes, 14))
			return DROP_MALFORMED;
		flow->tcp_flags = bytes[TCP_FLAGS];
	} else if (has_ports(flow->protocol)) {
		if (bpf_skb_load_bytes(skb, offset, bytes, 8))
			return DROP_MALFORMED;
	} else if (flow->protocol == IPPROTO_ICMP || flow->protocol == IPPROTO_ICMPV6) {
		if (bpf_skb_load_bytes(skb, offset, bytes, 8))
			return DROP_MALFORMED;
		flow->port = bytes[0] << 8 | bytes[1];
		flow->id = bytes[4] << 8 | bytes[5];
		flow->payload = offset + 8;
		shape_of(flow);
		return PASS;
	} else {
		return PASS;
	}
	flow->source_port = bytes[0] << 8 | bytes[1];
	flow->port = bytes[2] << 8 | bytes[3];
	return PASS;
}

/* Fragments follow what their first one said. One that comes before it is dropped: its sender tries again. */
static __always_inline enum verdict fragmented(struct __sk_buff *skb, __u32 offset, struct flow *flow, __u32 id,
					       bool is_first, enum hook hook)
{
	struct fragment_key key = { .source = flow->source, .destination = flow->destination, .id = id,
				    .protocol = flow->protocol, .hook = hook };
	struct fragment *known, first = {};
	enum verdict verdict;

	if (is_first) {
		verdict = transport(skb, offset, flow);
		if (verdict != PASS)
			return verdict;
		first.source_port = flow->source_port;
		first.port = flow->port;
		first.id = flow->id;
		bpf_map_update_elem(&FRAGMENTS, &key, &first, BPF_ANY);
		return PASS;
	}
	known = bpf_map_lookup_elem(&FRAGMENTS, &key);
	if (!known)
		return DROP_FRAGMENT;
	flow->source_port = known->source_port;
	flow->port = known->port;
	flow->id = known->id;
	if (flow->protocol == IPPROTO_ICMP || flow->protocol == IPPROTO_ICMPV6)
		shape_of(flow);
	return PASS;
}

static __always_inline enum verdict parse4(struct __sk_buff *skb, struct flow *flow, enum hook hook)
{
	struct iphdr *ip = head(skb, ETH_HLEN + sizeof(*ip));
	__u32 offset;
	__u16 fragment, id;

	if (!ip)
		return DROP_MALFORMED;
	ip = (void *)ip + ETH_HLEN;
	if (ip->version != 4 || ip->ihl < 5)
		return DROP_MALFORMED;
	flow->family = 4;
	flow->source = mapped(ip->saddr);
	flow->destination = mapped(ip->daddr);
	flow->protocol = ip->protocol;
	offset = ETH_HLEN + ip->ihl * 4;
	fragment = bpf_ntohs(ip->frag_off);
	id = ip->id;
	if (fragment & (IP_MORE_FRAGMENTS | IP_OFFSET))
		return fragmented(skb, offset, flow, id, !(fragment & IP_OFFSET), hook);
	return transport(skb, offset, flow);
}

/* Behind extension headers (RFC 8200). `next`: of the header before `offset`. */
static __noinline enum verdict extensions(struct __sk_buff *skb, struct flow *flow, __u8 next, enum hook hook)
{
	__u32 offset = ETH_HLEN + sizeof(struct ipv6hdr), id;
	__u8 header[8];
	__u16 fragment;

	for (int i = 0; i < MOST_EXTENSIONS; i++) {
		switch (next) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case 135: /* mobility */
			if (bpf_skb_load_bytes(skb, offset, header, 2))
				return DROP_MALFORMED;
			offset += (header[1] + 1) * 8;
			break;
		case IPPROTO_AH:
			if (bpf_skb_load_bytes(skb, offset, header, 2))
				return DROP_MALFORMED;
			offset += (header[1] + 2) * 4;
			break;
		case IPPROTO_FRAGMENT:
			if (bpf_skb_load_bytes(skb, offset, header, 8))
				return DROP_MALFORMED;
			fragment = header[2] << 8 | header[3];
			offset += 8;
			if (fragment & (IP6_OFFSET | IP6_MORE_FRAGMENTS)) {
				__builtin_memcpy(&id, header + 4, sizeof(id));
				flow->protocol = header[0];
				return fragmented(skb, offset, flow, id, !(fragment & IP6_OFFSET), hook);
			}
			break;
		default:
			flow->protocol = next;
			return transport(skb, offset, flow);
		}
		next = header[0];
	}
	return DROP_TOO_LONG;
}

static __always_inline enum verdict parse6(struct __sk_buff *skb, struct flow *flow, enum hook hook)
{
	struct ipv6hdr *ip = head(skb, ETH_HLEN + sizeof(*ip));

	if (!ip)
		return DROP_MALFORMED;
	ip = (void *)ip + ETH_HLEN;
	if (ip->version != 6)
		return DROP_MALFORMED;
	flow->family = 6;
	__builtin_memcpy(&flow->source, &ip->saddr, sizeof(flow->source));
	__builtin_memcpy(&flow->destination, &ip->daddr, sizeof(flow->destination));
	flow->protocol = ip->nexthdr;
	if (has_ports(flow->protocol) || flow->protocol == IPPROTO_ICMPV6)
		return transport(skb, ETH_HLEN + sizeof(*ip), flow);
	return extensions(skb, flow, flow->protocol, hook);
}

/* The packet that an ICMP error is about, from its headers in the error. False: they are not there. */
static __noinline bool quoted(struct __sk_buff *skb, const struct flow *error, struct flow *flow)
{
	__u8 bytes[8];
	__u32 offset = error->payload;

	if (!offset)
		return false;
	flow->family = error->family;
	if (error->protocol == IPPROTO_ICMP) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5 ||
		    ip.frag_off & bpf_htons(IP_OFFSET))
			return false;
		flow->source = mapped(ip.saddr);
		flow->destination = mapped(ip.daddr);
		flow->protocol = ip.protocol;
		offset += ip.ihl * 4;
	} else {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 6)
			return false;
		__builtin_memcpy(&flow->source, &ip.saddr, sizeof(flow->source));
		__builtin_memcpy(&flow->destination, &ip.daddr, sizeof(flow->destination));
		flow->protocol = ip.nexthdr;
		offset += sizeof(ip);
	}
	if (bpf_skb_load_bytes(skb, offset, bytes, sizeof(bytes)))
		return false;
	if (has_ports(flow->protocol)) {
		flow->source_port = bytes[0] << 8 | bytes[1];
		flow->port = bytes[2] << 8 | bytes[3];
		return true;
	}
	if (flow->protocol != IPPROTO_ICMP && flow->protocol != IPPROTO_ICMPV6)
		return false;
	flow->port = bytes[0] << 8 | bytes[1];
	flow->id = bytes[4] << 8 | bytes[5];
	shape_of(flow);
	return true;
}
