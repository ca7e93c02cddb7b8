/*
 * Owns the socket file and its lock, and knows which descriptors of the service manager are what. ZeroMQ would take a
 * path away from a daemon that is alive, so it is never asked to bind one: it gets a socket that listens already.
 *
 * A socket that the manager has kept may have lost its file meanwhile, to a daemon that was started by hand. The lock
 * says that no such daemon lives any more, and a connection by the path tells whether it leads to that socket still.
 */
#include "listen.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 128, FIRST_PASSED = 3 };

static const char scheme[] = "ipc://";

bool listen_knows(const char *endpoint)
{
	return strncmp(endpoint, scheme, strlen(scheme)) == 0;
}

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	memcpy(at.sun_path, path, strlen(path));
	return at;
}

static int make_directory(const char *path, struct err *e)
{
	char directory[sizeof(((struct listener *)0)->path)];
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;

	if (!len)
		return 0;
	memcpy(directory, path, len);
	directory[len] = '\0';
	if (mkdir(directory, 0700) < 0 && errno != EEXIST)
		return err_set(e, SINK_EIO, "The directory %s cannot be made: %s (see the option listen).", directory,
			       strerror(errno));
	return 0;
}

static int take_lock(struct listener *l, const char *path, struct err *e)
{
	char name[sizeof(l->path) + 8], text[32] = "";
	ssize_t n;

	snprintf(name, sizeof(name), "%s.lock", path);
	l->lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (l->lock < 0)
		return err_set(e, SINK_EIO, "The lock file %s cannot be opened: %s.", name, strerror(errno));
	if (flock(l->lock, LOCK_EX | LOCK_NB) < 0) {
		n = read(l->lock, text, sizeof(text) - 1);
		return err_set(e, SINK_EBUSY, "Another sinkd (process %ld) serves %s already.", n > 0 ? atol(text) : 0,
			       path);
	}
	n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (ftruncate(l->lock, 0) < 0 || pwrite(l->lock, text, (size_t)n, 0) != n)
		return err_set(e, SINK_EIO, "The lock file %s cannot be written: %s.", name, strerror(errno));
	return 0;
}

/* What is left of a daemon that is dead; under the lock nobody alive can own it. */
static int remove_stale(const char *path, struct err *e)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, SINK_EINVAL, "%s is there and is no socket.", path);
	if (unlink(path) < 0)
		return err_set(e, SINK_EIO, "The old socket %s cannot be removed: %s.", path, strerror(errno));
	return 0;
}

static int open_socket(struct listener *l, const char *path, struct err *e)
{
	const struct sockaddr_un at = address_of(path);
	mode_t mask;
	int rc;

	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return err_set(e, SINK_EIO, "A socket cannot be made: %s.", strerror(errno));
	mask = umask(0177);
	rc = bind(l->fd, (const struct sockaddr *)&at, sizeof(at));
	umask(mask);
	if (rc < 0 || listen(l->fd, BACKLOG) < 0)
		return err_set(e, SINK_EIO, "%s cannot be listened on: %s.", path, strerror(errno));
	memcpy(l->path, path, strlen(path) + 1);
	return 0;
}

/* Whether somebody listens behind the file. A queue that is full is somebody's. */
static bool is_reached(const char *path)
{
	const struct sockaddr_un at = address_of(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool reached = fd >= 0 && (connect(fd, (const struct sockaddr *)&at, sizeof(at)) == 0 || errno == EAGAIN);

	if (fd >= 0)
		close(fd);
	return reached;
}

/* The path that a socket was bound to; false when it has none that we could have made. */
static bool bound_path(int fd, char ret[sizeof(((struct listener *)0)->path)])
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	socklen_t size = sizeof(at);

	if (getsockname(fd, (struct sockaddr *)&at, &size) < 0 || at.sun_path[0] != '/' ||
	    !memchr(at.sun_path, '\0', sizeof(at.sun_path)))
		return false;
	memcpy(ret, at.sun_path, sizeof(at.sun_path));
	return true;
}

bool listen_endpoint(const struct listener *l, char ret[LISTEN_ENDPOINT])
{
	char path[sizeof(l->path)];

	if (l->fd < 0 || !bound_path(l->fd, path))
		return false;
	snprintf(ret, LISTEN_ENDPOINT, "%s%s", scheme, path);
	return true;
}

void listen_discard(int fd)
{
	struct listener l = { .fd = fd, .lock = -1 };
	char path[sizeof(l.path)];

	/* Whatever copies there are, nobody reaches it any more: who is reached by its path now is somebody else. */
	shutdown(fd, SHUT_RDWR);
	if (bound_path(fd, path) && take_lock(&l, path, NULL) == 0 && !is_reached(path))
		remove_stale(path, NULL);
	listen_close(&l);
}

/* Takes the socket that was kept if it serves the path still; there is the lock. */
static bool take_kept(struct listener *l, const char *path, int fd)
{
	struct pollfd queue = { .fd = fd, .events = POLLIN };
	char bound[sizeof(l->path)];

	if (!bound_path(fd, bound) || strcmp(bound, path) != 0)
		return false;
	if (!is_reached(path) || poll(&queue, 1, 0) != 1) /* it led elsewhere, if nobody waits in this queue now */
		return false;
	l->fd = fd;
	l->kept = true;
	memcpy(l->path, bound, sizeof(bound));
	return true;
}

