/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* tc egress at the host end of a pod's veth: everything that the pod receives. */
#include "marks.h"
#include "neighbour.h"
#include "verdict.h"

static __always_inline enum verdict judge(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	const struct endpoint *endpoint = bpf_map_lookup_elem(&ENDPOINTS, &ifindex);

	if (!endpoint)
		return DROP_NO_ENDPOINT;
	if (endpoint->state == STATE_OPEN || skb->mark & MARK_OWN_HOST || neighbour_to_pod(skb))
		return PASS;
	return DROP_PENDING;
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	enum verdict verdict = judge(skb);

	return verdict == PASS ? pass(skb, TO_POD) : drop(skb, TO_POD, verdict);
}

char _license[] SEC("license") = "GPL"; /* the one of our two that the kernel knows */
