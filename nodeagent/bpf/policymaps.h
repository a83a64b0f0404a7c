/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What policy is in these maps; docs/design/policy-in-the-kernel.md says why. Mirror: tortie/nodeagent/maps/layout.py.
 *
 * Everything that a change of policy touches exists twice, in two columns. Programs read the column that SWITCH names,
 * the agent writes the other one and then SWITCH, one aligned u64: a packet meets the old policy or the new one. */
#pragma once

#include "maps.h"

#define SWITCH WITH_FORMAT(switch)
#define POLICIES WITH_FORMAT(policies)
#define ADDRESSES4 WITH_FORMAT(addresses4)
#define ADDRESSES6 WITH_FORMAT(addresses6)
#define NETS4 WITH_FORMAT(nets4)
#define NETS6 WITH_FORMAT(nets6)
#define KINDS WITH_FORMAT(kinds)
#define STACKS WITH_FORMAT(stacks)
#define ROWS WITH_FORMAT(rows)
#define LINES WITH_FORMAT(lines)
#define ATOMS WITH_FORMAT(atoms)
#define RULES WITH_FORMAT(rules)

#define COLUMNS 2

enum direction {
	INGRESS = 0,
	EGRESS = 1,
	DIRECTIONS = 2,
};

/* Bit 0: the column in force. Bits 8 to 31 and 32 to 55: how many classes a region of rows has room for, by column. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} SWITCH SEC(".maps");

/* A word: check (low 16 bits of the ifindex), 16 bits of a stack's number, 32 bits of epoch. Elements of a hash are
 * reused at once, so that a program may hold one that is already another endpoint's: the check tells. */
struct words {
	__u64 word[COLUMNS][DIRECTIONS];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); /* ifindex */
	__type(value, struct words);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} POLICIES SEC(".maps");

/* Classes of addresses: 24 bits a column, and 16 bits of check, which is the address folded. */
#define CLASS_MISSING 0 /* drops */
#define CLASS_UNKNOWN 1 /* drops: inside a block of a node that has not told us whose it is */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ADDRESSES4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct in6_addr);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ADDRESSES6 SEC(".maps");

struct net4 {
	__u32 length;
	__u32 address;
};

struct net6 {
	__u32 length;
	struct in6_addr address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct net4);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} NETS4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct net6);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} NETS6 SEC(".maps");

/* Classes of what a packet is: by port for the three protocols that have them, by type and code for ICMP, by number
 * for all others. 32 bits a column; 0: missing. */
#define KINDS_OF_TCP 0
#define KINDS_OF_UDP 1
#define KINDS_OF_SCTP 2
#define KINDS_OF_ICMP 3
#define KINDS_OF_ICMP6 4
#define KINDS_OF_OTHERS 5
#define KINDS_EACH 65536

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, KINDS_OF_OTHERS * KINDS_EACH + 256);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} KINDS SEC(".maps");

#define UNCONSTRAINED 0xffffffffu

/* First row of the region of each side, by class; UNCONSTRAINED: no rule looks at that side. */
struct stack {
	__u32 source;
	__u32 destination;
	__u32 kind;
	__u32 source_kind;
	__u32 atoms; /* the first of its atoms */
	__u32 count; /* of atoms */
	__u64 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct stack);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} STACKS SEC(".maps");

/* Which atoms of a stack a class matches: the lines (of 512 atoms) that have any, and where these lie, one after the
 * other. */
struct row {
	__u64 mask;
	__u32 first;
	__u32 present; /* 0: there is no such row */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 524288);
	__type(key, __u32);
	__type(value, struct row);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ROWS SEC(".maps");

#define LINE_WORDS 8
#define LINE_ATOMS 512
#define MOST_LINES 64 /* of a stack: 32,768 atoms */

struct line {
	__u64 word[LINE_WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 262144);
	__type(key, __u32);
	__type(value, struct line);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} LINES SEC(".maps");

enum action {
	ACTION_ALLOW = 1,
	ACTION_DENY = 2,
	ACTION_LOG = 3,
	ACTION_PASS = 4,
};

struct atom {
	__u16 action;
	__u16 next; /* of Pass: the first atom of the next tier */
	__u32 rule; /* index into RULES */
	__u64 id;   /* of the rule; also tells a restarted agent whose counter it is */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 262144);
	__type(key, __u32);
	__type(value, struct atom);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ATOMS SEC(".maps");

/* New flows by the rule that decided (or logged, or passed) them. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, struct counter);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} RULES SEC(".maps");
