/*
 * accept(2) as libzmq calls it, between it and the C library. libzmq 4.3 ends the process when accept on an ipc socket
 * fails for want of descriptors (EMFILE), but takes the system's own want of them (ENFILE) for something that passes.
 * To the daemon it is the same: server.c closes what is too many, and until it has, a connection waits. The pause keeps
 * the thread of libzmq, which would ask again at once, from burning a core meanwhile.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
	const struct timespec pause = { 0, 1000000 };
	int got = (int)syscall(SYS_accept4, fd, address, size, flags);

	if (got < 0 && errno == EMFILE) {
		nanosleep(&pause, NULL);
		errno = ENFILE;
	}
	return got;
}

int accept(int fd, struct sockaddr *address, socklen_t *size)
{
	return accept4(fd, address, size, 0);
}
