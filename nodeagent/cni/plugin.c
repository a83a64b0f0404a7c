/* SPDX-License-Identifier: Apache-2.0 */
/* The CNI plugin (CNI specification 1.1): hands its call to the node agent and its answer to the runtime.
 *
 * Request, on the agent's unix socket: each CNI_* variable as `NAME=value` with a closing NUL, one more NUL, what came
 * on stdin; then the writing side is closed. With its first byte travels the sandbox's network namespace as an open
 * file, because agent and runtime may live in different mount namespaces; if it cannot be opened, NETNS_ERROR says why.
 * Answer: '0' or '1', the exit status, and what to print.
 *
 * Without an agent, VERSION answers, STATUS fails with 50 and all else with 11. So does DEL: it may succeed though
 * something is missing already, but the agent's record of the endpoint is not missing, and success would be the last
 * that anybody hears of this sandbox. The runtime keeps a sandbox whose DEL failed and the kubelet stops it again until
 * it succeeds. (containerd takes an error that says "not found", or without a namespace "no such file or directory",
 * for success: github.com/containerd/go-cni, cni.go. So we do not say that.) */
#include "netconf.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SOCKET "/run/tortie/cni.sock"
#define VERSIONS "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n"
#define INPUT_MOST (64 << 20)

enum code {
	INVALID_ENVIRONMENT = 4,
	IO_FAILURE = 5,
	TRY_AGAIN_LATER = 11,
	NOT_AVAILABLE = 50,
};

/* Seconds: the agent waits so long for the pod's addresses, then so long for its policy (by default, at most), and may
 * be so late. */
#define ENTRY_WITHIN 10
#define POLICY_WITHIN 5
#define POLICY_MOST 90
#define GRACE 1

extern char **environ;

struct buffer {
	char *data;
	size_t length, room;
};

/* `format` and its arguments hold nothing that JSON would have to escape. */
static _Noreturn void fail(enum code code, const char *format, ...)
{
	va_list arguments;

	printf("{\"cniVersion\":\"1.1.0\",\"code\":%d,\"msg\":\"", code);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\"}\n");
	exit(1);
}

static void append(struct buffer *to, const void *data, size_t length)
{
	if (to->length + length + 1 > to->room) {
		to->room = (to->length + length + 1) * 2;
		to->data = realloc(to->data, to->room);
		if (!to->data)
			fail(IO_FAILURE, "out of memory");
	}
	memcpy(to->data + to->length, data, length);
	to->length += length;
	to->data[to->length] = 0;
}

static struct buffer standard_input(void)
{
	struct buffer input = { 0 };
	char chunk[16384];
	ssize_t got;

	append(&input, "", 0);
	while ((got = read(STDIN_FILENO, chunk, sizeof(chunk))) && input.length < INPUT_MOST) {
		if (got > 0)
			append(&input, chunk, got);
		else if (errno != EINTR)
			fail(IO_FAILURE, "the network configuration on stdin is not readable: %s", strerror(errno));
	}
	return input;
}

static struct buffer request(const struct buffer *input, const char *netns_error)
{
	struct buffer made = { 0 };

	for (char **each = environ; *each; each++)
		if (!strncmp(*each, "CNI_", 4))
			append(&made, *each, strlen(*each) + 1);
	if (*netns_error) {
		append(&made, "NETNS_ERROR=", strlen("NETNS_ERROR="));
		append(&made, netns_error, strlen(netns_error) + 1);
	}
	append(&made, "", 1);
	append(&made, input->data, input->length);
	return made;
}

static int dial(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return -1;
	return fd;
}

/* Everything, and `file` (-1: none) with the first byte. False if the agent has gone. */
static bool say(int fd, const struct buffer *what, int file)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	size_t sent = 0;

	while (sent < what->length) {
		struct iovec rest = { what->data + sent, what->length - sent };
		struct msghdr message = { .msg_iov = &rest, .msg_iovlen = 1 };
		ssize_t done;

		if (!sent && file >= 0) {
			struct cmsghdr *header = (void *)control;

			message.msg_control = control;
			message.msg_controllen = sizeof(control);
			header->cmsg_level = SOL_SOCKET;
			header->cmsg_type = SCM_RIGHTS;
			header->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(header), &file, sizeof(int));
		}
		done = sendmsg(fd, &message, MSG_NOSIGNAL);
		if (done < 0 && errno != EINTR)
			return false;
		if (done > 0)
			sent += done;
	}
	return !shutdown(fd, SHUT_WR);
}

static long long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* False if it did not end within `within` milliseconds. Empty if the agent was killed over it. */
static bool hear(int fd, struct buffer *answer, long long within)
{
	long long deadline = milliseconds() + within;
	char chunk[16384];

	for (;;) {
		struct pollfd waiting = { .fd = fd, .events = POLLIN };
		long long left = deadline - milliseconds();
		int ready = left > 0 ? poll(&waiting, 1, left) : 0;
		ssize_t got;

		if (!ready)
			return false;
		got = ready < 0 ? -1 : read(fd, chunk, sizeof(chunk));
		if (!got)
			return true;
		if (got > 0) {
			append(answer, chunk, got);
		} else if (errno != EINTR) {
			answer->length = 0;
			return true;
		}
	}
}

int main(void)
{
	const char *command = getenv("CNI_COMMAND"), *netns = getenv("CNI_NETNS"), *seconds;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct buffer input, sent, answer = { 0 };
	double policy = POLICY_WITHIN;
	int file = -1, agent;
	enum code absent;

	if (!command || !*command)
		fail(INVALID_ENVIRONMENT, "CNI_COMMAND is not set: this is a CNI plugin, run by a container runtime");
	input = standard_input();
	if (!strcmp(command, "VERSION")) {
		fputs(VERSIONS, stdout);
		return 0;
	}
	absent = strcmp(command, "STATUS") ? TRY_AGAIN_LATER : NOT_AVAILABLE;
	if (!text(field(input.data, "socket"), path, sizeof(path)))
		strcpy(path, SOCKET);
	seconds = field(input.data, "policySetupTimeoutSeconds");
	if (seconds && strtod(seconds, NULL) > 0)
		policy = fmin(strtod(seconds, NULL), POLICY_MOST);
	if (netns && *netns)
		file = open(netns, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	sent = request(&input, netns && *netns && file < 0 ? strerror(errno) : "");
	agent = dial(path);
	if (agent < 0)
		fail(absent, "Tortie's node agent is not there: nobody listens on %s", path);
	if (!say(agent, &sent, file))
		fail(absent, "Tortie's node agent went away before it took the request");
	if (!hear(agent, &answer, (ENTRY_WITHIN + GRACE + policy) * 1000))
		fail(absent, "Tortie's node agent has not answered in time");
	if (!answer.length)
		fail(absent, "Tortie's node agent went away before it answered");
	fwrite(answer.data + 1, 1, answer.length - 1, stdout);
	return answer.data[0] == '0' ? 0 : 1;
}
