/*
 * Sockets. A socket file that is left over is replaced under a lock, so that a gateway that is alive never loses its
 * own: the lock is held for life, and the kernel gives it up whatever ends the process.
 */
#include "http_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 128 };

static const char scheme[] = "unix:";

bool http_listen_usual(char *ret, size_t size)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");
	int n;

	if (dir && *dir == '/')
		n = snprintf(ret, size, "%s%s/sinkd/http.sock", scheme, dir);
	else
		n = snprintf(ret, size, "%s/run/user/%ld/sinkd/http.sock", scheme, (long)getuid());
	return n > 0 && (size_t)n < size;
}

/* ---- unix ---- */

static bool take_lock(struct http_listener *l, const char *path, char *cause, size_t size)
{
	char name[sizeof(l->path) + 8], *slash;

	snprintf(name, sizeof(name), "%s", path);
	slash = strrchr(name, '/');
	if (slash > name) {
		*slash = '\0';
		if (mkdir(name, 0700) && errno != EEXIST) {
			snprintf(cause, size, "The directory %s cannot be made: %s.", name, strerror(errno));
			return false;
		}
	}
	snprintf(name, sizeof(name), "%s.lock", path);
	l->lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (l->lock >= 0 && flock(l->lock, LOCK_EX | LOCK_NB) == 0)
		return true;
	if (l->lock >= 0 && errno == EWOULDBLOCK)
		snprintf(cause, size, "Somebody else serves %s already.", path);
	else
		snprintf(cause, size, "The lock file %s cannot be used: %s.", name, strerror(errno));
	return false;
}

/* Whether somebody listens there who knows nothing of our lock. */
static bool is_served(const struct sockaddr_un *at)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool served = fd >= 0 && (connect(fd, (const struct sockaddr *)at, sizeof(*at)) == 0 || errno == EAGAIN);

	if (fd >= 0)
		close(fd);
	return served;
}

static bool open_unix(const char *path, struct http_listener *l, char *cause, size_t size)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct stat st;
	mode_t mask;
	bool bound;

	if (*path != '/' || strlen(path) >= sizeof(at.sun_path)) {
		snprintf(cause, size, "\"%.120s\" is no absolute path of at most %zu bytes.", path,
			 sizeof(at.sun_path) - 1);
		return false;
	}
	memcpy(at.sun_path, path, strlen(path));
	if (!take_lock(l, path, cause, size))
		return false;
	if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
		snprintf(cause, size, "%s is there and is no socket.", path);
		return false;
	}
	if (is_served(&at)) {
		snprintf(cause, size, "Somebody else listens at %s.", path);
		return false;
	}
	unlink(path);
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mask = umask(0177);
	bound = l->fd >= 0 && bind(l->fd, (const struct sockaddr *)&at, sizeof(at)) == 0;
	umask(mask);
	if (!bound || listen(l->fd, BACKLOG)) {
		snprintf(cause, size, "%s cannot be listened at: %s.", path, strerror(errno));
		return false;
	}
	memcpy(l->path, path, strlen(path) + 1);
	return true;
}

/* ---- TCP ---- */

static bool is_loopback(const struct sockaddr *a)
{
	if (a->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

/* The parts of ADDRESS:PORT. */
static bool split(const char *address, char *host, size_t host_size, const char **port)
{
	const char *colon = strrchr(address, ':');
	size_t len = colon ? (size_t)(colon - address) : 0;

	if (!colon || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return false;
	if (len > 1 && address[0] == '[' && address[len - 1] == ']') {
		address++;
		len -= 2;
	}
	if (!len || len >= host_size)
		return false;
	memcpy(host, address, len);
	host[len] = '\0';
	*port = colon + 1;
	return true;
}

static bool open_tcp(const char *address, bool keyed, struct http_listener *l, char *cause, size_t size)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *found = NULL;
	const char *port;
	char host[64];
	bool good = false;
	int on = 1;

	if (!split(address, host, sizeof(host), &port) || getaddrinfo(host, port, &hints, &found)) {
		snprintf(cause, size, "\"%.120s\" is neither unix:PATH nor ADDRESS:PORT in numbers.", address);
		return false;
	}
	if (!keyed && !is_loopback(found->ai_addr)) {
		snprintf(cause, size, "Others can reach %s, so keys must be asked for: see --key-file.", address);
		goto out;
	}
	l->fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd >= 0)
		setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	good = l->fd >= 0 && bind(l->fd, found->ai_addr, found->ai_addrlen) == 0 && listen(l->fd, BACKLOG) == 0;
	if (!good)
		snprintf(cause, size, "%s cannot be listened at: %s.", address, strerror(errno));
out:
	freeaddrinfo(found);
	return good;
}

bool http_listen_open(const char *address, bool keyed, struct http_listener *ret, char *cause, size_t size)
{
	struct http_listener l = { .fd = -1, .lock = -1 };
	bool good;

	if (strncmp(address, scheme, strlen(scheme)) == 0)
		good = open_unix(address + strlen(scheme), &l, cause, size);
	else
		good = open_tcp(address, keyed, &l, cause, size);
	if (!good && l.fd >= 0)
		close(l.fd);
	if (!good && l.lock >= 0)
		close(l.lock);
	if (good)
		*ret = l;
	return good;
}

bool http_listen_fits(int fd, bool keyed)
{
	struct sockaddr_storage at = { 0 };
	socklen_t size = sizeof(at);

	if (getsockname(fd, (struct sockaddr *)&at, &size))
		return false;
	if (at.ss_family == AF_UNIX)
		return true;
	if (at.ss_family != AF_INET && at.ss_family != AF_INET6)
		return false;
	return keyed || is_loopback((const struct sockaddr *)&at);
}

void http_listen_close(struct http_listener *l)
{
	if (*l->path)
		unlink(l->path);
	if (l->lock >= 0)
		close(l->lock);
	*l = (struct http_listener){ .fd = -1, .lock = -1 };
}
