/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* tc egress at the host end of a pod's veth: everything that the pod receives. */
#include "connection.h"
#include "marks.h"
#include "neighbour.h"
#include "verdict.h"

static __always_inline enum verdict judge(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	const struct endpoint *endpoint = bpf_map_lookup_elem(&ENDPOINTS, &ifindex);
	struct flow flow = {};
	enum verdict verdict;

	if (!endpoint)
		return DROP_NO_ENDPOINT;
	if (neighbour_to_pod(skb))
		return PASS;
	if (endpoint->state != STATE_OPEN)
		return skb->mark & MARK_OWN_HOST ? PASS : DROP_PENDING;
	if (skb->vlan_present)
		return DROP_ETHERTYPE;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		verdict = parse4(skb, &flow, TO_POD);
		break;
	case bpf_htons(ETH_P_IPV6):
		verdict = parse6(skb, &flow, TO_POD);
		break;
	default:
		return DROP_ETHERTYPE;
	}
	return verdict == PASS ? admit(skb, endpoint, &flow, TO_POD) : verdict;
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	enum verdict verdict = judge(skb);

	return verdict == PASS ? pass(skb, TO_POD) : drop(skb, TO_POD, verdict);
}

char _license[] SEC("license") = "GPL"; /* the one of our two that the kernel knows */
