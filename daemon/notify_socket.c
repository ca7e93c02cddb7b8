/*
 * The service manager's protocol without its library: datagrams to the socket in $NOTIFY_SOCKET, descriptors from 3 on
 * as $LISTEN_PID and $LISTEN_FDS say, $WATCHDOG_USEC. It is small and stable enough to be written down here.
 */
#include "notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_FD = 3 };

static void send_datagram(const char *path, const char *text, size_t len)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t size = strlen(path);
	int fd;

	if (size < 2 || size >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, size);
	if (path[0] == '@')
		to.sun_path[0] = '\0'; /* the abstract namespace */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	sendto(fd, text, len, MSG_NOSIGNAL, (const struct sockaddr *)&to,
	       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size));
	close(fd);
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
	send_datagram(path, text, strlen(text));
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

static int check_listening(int fd, struct err *e)
{
	int value = 0;
	socklen_t size = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &size) < 0 || value != AF_UNIX)
		return err_set(e, SINK_EINVAL, "The descriptor that was passed in is no unix socket.");
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size) < 0 || value != SOCK_STREAM)
		return err_set(e, SINK_EINVAL, "The socket that was passed in is no stream socket.");
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) < 0 || !value)
		return err_set(e, SINK_EINVAL, "The socket that was passed in does not listen.");
	return 0;
}

int notify_listen_fd(int *ret, struct err *e)
{
	long long pid = number_of("LISTEN_PID"), count = number_of("LISTEN_FDS");

	*ret = -1;
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	if (pid != getpid() || count <= 0)
		return 0;
	if (count != 1)
		return err_set(e, SINK_EINVAL, "%lld sockets were passed in; sinkd takes one.", count);
	if (check_listening(FIRST_FD, e) < 0)
		return SINK_EINVAL;
	fcntl(FIRST_FD, F_SETFD, FD_CLOEXEC);
	*ret = FIRST_FD;
	return 0;
}

uint64_t notify_watchdog_usec(void)
{
	long long usec = number_of("WATCHDOG_USEC");

	if (usec <= 0 || (getenv("WATCHDOG_PID") && number_of("WATCHDOG_PID") != getpid()))
		return 0;
	return (uint64_t)usec;
}
