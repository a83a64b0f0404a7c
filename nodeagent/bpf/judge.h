/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What policy says of a new flow: classes of its ends and of what it is, the rows of these, the first bit they share. */
#pragma once

#include "flow.h"
#include "policymaps.h"
#include "verdict.h"

#define MOST_STEPS 128 /* lines looked at, logs and passed tiers of one judgement */

/* Branchless: with branches the verifier would have to follow each. */
static __always_inline __u64 ones(__u64 x)
{
	x -= x >> 1 & 0x5555555555555555ULL;
	x = (x & 0x3333333333333333ULL) + (x >> 2 & 0x3333333333333333ULL);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return x * 0x0101010101010101ULL >> 56;
}

/* Number of the lowest bit of what is not 0. */
static __always_inline __u64 first_bit(__u64 x)
{
	return ones((x & -x) - 1);
}

static __always_inline __u32 room_of(__u64 in_force)
{
	return (in_force & 1 ? in_force >> 32 : in_force >> 8) & 0xffffff;
}

static __always_inline __u16 folded(__u32 x)
{
	return x ^ x >> 16;
}

static __always_inline __u32 in_column(__u64 value, __u32 column)
{
	return value >> 24 * column & 0xffffff;
}

/* An element that has become another address's meanwhile is looked up once more. */
static __always_inline __u32 class4(__u32 address, __u32 column)
{
	struct net4 net = { 32, address };
	const __u64 *found;

	for (int i = 0; i < 2; i++) {
		found = bpf_map_lookup_elem(&ADDRESSES4, &address);
		if (!found)
			break;
		__u64 value = *(volatile const __u64 *)found;
		if (value >> 48 == folded(address))
			return in_column(value, column);
	}
	if (found)
		return CLASS_MISSING;
	found = bpf_map_lookup_elem(&NETS4, &net);
	return found ? in_column(*found, column) : CLASS_MISSING;
}

static __always_inline __u32 class6(const struct in6_addr *address, __u32 column)
{
	struct net6 net = { 128, *address };
	const __u64 *found;
	__u32 fold = address->s6_addr32[0] ^ address->s6_addr32[1] ^ address->s6_addr32[2] ^ address->s6_addr32[3];

	for (int i = 0; i < 2; i++) {
		found = bpf_map_lookup_elem(&ADDRESSES6, address);
		if (!found)
			break;
		__u64 value = *(volatile const __u64 *)found;
		if (value >> 48 == folded(fold))
			return in_column(value, column);
	}
	if (found)
		return CLASS_MISSING;
	found = bpf_map_lookup_elem(&NETS6, &net);
	return found ? in_column(*found, column) : CLASS_MISSING;
}

static __noinline __u32 class_of(const struct in6_addr *address, __u32 family, __u32 column)
{
	return family == 4 ? class4(address->s6_addr32[3], column) : class6(address, column);
}

static __always_inline __u32 kind_class(__u8 protocol, __u16 port, bool source, __u32 column)
{
	__u32 key = KINDS_OF_OTHERS * KINDS_EACH + protocol;
	const __u64 *found;

	if (protocol == IPPROTO_TCP)
		key = KINDS_OF_TCP * KINDS_EACH + port;
	else if (protocol == IPPROTO_UDP)
		key = KINDS_OF_UDP * KINDS_EACH + port;
	else if (protocol == IPPROTO_SCTP)
		key = KINDS_OF_SCTP * KINDS_EACH + port;
	else if (protocol == IPPROTO_ICMP && !source)
		key = KINDS_OF_ICMP * KINDS_EACH + port;
	else if (protocol == IPPROTO_ICMPV6 && !source)
		key = KINDS_OF_ICMP6 * KINDS_EACH + port;
	found = bpf_map_lookup_elem(&KINDS, &key);
	return found ? *found >> 32 * column & 0xffffffff : CLASS_MISSING;
}

/* One side's part in a judgement; line 0 is all ones, for sides that no rule looks at. */
struct side {
	__u64 mask;
	__u32 first;
	__u32 constrained;
};

static __always_inline enum verdict side_of(struct side *side, __u32 region, __u32 class, __u32 room)
{
	const struct row *row;
	__u32 key = region + class;

	if (class == CLASS_UNKNOWN)
		return DROP_UNKNOWN;
	if (class == CLASS_MISSING || class >= room)
		return DROP_NO_POLICY;
	row = bpf_map_lookup_elem(&ROWS, &key);
	if (!row || !row->present)
		return DROP_NO_POLICY;
	side->mask = row->mask;
	side->first = row->first;
	side->constrained = 1;
	return PASS;
}

static __always_inline const struct line *line_of(const struct side *side, __u64 number, __u64 bit)
{
	__u32 key = 0;

	if (side->constrained)
		key = side->first + (number ? ones(side->mask & (bit - 1)) : 0);
	return bpf_map_lookup_elem(&LINES, &key);
}

struct sides {
	struct side source, destination, kind, source_kind;
};

/* The first bit from `from` on (of 512) that is in a line whose words WORD(i) gives; -1. */
#define NOTE(i) word = WORD(i), words |= (word | -word) >> 63 << i;
#define FIRST_BIT_FROM(from) \
	({ \
		__u64 word, words = 0, at; \
		int found = -1; \
		NOTE(0) NOTE(1) NOTE(2) NOTE(3) NOTE(4) NOTE(5) NOTE(6) NOTE(7) \
		words &= 0xff << ((from) >> 6); \
		if (words) { \
			at = words & 1 ? 0 : first_bit(words) & 7; \
			word = WORD(at); \
			if (at == (from) >> 6) { \
				word &= ~0ULL << ((from) & 63); \
				if (!word) { \
					words &= words - 1; \
					at = first_bit(words) & 7; \
					word = words ? WORD(at) : 0; \
				} \
			} \
			if (word) \
				found = at * 64 + first_bit(word); \
		} \
		found; \
	})

