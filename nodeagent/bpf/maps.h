/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The maps that agent and programs share. Mirror: tortie/nodeagent/maps/layout.py.
 *
 * A map's name carries FORMAT and is also its pin's name: a changed layout gets new maps beside the old ones, which
 * go when no program uses them any more. */
#pragma once

#include "drops.h"

#include <linux/bpf.h>
#include <linux/in6.h>

#include <bpf/bpf_helpers.h>

#define FORMAT 1
#define WITH_FORMAT(name) WITH_FORMAT_(name, FORMAT)
#define WITH_FORMAT_(name, format) WITH_FORMAT__(name, format)
#define WITH_FORMAT__(name, format) name##_v##format

#define ENDPOINTS WITH_FORMAT(endpoints)
#define NODES WITH_FORMAT(nodes)
#define DROPS WITH_FORMAT(drops)
#define PASSED WITH_FORMAT(passed)

enum state {
	STATE_PENDING = 1, /* nothing but its own node's probes */
	STATE_OPEN = 2,
};

/* One local endpoint, by ifindex of the host end of its veth. Addresses in network order; zero: none. */
struct endpoint {
	__u32 state;
	__u32 ipv4;
	struct in6_addr ipv6;
	__u8 mac[6];
	__u16 flags; /* none defined yet: 0 */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct endpoint);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ENDPOINTS SEC(".maps");

/* Addresses of this node itself, IPv4 as ::ffff:a.b.c.d; a set. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct in6_addr);
	__type(value, __u8);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} NODES SEC(".maps");

enum hook {
	FROM_POD = 0,
	TO_POD = 1,
	HOOKS = 2,
};

struct counter {
	__u64 packets;
	__u64 bytes;
};

/* By hook * DROP_REASONS_ROOM + reason. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOOKS * DROP_REASONS_ROOM);
	__type(key, __u32);
	__type(value, struct counter);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} DROPS SEC(".maps");

/* By hook. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOOKS);
	__type(key, __u32);
	__type(value, struct counter);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} PASSED SEC(".maps");
