/*
 * The service manager's protocol without its library: datagrams to the socket in $NOTIFY_SOCKET, descriptors from 3 on
 * as $LISTEN_PID and $LISTEN_FDS say, $WATCHDOG_USEC. It is small and stable enough to be written down here.
 */
#include "notify.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "listen.h"

/* One datagram to the manager, with a descriptor unless that is -1. */
static int send_datagram(const char *path, const char *text, int fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .head = {
			      .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct iovec data = { (void *)(uintptr_t)text, strlen(text) };
	struct msghdr message = { .msg_name = &to, .msg_iov = &data, .msg_iovlen = 1 };
	size_t size = path ? strlen(path) : 0;
	ssize_t sent;
	int out;

	if (size < 2 || size >= sizeof(to.sun_path))
		return SINK_EIO;
	memcpy(to.sun_path, path, size);
	if (path[0] == '@')
		to.sun_path[0] = '\0'; /* the abstract namespace */
	message.msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	out = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (out < 0)
		return SINK_EIO;
	sent = sendmsg(out, &message, MSG_NOSIGNAL);
	close(out);
	return sent < 0 ? SINK_EIO : 0;
}

void notify_send(const char *fmt, ...)
{
	const char *path = getenv("NOTIFY_SOCKET");
	char text[512];
	va_list args;

	if (!path)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	send_datagram(path, text, -1);
}

void notify_reloading(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	notify_send("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

/* A variable's number; -1 when it is absent or none. */
static long long number_of(const char *name)
{
	const char *text = getenv(name);
	char *end;
	long long n;

	if (!text || !*text)
		return -1;
	errno = 0;
	n = strtoll(text, &end, 10);
	return errno || *end || n < 0 ? -1 : n;
}

int notify_take_fds(struct notify_fds *ret, struct err *e)
{
	long long count = number_of("LISTEN_PID") == getpid() ? number_of("LISTEN_FDS") : 0;
	int rc = listen_sort(count < INT_MAX ? (int)count : 0, getenv("LISTEN_FDNAMES"), ret, e);

	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return rc;
}

bool notify_keeps_fds(void)
{
	return getenv("NOTIFY_SOCKET") && (!getenv("FDSTORE") || number_of("FDSTORE") > 0);
}

int notify_keep_fd(const char *name, int fd)
{
	char text[512];

	notify_forget_fd(name);
	snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
	return send_datagram(getenv("NOTIFY_SOCKET"), text, fd);
}

void notify_forget_fd(const char *name)
{
	notify_send("FDSTOREREMOVE=1\nFDNAME=%s", name);
}

uint64_t notify_watchdog_usec(void)
{
	long long usec = number_of("WATCHDOG_USEC");

	if (usec <= 0 || (getenv("WATCHDOG_PID") && number_of("WATCHDOG_PID") != getpid()))
		return 0;
	return (uint64_t)usec;
}
