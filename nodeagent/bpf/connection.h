/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Flows: who began them and under which policy. Only what is new, or was judged under an earlier policy, meets policy. */
#pragma once

#include "connmaps.h"
#include "flow.h"
#include "judge.h"
#include "marks.h"

#define SECONDS(n) ((n) * 1000000000ULL)
/* As Calico's (felix bpf/conntrack/timeouts). */
#define TIMEOUT_TCP_OPENING SECONDS(20)
#define TIMEOUT_TCP_OPEN SECONDS(3600)
#define TIMEOUT_TCP_CLOSING SECONDS(30)
#define TIMEOUT_TCP_RESET SECONDS(40)
#define TIMEOUT_UDP SECONDS(60)
#define TIMEOUT_ICMP SECONDS(5)
#define TIMEOUT_OTHER SECONDS(600)

/* Whether two addresses are in the table's order. */
static __always_inline bool ordered(const struct flow *flow)
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (flow->source.s6_addr32[i] != flow->destination.s6_addr32[i])
			return bpf_ntohl(flow->source.s6_addr32[i]) < bpf_ntohl(flow->destination.s6_addr32[i]);
	return flow->source_port <= flow->port;
}

/* Whether the packet comes from `a`. */
static __always_inline bool key_of(const struct flow *flow, struct conn_key *key)
{
	bool icmp = flow->protocol == IPPROTO_ICMP || flow->protocol == IPPROTO_ICMPV6;
	bool from_a = icmp ? !(flow->shape & SHAPE_ANSWER) : ordered(flow);

	key->protocol = flow->protocol;
	if (from_a) {
		key->a = flow->source;
		key->b = flow->destination;
		key->port_a = flow->source_port;
		key->port_b = flow->port;
	} else {
		key->a = flow->destination;
		key->b = flow->source;
		key->port_a = flow->port;
		key->port_b = flow->source_port;
	}
	if (icmp) {
		__u8 asked = question(flow->protocol, flow->port >> 8);

		key->port_a = flow->id;
		key->port_b = asked ? asked << 8 | (flow->port & 0xff) : flow->port;
	}
	return from_a;
}

/* To the same flow as its first packet showed it. */
static __always_inline void turn(struct flow *flow, const struct conn_key *key, bool from_b)
{
	bool icmp = flow->protocol == IPPROTO_ICMP || flow->protocol == IPPROTO_ICMPV6;

	flow->source = from_b ? key->b : key->a;
	flow->destination = from_b ? key->a : key->b;
	flow->source_port = icmp ? 0 : from_b ? key->port_b : key->port_a;
	flow->port = icmp ? key->port_b : from_b ? key->port_a : key->port_b;
}

static __always_inline __u64 timeout_of(__u8 protocol, __u8 tcp)
{
	switch (protocol) {
	case IPPROTO_TCP:
		if (tcp & TCP_RESET)
			return TIMEOUT_TCP_RESET;
		if ((tcp & (TCP_FIN_A | TCP_FIN_B)) == (TCP_FIN_A | TCP_FIN_B))
			return TIMEOUT_TCP_CLOSING;
		return tcp & TCP_OPEN ? TIMEOUT_TCP_OPEN : TIMEOUT_TCP_OPENING;
	case IPPROTO_UDP:
		return TIMEOUT_UDP;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return TIMEOUT_ICMP;
	}
	return TIMEOUT_OTHER;
}

static __always_inline __u8 tcp_after(__u8 tcp, __u8 flags, bool from_a, bool forward)
{
	if (flags & TCP_RST)
		tcp |= TCP_RESET;
	if (flags & TCP_FIN)
		tcp |= from_a ? TCP_FIN_A : TCP_FIN_B;
	if (!forward || (flags & (TCP_SYN | TCP_ACK)) == TCP_ACK)
		tcp |= TCP_OPEN;
	return tcp;
}

static __always_inline void touch(struct __sk_buff *skb, struct conn *conn, const struct flow *flow, bool from_a,
				  bool forward, __u64 now)
{
	struct counter *counter = &conn->counter[from_a ? 0 : 1];

	if (flow->protocol == IPPROTO_TCP)
		conn->tcp = tcp_after(conn->tcp, flow->tcp_flags, from_a, forward);
	conn->expires = now + timeout_of(flow->protocol, conn->tcp);
	__sync_fetch_and_add(&counter->packets, 1);
	__sync_fetch_and_add(&counter->bytes, skb->len);
}