/* The first atom from `cursor` on, in the line that `bit` of the sides' masks stands for, that both sides have; -1.
 * Not static: the verifier looks at it once, and not in each round of its callers. */
__noinline int first_of_two(const struct side *one, const struct side *other, __u64 bit, __u32 cursor)
{
	__u64 number = bit == 1 ? 0 : first_bit(bit), from = 0;
	const struct line *a, *b;
	int found;

	if (!one || !other)
		return -1;
	a = line_of(one, number, bit);
	b = line_of(other, number, bit);
	if (!a || !b)
		return -1;
	if (cursor / LINE_ATOMS == number)
		from = cursor % LINE_ATOMS;
#define WORD(i) (a->word[i] & b->word[i])
	found = FIRST_BIT_FROM(from);
#undef WORD
	return found < 0 ? found : (int)number * LINE_ATOMS + found;
}

/* The same for all four sides. */
__noinline int first_of_all(const struct sides *sides, __u64 bit, __u32 cursor)
{
	__u64 number = bit == 1 ? 0 : first_bit(bit), from = 0;
	const struct line *s, *d, *k, *p;
	int found;

	if (!sides)
		return -1;
	s = line_of(&sides->source, number, bit);
	d = line_of(&sides->destination, number, bit);
	k = line_of(&sides->kind, number, bit);
	p = line_of(&sides->source_kind, number, bit);
	if (!s || !d || !k || !p)
		return -1;
	if (cursor / LINE_ATOMS == number)
		from = cursor % LINE_ATOMS;
#define WORD(i) (s->word[i] & d->word[i] & k->word[i] & p->word[i])
	found = FIRST_BIT_FROM(from);
#undef WORD
	return found < 0 ? found : (int)number * LINE_ATOMS + found;
}

/* Low 32 bits: verdict; high 32 bits: the rule that decided. */
#define JUDGED_AS(verdict, rule) ((__u64)(rule) << 32 | (verdict))

__noinline __u64 judged(struct __sk_buff *skb, const struct flow *flow, __u64 word, __u64 in_force)
{
	__u32 number = word >> 16 & 0xffff, column = in_force & 1, room = room_of(in_force), cursor = 0, key;
	const struct stack *stack = bpf_map_lookup_elem(&STACKS, &number);
	struct sides sides = { .source.mask = ~0ULL, .destination.mask = ~0ULL, .kind.mask = ~0ULL,
			       .source_kind.mask = ~0ULL };
	const struct atom *atom;
	enum verdict verdict;
	__u64 lines;
	bool few;
	int hit;

	if (!flow || !stack || !stack->count)
		return DROP_NO_POLICY;
	if (stack->source != UNCONSTRAINED) {
		verdict = side_of(&sides.source, stack->source, class_of(&flow->source, flow->family, column), room);
		if (verdict != PASS)
			return verdict;
	}
	if (stack->destination != UNCONSTRAINED) {
		verdict = side_of(&sides.destination, stack->destination,
				  class_of(&flow->destination, flow->family, column), room);
		if (verdict != PASS)
			return verdict;
	}
	if (stack->kind != UNCONSTRAINED) {
		verdict = side_of(&sides.kind, stack->kind, kind_class(flow->protocol, flow->port, false, column), room);
		if (verdict != PASS)
			return verdict;
	}
	if (stack->source_kind != UNCONSTRAINED) {
		verdict = side_of(&sides.source_kind, stack->source_kind,
				  kind_class(flow->protocol, flow->source_port, true, column), room);
		if (verdict != PASS)
			return verdict;
	}
	/* Most stacks look at one end only, and at no source ports. */
	few = !sides.source_kind.constrained && !(sides.source.constrained && sides.destination.constrained);
	lines = sides.source.mask & sides.destination.mask & sides.kind.mask & sides.source_kind.mask;
	for (int i = 0; i < MOST_STEPS; i++) {
		if (!lines)
			return DROP_NO_POLICY;
		if (few)
			hit = first_of_two(sides.destination.constrained ? &sides.destination : &sides.source,
					   &sides.kind, lines & -lines, cursor);
		else
			hit = first_of_all(&sides, lines & -lines, cursor);
		if (hit < 0) {
			lines &= lines - 1;
			continue;
		}
		if ((__u32)hit >= stack->count)
			return DROP_NO_POLICY;
		key = stack->atoms + hit;
		atom = bpf_map_lookup_elem(&ATOMS, &key);
		if (!atom)
			return DROP_NO_POLICY;
		key = atom->rule;
		count(bpf_map_lookup_elem(&RULES, &key), skb);
		switch (atom->action) {
		case ACTION_ALLOW:
			return JUDGED_AS(PASS, key);
		case ACTION_DENY:
			return JUDGED_AS(DROP_POLICY, key);
		case ACTION_LOG:
			cursor = hit + 1;
			break;
		case ACTION_PASS:
			cursor = atom->next;
			break;
		default:
			return DROP_NO_POLICY;
		}
		if (cursor / LINE_ATOMS >= MOST_LINES)
			return DROP_NO_POLICY;
		lines &= ~0ULL << cursor / LINE_ATOMS;
	}
	return DROP_TOO_LONG;
}