int listen_open(const char *endpoint, const struct notify_fds *passed, struct listener *ret, struct err *e)
{
	const char *path = endpoint + strlen(scheme);
	struct listener l = { .fd = -1, .lock = -1 };
	int rc;

	if (passed->listen >= 0)
		fcntl(passed->listen, F_SETFL, fcntl(passed->listen, F_GETFL) | O_NONBLOCK);
	if (passed->listen >= 0 && !passed->listen_ours) {
		l.fd = passed->listen;
		*ret = l;
		return 0;
	}
	if (*path != '/')
		return err_set(e, SINK_EINVAL, "listen: %s is no absolute path.", path);
	if (strlen(path) >= sizeof(l.path))
		return err_set(e, SINK_EINVAL, "listen: the path of a socket may have %zu bytes; %s has %zu.",
			       sizeof(l.path) - 1, path, strlen(path));
	if ((rc = make_directory(path, e)) < 0 || (rc = take_lock(&l, path, e)) < 0)
		goto fail;
	if (passed->listen < 0 || !take_kept(&l, path, passed->listen)) {
		if ((rc = remove_stale(path, e)) < 0 || (rc = open_socket(&l, path, e)) < 0)
			goto fail;
		if (passed->listen >= 0)
			listen_discard(passed->listen);
	}
	*ret = l;
	return 0;
fail:
	listen_close(&l);
	return rc;
}

void listen_close(struct listener *l)
{
	if (*l->path && !l->kept)
		unlink(l->path);
	if (l->fd >= 0)
		close(l->fd);
	if (l->lock >= 0)
		close(l->lock);
	*l = (struct listener){ .fd = -1, .lock = -1 };
}

/* Descriptors that were passed in. */

/* A descriptor of ours: what it must be, and the one that it is. */
struct known {
	const char *name;
	bool (*fits)(int fd);
	int fd;
	bool others; /* more came under the name */
};

static bool is_option(int fd, int option, int wanted)
{
	int value = 0;
	socklen_t size = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 && value == wanted;
}

static bool is_listening(int fd)
{
	return is_option(fd, SO_DOMAIN, AF_UNIX) && is_option(fd, SO_TYPE, SOCK_STREAM) &&
	       is_option(fd, SO_ACCEPTCONN, 1);
}

/* Only files in memory have seals. */
static bool is_memory(int fd)
{
	return fcntl(fd, F_GET_SEALS) >= 0;
}

/* The first name of the list; returns the rest. */
static const char *take_name(const char *names, char *ret, size_t size)
{
	size_t len = strcspn(names, ":");

	snprintf(ret, size, "%.*s", (int)len, names);
	return names + len + (names[len] == ':');
}

static void refuse_passed(struct notify_fds *f, int fd, const char *name)
{
	size_t len = strlen(f->note);

	snprintf(f->note + len, sizeof(f->note) - len, "%s%s",
		 len ? ", " : "Descriptors without a use were passed in: ", *name ? name : "one without a name");
	close(fd);
}

/* What stays in the manager's store is what is used. */
static void tidy_store(const struct known *k)
{
	if (k->others && k->fd >= 0)
		notify_keep_fd(k->name, k->fd);
	else if (k->others)
		notify_forget_fd(k->name);
}

/* One that is none of ours: the socket of a unit, or nothing that we know. */
static void take_other(struct notify_fds *f, int fd, const char *name, int *units)
{
	if (is_listening(fd)) {
		f->listen = fd;
		++*units;
		return;
	}
	refuse_passed(f, fd, name);
	if (*name)
		notify_forget_fd(name);
}

int listen_sort(int count, const char *names, struct notify_fds *ret, struct err *e)
{
	struct known known[] = { { NOTIFY_LISTEN, is_listening, -1, false },
				 { NOTIFY_PAGES, is_memory, -1, false },
				 { NOTIFY_RECORDS, is_memory, -1, false } };
	const size_t kinds = sizeof(known) / sizeof(known[0]);
	char name[256];
	int units = 0;
	size_t k;

	*ret = (struct notify_fds){ .listen = -1, .pages = -1, .records = -1 };
	names = names ? names : "";
	for (int fd = FIRST_PASSED; fd - FIRST_PASSED < count && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0; fd++) {
		names = take_name(names, name, sizeof(name));
		for (k = 0; k < kinds && strcmp(known[k].name, name) != 0; k++)
			;
		if (k == kinds) {
			take_other(ret, fd, name, &units);
		} else if (known[k].fd < 0 && known[k].fits(fd)) {
			known[k].fd = fd;
		} else {
			known[k].others = true;
			refuse_passed(ret, fd, name);
		}
	}
	if (units > 1)
		return err_set(e, SINK_EINVAL, "%d sockets were passed in; sinkd takes one.", units);
	if (units && known[0].fd >= 0) {
		listen_discard(known[0].fd);
		known[0] = (struct known){ .name = NOTIFY_LISTEN, .fd = -1, .others = true };
	}
	for (k = 0; k < kinds; k++)
		tidy_store(&known[k]);
	ret->listen_ours = known[0].fd >= 0;
	ret->listen = units ? ret->listen : known[0].fd;
	ret->pages = known[1].fd;
	ret->records = known[2].fd;
	return 0;
}
