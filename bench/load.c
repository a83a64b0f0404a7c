/* SPDX-License-Identifier: Apache-2.0 */
/* Load between two network namespaces, one connection at a time, for ratios of the path's cost:
 *
 *     load serve PORT                        answers each byte with a byte on PORT; swallows what comes on PORT + 1
 *     load rr|crr|stream ADDRESS PORT MS     requests on one connection | connections with one request | bytes, a second
 *
 * IPv4 and IPv6. The server says when it listens, and ends with its stdin. */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[1 << 17];

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int listener(int port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int one = 1, fd = socket(AF_INET6, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (void *)&any, sizeof(any)) || listen(fd, 4096))
		err(1, "port %d", port);
	return fd;
}

static void watch(int poll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event))
		err(1, "epoll_ctl");
}

static void serve(int port)
{
	int poll = epoll_create1(0), echo = listener(port), sink = listener(port + 1);
	static char swallows[1 << 16];
	struct epoll_event events[64];

	watch(poll, echo);
	watch(poll, sink);
	watch(poll, STDIN_FILENO);
	puts("listening");
	fflush(stdout);
	for (;;) {
		int count = epoll_wait(poll, events, 64, -1);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd, one = 1;
			ssize_t length;

			if (fd == echo || fd == sink) {
				int connection = accept(fd, NULL, NULL);

				if (connection < 0 || connection >= (int)sizeof(swallows))
					errx(1, "accept");
				setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
				swallows[connection] = fd == sink;
				watch(poll, connection);
				continue;
			}
			if (fd == STDIN_FILENO)
				exit(0);
			length = read(fd, buffer, swallows[fd] ? sizeof(buffer) : 1);
			if (length <= 0 || (!swallows[fd] && write(fd, buffer, 1) != 1))
				close(fd);
		}
	}
}

static int dial(const char *address, int port)
{
	struct sockaddr_in six4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 six6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int six = !!strchr(address, ':'), one = 1, fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
	struct linger reset = { .l_onoff = 1 }; /* no TIME_WAIT: ports would run out */

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	if (!inet_pton(six ? AF_INET6 : AF_INET, address, six ? (void *)&six6.sin6_addr : (void *)&six4.sin_addr))
		errx(1, "address %s", address);
	if (connect(fd, six ? (void *)&six6 : (void *)&six4, six ? sizeof(six6) : sizeof(six4)))
		err(1, "connect %s port %d", address, port);
	return fd;
}

static void ask(int fd)
{
	if (write(fd, "?", 1) != 1 || read(fd, buffer, 1) != 1)
		err(1, "request");
}

int main(int argc, char **argv)
{
	double begin, end, count = 0;
	int port, fd = -1;

	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve(atoi(argv[2]));
	if (argc != 5)
		errx(2, "serve PORT | rr|crr|stream ADDRESS PORT MS");
	port = atoi(argv[3]);
	if (!strcmp(argv[1], "stream"))
		fd = dial(argv[2], port + 1);
	else if (!strcmp(argv[1], "rr"))
		fd = dial(argv[2], port);
	begin = now();
	for (end = begin + atoi(argv[4]) / 1e3; now() < end;) {
		if (!strcmp(argv[1], "stream")) {
			ssize_t sent = write(fd, buffer, sizeof(buffer));

			if (sent < 0)
				err(1, "write");
			count += sent;
			continue;
		}
		if (!strcmp(argv[1], "crr"))
			fd = dial(argv[2], port);
		ask(fd);
		if (!strcmp(argv[1], "crr"))
			close(fd);
		count++;
	}
	printf("%.1f\n", count / (now() - begin));
	return 0;
}
