/*
 * The protocol of sd_notify(3) and sd_listen_fds(3), written down: a datagram, and two variables. libsystemd brings
 * in the libraries of four compressors and a cipher, which would be a tenth of this process's memory.
 */
#include "http_manager.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST = 3 };

static bool is_listening(int fd)
{
	int on = 0, type = 0;
	socklen_t size = sizeof(on);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &size) == 0 && on &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

size_t http_manager_sockets(int *fd, size_t most)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	long passed = pid && fds && strtol(pid, NULL, 10) == getpid() ? strtol(fds, NULL, 10) : 0;
	size_t count = 0;

	for (int one = FIRST; one < FIRST + passed; one++) {
		if (count == most || !is_listening(one)) {
			close(one);
			continue;
		}
		fcntl(one, F_SETFD, FD_CLOEXEC);
		fcntl(one, F_SETFL, fcntl(one, F_GETFL) | O_NONBLOCK);
		fd[count++] = one;
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return count;
}

void http_manager_say(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t size = path ? strlen(path) : 0;
	int out;

	if (size < 2 || size >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, size);
	if (path[0] == '@')
		to.sun_path[0] = '\0'; /* the abstract namespace */
	out = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (out < 0)
		return;
	sendto(out, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&to,
	       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size));
	close(out);
}