static __always_inline bool closed(const struct conn *conn)
{
	return conn->tcp & TCP_RESET || (conn->tcp & (TCP_FIN_A | TCP_FIN_B)) == (TCP_FIN_A | TCP_FIN_B);
}

static __always_inline bool is_own(const struct endpoint *endpoint, const struct in6_addr *address, __u8 family)
{
	if (family == 4)
		return endpoint->ipv4 && address->s6_addr32[3] == endpoint->ipv4;
	return !unspecified(address) && same(address, &endpoint->ipv6);
}

static __always_inline bool begins(const struct flow *flow)
{
	return flow->protocol == IPPROTO_TCP && (flow->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* Words of the endpoint for the column in force, by direction. */
struct in_force {
	__u64 now;	/* clock */
	__u64 in_force; /* SWITCH */
	__u64 word[DIRECTIONS];
	__u32 rule; /* that allowed a new flow */
	__u32 zero;
};

static __always_inline enum verdict look(struct __sk_buff *skb, struct in_force *policy)
{
	__u32 zero = 0, ifindex = skb->ifindex;
	const __u64 *in_force = bpf_map_lookup_elem(&SWITCH, &zero);
	const struct words *words = bpf_map_lookup_elem(&POLICIES, &ifindex);

	if (!in_force || !words)
		return DROP_NO_POLICY;
	policy->now = bpf_ktime_get_coarse_ns();
	policy->in_force = *(volatile const __u64 *)in_force;
	if (policy->in_force & 1) {
		policy->word[INGRESS] = *(volatile const __u64 *)&words->word[1][INGRESS];
		policy->word[EGRESS] = *(volatile const __u64 *)&words->word[1][EGRESS];
	} else {
		policy->word[INGRESS] = *(volatile const __u64 *)&words->word[0][INGRESS];
		policy->word[EGRESS] = *(volatile const __u64 *)&words->word[0][EGRESS];
	}
	if ((policy->word[INGRESS] & 0xffff) != (ifindex & 0xffff) ||
	    (policy->word[EGRESS] & 0xffff) != (ifindex & 0xffff))
		return DROP_NO_POLICY;
	return PASS;
}

/* Whether an ICMP error is about a packet of a flow of this endpoint that is allowed. */
static __noinline bool related(struct __sk_buff *skb, const struct endpoint *endpoint, const struct flow *error,
			       const struct in_force *policy, enum hook hook)
{
	struct flow flow = {};
	struct conn_key key = {};
	const struct conn *conn;
	bool forward, mine;

	if (!quoted(skb, error, &flow))
		return false;
	if (!is_own(endpoint, hook == TO_POD ? &flow.source : &flow.destination, flow.family))
		return false;
	forward = key_of(&flow, &key);
	conn = bpf_map_lookup_elem(&CONNS, &key);
	if (!conn || conn->expires <= policy->now)
		return false;
	forward = forward == !(conn->flags & CONN_FROM_B);
	mine = (hook == TO_POD) == forward;
	if (!mine && conn->flags & CONN_OWN_HOST)
		return true;
	return mine ? conn->epoch[EGRESS] == policy->word[EGRESS] >> 32 :
		      conn->epoch[INGRESS] == policy->word[INGRESS] >> 32;
}

enum how {
	HOW_EGRESS = 1, /* else ingress */
	HOW_FROM_A = 2,
	HOW_OWN_HOST = 4,
};

/* Make an entry of a flow that `rule` allowed. Apart, for its stack's sake. */
static __noinline bool remembered(struct __sk_buff *skb, const struct flow *flow, const struct conn_key *key,
				  const struct in_force *policy, __u32 how)
{
	struct conn conn = { .format = CONN_FORMAT, .flags = CONN_VIA_STACK, .created = policy->now };
	bool from_a = how & HOW_FROM_A;

	if (how & HOW_OWN_HOST) {
		conn.flags |= CONN_OWN_HOST;
	} else if (how & HOW_EGRESS) {
		conn.epoch[EGRESS] = policy->word[EGRESS] >> 32;
		conn.rule[EGRESS] = policy->rule;
	} else {
		conn.epoch[INGRESS] = policy->word[INGRESS] >> 32;
		conn.rule[INGRESS] = policy->rule;
	}
	if (!from_a)
		conn.flags |= CONN_FROM_B;
	conn.tcp = flow->protocol == IPPROTO_TCP ? tcp_after(0, flow->tcp_flags, from_a, true) : 0;
	conn.expires = policy->now + timeout_of(flow->protocol, conn.tcp);
	conn.counter[from_a ? 0 : 1].packets = 1;
	conn.counter[from_a ? 0 : 1].bytes = skb->len;
	return !bpf_map_update_elem(&CONNS, key, &conn, BPF_ANY);
}

/* A flow that has no entry, or whose entry is dead. */
static __always_inline enum verdict begin(struct __sk_buff *skb, const struct flow *flow, const struct conn_key *key,
					  struct in_force *policy, enum hook hook, bool from_a, bool own_host)
{
	__u32 how = (hook == FROM_POD ? HOW_EGRESS : 0) | (from_a ? HOW_FROM_A : 0) | (own_host ? HOW_OWN_HOST : 0);
	__u64 result;

	if (!own_host) {
		result = judged(skb, flow, policy->word[hook == FROM_POD ? EGRESS : INGRESS], policy->in_force);
		skb->cb[0] = policy->rule = result >> 32;
		if ((__u32)result != PASS)
			return (__u32)result;
	}
	if (flow->shape || remembered(skb, flow, key, policy, how) || own_host)
		return PASS;
	return DROP_TABLE_FULL;
}

/* A flow that has an entry: it passes if policy allowed it and has not changed, else it is judged as at its start. */
static __always_inline enum verdict resume(struct __sk_buff *skb, struct flow *flow, const struct conn_key *key,
					   struct conn *conn, const struct in_force *policy, enum hook hook,
					   bool from_a, bool own_host)
{
	bool forward = from_a == !(conn->flags & CONN_FROM_B);
	enum direction direction = (hook == FROM_POD) == forward ? EGRESS : INGRESS;
	bool exempt = own_host ? forward : direction == INGRESS && !forward && conn->flags & CONN_OWN_HOST;
	__u64 word = direction == EGRESS ? policy->word[EGRESS] : policy->word[INGRESS], result;
	__u32 *epoch = direction == EGRESS ? &conn->epoch[EGRESS] : &conn->epoch[INGRESS];
	__u32 *rule = direction == EGRESS ? &conn->rule[EGRESS] : &conn->rule[INGRESS];

	if (!exempt && *epoch != word >> 32) {
		turn(flow, key, conn->flags & CONN_FROM_B);
		result = judged(skb, flow, word, policy->in_force);
		skb->cb[0] = result >> 32;
		if ((__u32)result != PASS)
			return (__u32)result;
		*epoch = word >> 32;
		*rule = result >> 32;
	}
	touch(skb, conn, flow, from_a, forward, policy->now);
	return PASS;
}

static __always_inline enum verdict admit(struct __sk_buff *skb, const struct endpoint *endpoint, struct flow *flow,
					  enum hook hook)
{
	bool own_host = hook == TO_POD && skb->mark & MARK_OWN_HOST, from_a, reversed;
	struct in_force policy = {};
	struct conn_key key = {};
	enum verdict verdict;
	struct conn *conn;

	/* A pod to itself, by way of a service. What comes from elsewhere with its address has not passed from_pod. */
	if (hook == FROM_POD ? is_own(endpoint, &flow->destination, flow->family) :
			       is_own(endpoint, &flow->source, flow->family) && skb->mark & MARK_SEEN)
		return PASS;
	verdict = look(skb, &policy);
	if (verdict != PASS)
		return own_host ? PASS : verdict;
	if (flow->shape & SHAPE_ERROR && (own_host || related(skb, endpoint, flow, &policy, hook)))
		return PASS;
	from_a = key_of(flow, &key);
	conn = bpf_map_lookup_elem(&CONNS, &key);
	if (!conn || conn->expires <= policy.now || (begins(flow) && closed(conn)))
		return begin(skb, flow, &key, &policy, hook, from_a, own_host);
	reversed = from_a == !!(conn->flags & CONN_FROM_B);
	if (reversed && begins(flow) && !own_host) {
		/* The other side opens a connection of its own between the same ports: judged, not remembered. */
		__u64 word = hook == FROM_POD ? policy.word[EGRESS] : policy.word[INGRESS];
		__u64 result = judged(skb, flow, word, policy.in_force);

		skb->cb[0] = result >> 32;
		return (__u32)result;
	}
	return resume(skb, flow, &key, conn, &policy, hook, from_a, own_host);
}
