/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Packet marks (skb->mark), all inside FelixConfiguration's default nftablesMarkMask. Mirror: tortie/nodeagent/marks.py. */
#pragma once

#define MARK_MASK 0xffff0000u

/* Set by from_pod on everything that it lets through. nft drops what enters from cali* without it, so that a removed
 * filter fails closed. */
#define MARK_SEEN 0x00010000u

/* Set by our nft output hook on the host's own packets to pods. Never an address: a masqueraded client of a NodePort
 * has the node's address, too. */
#define MARK_OWN_HOST 0x00020000u

/* Kept free: policy of the destination has been judged at the sender's hook. */
#define MARK_JUDGED 0x00040000u
