/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Why a packet was dropped: index into map `drops` and label of a metric. Mirror: tortie/nodeagent/maps/layout.py.
 * Numbers are never reused: counters outlive an upgrade. */
#pragma once

#define DROP_REASONS(X)                                                        \
	X(1, NO_ENDPOINT, "no-endpoint") /* no map entry for the interface */   \
	X(2, PENDING, "pending")	 /* the endpoint is not open yet */	\
	X(3, SOURCE, "source")		 /* a source address not its own */	\
	X(4, NEIGHBOUR, "neighbour")	 /* ARP or NDP for somebody else */	\
	X(5, ETHERTYPE, "ethertype")	 /* not IPv4, IPv6 or ARP; VLAN tag */	\
	X(6, MALFORMED, "malformed")	 /* header cut short or impossible */	\
	X(7, POLICY, "policy")		 /* a rule, or the end of a tier */	\
	X(8, UNKNOWN, "unknown")	 /* an address that nobody told us of */ \
	X(9, NO_POLICY, "no-policy")	 /* no stack, class, row or atom */	\
	X(10, TABLE_FULL, "table-full")	 /* no room for another connection */	\
	X(11, FRAGMENT, "fragment")	 /* its first fragment did not pass */	\
	X(12, TOO_LONG, "too-long")	 /* extension headers, logs or tiers */

#define DROP_REASONS_ROOM 16

enum verdict {
	PASS = 0,
#define X(number, name, label) DROP_##name = number,
	DROP_REASONS(X)
#undef X
};
