/*
 * Owns the socket file and its lock. ZeroMQ would take a path away from a daemon that is alive, so it is never asked to
 * bind one: it gets a socket that listens already.
 */
#include "listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 128 };

static const char scheme[] = "ipc://";

bool listen_knows(const char *endpoint)
{
	return strncmp(endpoint, scheme, strlen(scheme)) == 0;
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
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	mode_t mask;
	int rc;

	memcpy(at.sun_path, path, strlen(path));
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

int listen_open(const char *endpoint, int passed, struct listener *ret, struct err *e)
{
	const char *path = endpoint + strlen(scheme);
	struct listener l = { .fd = passed, .lock = -1 };
	int rc;

	if (passed >= 0) {
		fcntl(passed, F_SETFL, fcntl(passed, F_GETFL) | O_NONBLOCK);
		*ret = l;
		return 0;
	}
	if (*path != '/')
		return err_set(e, SINK_EINVAL, "listen: %s is no absolute path.", path);
	if (strlen(path) >= sizeof(l.path))
		return err_set(e, SINK_EINVAL, "listen: the path of a socket may have %zu bytes; %s has %zu.",
			       sizeof(l.path) - 1, path, strlen(path));
	if ((rc = make_directory(path, e)) < 0 || (rc = take_lock(&l, path, e)) < 0 ||
	    (rc = remove_stale(path, e)) < 0 || (rc = open_socket(&l, path, e)) < 0) {
		listen_close(&l);
		return rc;
	}
	*ret = l;
	return 0;
}

void listen_close(struct listener *l)
{
	if (*l->path)
		unlink(l->path);
	if (l->fd >= 0)
		close(l->fd);
	if (l->lock >= 0)
		close(l->lock);
	*l = (struct listener){ .fd = -1, .lock = -1 };
}
