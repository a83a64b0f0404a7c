/* SPDX-License-Identifier: Apache-2.0 */
/* The two fields of the network configuration that concern the plugin itself; the agent reads the others. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* The end of the string whose opening quote is at `p`: its closing quote, or the end of the text. */
static const char *string_end(const char *p)
{
	for (p++; *p && *p != '"'; p++)
		if (*p == '\\' && p[1])
			p++;
	return p;
}

/* The first character of the value of a field of the outermost object; NULL if there is none. `json` need not be
 * well-formed. */
static const char *field(const char *json, const char *name)
{
	size_t length = strlen(name);
	int depth = 0;

	for (const char *p = json; *p; p++) {
		if (*p == '{' || *p == '[')
			depth++;
		if (*p == '}' || *p == ']')
			depth--;
		if (*p != '"')
			continue;
		const char *start = p + 1, *after;

		p = string_end(p);
		if (!*p)
			return NULL;
		after = p + 1 + strspn(p + 1, " \t\r\n");
		if (depth == 1 && *after == ':' && (size_t)(p - start) == length && !memcmp(start, name, length))
			return after + 1 + strspn(after + 1, " \t\r\n");
	}
	return NULL;
}

/* Copy a string value without escapes. False if it is none or too long. */
static bool text(const char *value, char *to, size_t size)
{
	if (!value || *value != '"')
		return false;
	size_t length = string_end(value) - value - 1;

	if (length >= size || memchr(value + 1, '\\', length))
		return false;
	memcpy(to, value + 1, length);
	to[length] = 0;
	return true;
}
