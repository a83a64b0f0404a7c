/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* tc ingress at the host end of a pod's veth: everything that the pod sends. */
#include "connection.h"
#include "marks.h"
#include "source.h"
#include "verdict.h"

static __always_inline enum verdict judge(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	const struct endpoint *endpoint = bpf_map_lookup_elem(&ENDPOINTS, &ifindex);
	struct flow flow = {};
	enum verdict verdict;
	bool link = false;

	if (!endpoint)
		return DROP_NO_ENDPOINT;
	if (skb->vlan_present)
		return DROP_ETHERTYPE;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_ARP):
		return arp_from_pod(skb, endpoint);
	case bpf_htons(ETH_P_IP):
		verdict = ipv4_from_pod(skb, endpoint);
		if (verdict != PASS || endpoint->state != STATE_OPEN)
			return verdict;
		verdict = parse4(skb, &flow, FROM_POD);
		break;
	case bpf_htons(ETH_P_IPV6):
		verdict = ipv6_from_pod(skb, endpoint, &link);
		if (verdict != PASS || endpoint->state != STATE_OPEN || link)
			return verdict;
		verdict = parse6(skb, &flow, FROM_POD);
		break;
	default:
		return DROP_ETHERTYPE;
	}
	return verdict == PASS ? admit(skb, endpoint, &flow, FROM_POD) : verdict;
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	enum verdict verdict = judge(skb);
	__u32 mark;

	if (verdict != PASS)
		return drop(skb, FROM_POD, verdict);
	/* What a pod says of itself (OWN_HOST above all) is not believed. The barrier keeps clang from storing two bytes
	 * instead of four, which the verifier refuses in a context. */
	mark = (skb->mark & ~MARK_MASK) | MARK_SEEN;
	barrier_var(mark);
	skb->mark = mark;
	return pass(skb, FROM_POD);
}

char _license[] SEC("license") = "GPL"; /* the one of our two that the kernel knows */
