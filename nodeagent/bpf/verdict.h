/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Ends of a hook: counted, always. */
#pragma once

#include "maps.h"

#include <linux/pkt_cls.h>

static __always_inline void count(struct counter *counter, const struct __sk_buff *skb)
{
	if (counter) {
		counter->packets++;
		counter->bytes += skb->len;
	}
}

static __always_inline int drop(const struct __sk_buff *skb, enum hook hook, enum verdict reason)
{
	__u32 key = hook * DROP_REASONS_ROOM + reason;

	count(bpf_map_lookup_elem(&DROPS, &key), skb);
	return TC_ACT_SHOT;
}

/* On to whoever else is attached to the device: TC_ACT_OK would end the chain and switch foreign filters off. */
static __always_inline int pass(const struct __sk_buff *skb, enum hook hook)
{
	__u32 key = hook;

	count(bpf_map_lookup_elem(&PASSED, &key), skb);
	return TC_ACT_UNSPEC;
}
