/*
 * Fork, new session, fork again: the daemon becomes init's child and can never get a terminal. Its process id comes
 * back through a pipe and is held as a pidfd, which tells of its end although it is no child of ours.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* pipe2 */
#endif
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fail.h"
#include "paths.h"

enum { LOG_MOST = 4 << 20 }; /* a longer log is put aside as sinkd.log.old */

static bool runnable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/*
 * The daemon that belongs to this sink: an installed one stands beside it or in the neighbouring sbin, that of a build
 * tree in the neighbouring room, where libtool keeps programs one folder deeper. "sinkd" leaves the search to $PATH.
 */
static void find_program(char *ret, size_t size)
{
	static const char *const places[] = { "sinkd", "../sbin/sinkd", "../daemon/sinkd", "../../daemon/sinkd" };
	const char *given = getenv("SINKD");
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (given && *given) {
		snprintf(ret, size, "%s", given);
		return;
	}
	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	for (size_t i = 0; slash && i < sizeof(places) / sizeof(places[0]); i++) {
		bool deeper = strstr(places[i], "../../") == places[i];

		if (deeper && strstr(self, "/.libs") != slash - 6)
			continue;
		if ((size_t)snprintf(ret, size, "%s/%s", self, places[i]) < size && runnable(ret))
			return;
	}
	snprintf(ret, size, "sinkd");
}

int spawn_lock(void)
{
	char path[PATH_MAX];
	int fd;

	if (!paths_get(PATHS_STATE, "start.lock", path, sizeof(path)) || paths_make(path))
		return -1;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	while (fd >= 0 && flock(fd, LOCK_EX) && errno == EINTR)
		;
	return fd;
}

static int open_log(struct spawn *s)
{
	char old[PATH_MAX + 8];
	struct stat st;
	int fd, error;

	if (!paths_get(PATHS_STATE, "sinkd.log", s->log, sizeof(s->log))) {
		fail(FAIL_FAILED,
		     "The daemon cannot be started: neither $XDG_STATE_HOME nor $HOME tells where to keep its log.");
		return -1;
	}
	error = paths_make(s->log);
	if (!error && stat(s->log, &st) == 0 && st.st_size > LOG_MOST) {
		snprintf(old, sizeof(old), "%s.old", s->log);
		rename(s->log, old);
	}
	fd = error ? -1 : open(s->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0) {
		fail(FAIL_FAILED, "The daemon's log %s cannot be written: %s.", s->log,
		     strerror(error ? error : errno));
		return -1;
	}
	s->from = lseek(fd, 0, SEEK_END);
	return fd;
}

/* The daemon's side, after the second fork; does not return. */
static void become(const char *program, const char *endpoint, const char *model, int log)
{
	int null = open("/dev/null", O_RDWR);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(log, 2) < 0)
		_exit(127);
	if (*model)
		execlp(program, program, "-l", endpoint, "-m", model, (char *)NULL);
	else
		execlp(program, program, "-l", endpoint, (char *)NULL);
	dprintf(2, "%s cannot be started: %s.\n", program, strerror(errno));
	_exit(127);
}

/* Forks twice; returns the daemon's process id, or -1. */
static pid_t fork_away(const char *program, const char *endpoint, const char *model, int log)
{
	pid_t child, daemon = -1;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return -1;
	child = fork();
	if (child == 0) {
		setsid();
		daemon = fork();
		if (daemon == 0)
			become(program, endpoint, model, log);
		_exit(write(ends[1], &daemon, sizeof(daemon)) == (ssize_t)sizeof(daemon) ? 0 : 1);
	}
	close(ends[1]);
	if (child > 0) {
		if (read(ends[0], &daemon, sizeof(daemon)) != (ssize_t)sizeof(daemon))
			daemon = -1;
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
	}
	close(ends[0]);
	return daemon;
}

int spawn_watch(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

int spawn_daemon(struct spawn *s, const char *endpoint, const char *model)
{
	char program[PATH_MAX + 16];
	pid_t pid;
	int log;

	*s = (struct spawn){ .pidfd = -1 };
	log = open_log(s);
	if (log < 0)
		return FAIL_FAILED;
	find_program(program, sizeof(program));
	pid = fork_away(program, endpoint, model, log);
	close(log);
	if (pid < 0)
		return fail(FAIL_FAILED, "The daemon cannot be started: %s.", strerror(errno));
	s->pidfd = spawn_watch(pid);
	return 0;
}

void spawn_release(struct spawn *s)
{
	if (s->pidfd >= 0)
		close(s->pidfd);
	s->pidfd = -1;
}

bool spawn_ended(const struct spawn *s)
{
	struct pollfd p = { .fd = s->pidfd, .events = POLLIN };

	return s->pidfd >= 0 && poll(&p, 1, 0) > 0;
}

bool spawn_last_line(const struct spawn *s, char *ret, size_t size)
{
	FILE *f = fopen(s->log, "re");
	char line[1024];
	bool found = false;

	if (!f)
		return false;
	if (fseeko(f, s->from, SEEK_SET) == 0) {
		while (fgets(line, sizeof(line), f)) {
			const char *text = line;

			line[strcspn(line, "\n")] = '\0';
			if (*text == '<' && text[1] && text[2] == '>')
				text += 3; /* the journal's mark of a level */
			if (*text)
				found = snprintf(ret, size, "%s", text) > 0;
		}
	}
	fclose(f);
	return found;
}
