/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The connection table. Mirror: tortie/nodeagent/maps/layout.py. */
#pragma once

#include "policymaps.h"

#define CONNS WITH_FORMAT(conns)
#define FRAGMENTS WITH_FORMAT(fragments)

/* Of both directions: the end with the lower address (then port) is `a`. ICMP: `a` is who asked, port_a the
 * identifier, port_b type and code of the question. Addresses of IPv4 as ::ffff:a.b.c.d, ports in host order. */
struct conn_key {
	struct in6_addr a;
	struct in6_addr b;
	__u16 port_a;
	__u16 port_b;
	__u8 protocol;
	__u8 zero[3];
};

enum conn_flags {
	CONN_FROM_B = 1,     /* `b` sent the first packet */
	CONN_VIA_STACK = 2,  /* it went through the host's stack (netfilter): so must all that follow */
	CONN_OWN_HOST = 4,   /* it was this host's own: no policy of ours concerns it */
	CONN_TRANSLATED = 8, /* not yet: `to` and `port` are the destination in the other of its two entries */
};

enum conn_tcp {
	TCP_OPENING = 0, /* one side has spoken */
	TCP_OPEN = 1,
	TCP_FIN_A = 2,
	TCP_FIN_B = 4,
	TCP_RESET = 8,
};

#define CONN_FORMAT 1

struct conn {
	__u64 expires; /* nanoseconds of the coarse monotonic clock; later the entry is dead */
	__u64 created;
	__u32 epoch[DIRECTIONS]; /* under which its policy allowed it; 0: not judged here */
	__u32 rule[DIRECTIONS];	 /* which allowed it */
	__u8 format;
	__u8 flags;
	__u8 tcp;
	__u8 zero;
	__u32 service;
	struct in6_addr to;
	__u16 port;
	__u16 zeros[3];
	struct counter counter[2]; /* from `a`, from `b` */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 524288);
	__type(key, struct conn_key);
	__type(value, struct conn);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} CONNS SEC(".maps");

/* What the first fragment of a packet said of the flow that the others belong to. */
struct fragment_key {
	struct in6_addr source;
	struct in6_addr destination;
	__u32 id;
	__u8 protocol;
	__u8 hook;
	__u16 zero;
};

struct fragment {
	__u16 source_port;
	__u16 port;
	__u16 id; /* of ICMP */
	__u8 tcp_flags;
	__u8 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} FRAGMENTS SEC(".maps");
