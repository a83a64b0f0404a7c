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
	X(6, MALFORMED, "malformed")	 /* header cut short or impossible */

#define DROP_REASONS_ROOM 16

enum verdict {
	PASS = 0,
#define X(number, name, label) DROP_##name = number,
	DROP_REASONS(X)
#undef X
};
