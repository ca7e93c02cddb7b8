/*
 * Reaching the daemon. A Unix socket tells at once whether anybody listens, so that "no daemon is running" is said
 * without waiting; a daemon that listens but loads its model is waited for. The daemon that is started here belongs to
 * nobody: it is a child of init, in a session of its own, and writes to a log file in the user's state directory.
 */
#include "start.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "follow.h"
#include "paths.h"
#include "spawn.h"
#include "term.h"

enum { HELLO_MS = 10000, TRY_MS = 1000, LOAD_MS = 120000, NAP_MS = 20, LOADING_NOTE_MS = 500 };

static int find_endpoint(struct cli *c)
{
	const char *given = c->o.v[OPTION_ENDPOINT].text, *instance = c->o.v[OPTION_INSTANCE].text;
	char named[sizeof(c->endpoint)];
	size_t len;
	int n;

	if (given && instance)
		return fail(FAIL_USAGE, "Options -H and -L both name a daemon; give one of them.");
	if (instance && (!*instance || strpbrk(instance, "/@=") || *instance == '.'))
		return fail(FAIL_USAGE, "The name of an instance has no / @ = and does not begin with a dot.");
	if (instance)
		unsetenv("SINK_HOST");
	if (sink_endpoint(given, c->endpoint, sizeof(c->endpoint)))
		return fail(FAIL_USAGE, "%s", sink_error_text(NULL));
	if (!instance)
		return 0;
	len = strlen(c->endpoint);
	if (len > 5 && strcmp(c->endpoint + len - 5, ".sock") == 0)
		len -= 5;
	n = snprintf(named, sizeof(named), "%.*s-%s.sock", (int)len, c->endpoint, instance);
	if (n < 0 || (size_t)n >= sizeof(named) || sink_endpoint(named, c->endpoint, sizeof(c->endpoint)))
		return fail(FAIL_USAGE, "The name of the instance is too long for a socket's path.");
	return 0;
}

/* Whether somebody listens. Only a Unix socket can tell; of others it is believed. */
static bool present(const char *endpoint)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	socklen_t size;
	size_t len;
	bool yes;
	int fd;

	if (strncmp(endpoint, "ipc://", 6) != 0)
		return true;
	len = strlen(endpoint + 6);
	if (len >= sizeof(a.sun_path))
		return true; /* libsink words it */
	memcpy(a.sun_path, endpoint + 6, len);
	size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	if (a.sun_path[0] == '@') {
		a.sun_path[0] = '\0'; /* an abstract name ends where its size says */
		size--;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return true;
	yes = connect(fd, (struct sockaddr *)&a, size) == 0 || errno == EAGAIN || errno == EACCES;
	close(fd);
	return yes;
}

bool start_setting(const char *line, const char *key, char *ret, size_t size)
{
	size_t len = strlen(key);

	line += strspn(line, " \t");
	if (strncmp(line, key, len) != 0)
		return false;
	line += len;
	line += strspn(line, " \t");
	if (*line != '=')
		return false;
	line++;
	line += strspn(line, " \t\"");
	len = strcspn(line, "\r\n");
	while (len && strchr(" \t\"", line[len - 1]))
		len--;
	if (!len || len >= size)
		return false;
	memcpy(ret, line, len);
	ret[len] = '\0';
	return true;
}

static bool configured_model(char *ret, size_t size)
{
	char path[PATH_MAX], line[PATH_MAX + 64];
	bool found = false;
	FILE *f;

	if (!paths_get(PATHS_CONFIG, "sinkd.conf", path, sizeof(path)))
		return false;
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f))
		found = start_setting(line, "model", ret, size);
	fclose(f);
	return found;
}

bool start_model(char *ret, size_t size)
{
	const char *model = getenv("SINKD_MODEL");

	if (model && *model)
		return (size_t)snprintf(ret, size, "%s", model) < size;
	if (configured_model(ret, size)) {
		ret[0] = '\0';
		return true;
	}
	return paths_get(PATHS_DATA, "models/default.gguf", ret, size) && access(ret, F_OK) == 0;
}

static int no_model(void)
{
	char path[PATH_MAX];

	if (!paths_get(PATHS_DATA, "models/default.gguf", path, sizeof(path)))
		return fail(FAIL_MODEL, "No daemon is running, and without $HOME no model can be found. Name one in "
					"$SINKD_MODEL.");
	return fail(FAIL_MODEL,
		    "No daemon is running and no model is known yet. Any of these makes one known:\n"
		    "      SINKD_MODEL=/path/to/model.gguf sink          for now\n"
		    "      ln -s /path/to/model.gguf %s\n"
		    "      model = /path/to/model.gguf                   in sinkd.conf(5)\n"
		    "  or start the daemon yourself: sinkd -m /path/to/model.gguf",
		    path);
}

/* The new daemon ended before it answered: what it said last is the reason. */
static int died(const struct spawn *s)
{
	char line[400];

	term_clear();
	if (!spawn_last_line(s, line, sizeof(line)))
		return fail(FAIL_MODEL, "The daemon ended at once and said nothing; its log is %s.", s->log);
	return fail(FAIL_MODEL, "The daemon ended at once: %s\n      (its log is %s)", line, s->log);
}

/* Whether the last attempt to connect may succeed later. */
static bool may_come(void)
{
	const char *name = sink_error_name(sink_error(NULL));

	return strcmp(name, "econn") == 0 || strcmp(name, "etimedout") == 0;
}

/* Waits until a daemon answers. `s` is the one that was started, NULL when one was there; `what` is being waited for.
 */
static int wait_ready(struct cli *c, const struct spawn *s, const char *what)
{
	int64_t began = follow_clock(), now = began;

	for (; now - began < LOAD_MS; now = follow_clock()) {
		bool over = s && spawn_ended(s);

		if (present(c->endpoint)) {
			c->sink = sink_open(c->endpoint, "sink", TRY_MS);
			if (c->sink) {
				term_clear();
				return 0;
			}
			if (!may_come())
				return fail_sink(NULL);
		}
		if (over)
			return died(s);
		if (now - began >= LOADING_NOTE_MS)
			term_progress("%s  %.0f s", what, (double)(now - began) / 1000);
		usleep(NAP_MS * 1000);
	}
	return fail(FAIL_UNREACHABLE, "The daemon at %s does not answer.", c->endpoint);
}

/* Starts a daemon and waits for it, unless somebody else has meanwhile. */
static int start_locked(struct cli *c, const char *model)
{
	char what[PATH_MAX + 16];
	const char *base = strrchr(model, '/');
	struct spawn s;
	int code;

	snprintf(what, sizeof(what), "loading %s", *model ? (base ? base + 1 : model) : "the model");
	if (present(c->endpoint))
		return wait_ready(c, NULL, what);
	code = spawn_daemon(&s, c->endpoint, model);
	if (!code)
		code = wait_ready(c, &s, what);
	spawn_release(&s);
	return code;
}

static int start_daemon(struct cli *c)
{
	char model[PATH_MAX];
	int code, lock;

	if (!start_model(model, sizeof(model)))
		return no_model();
	if (*model && access(model, R_OK))
		return fail(FAIL_MODEL, "The model %s cannot be read: %s.", model, strerror(errno));
	lock = spawn_lock();
	code = start_locked(c, model);
	if (lock >= 0)
		close(lock);
	return code;
}

int start_connect(struct cli *c)
{
	bool starts = c->verb->daemon == VERB_STARTS;
	int code = find_endpoint(c);

	if (code)
		return code;
	if (!present(c->endpoint)) {
		if (starts)
			return start_daemon(c);
		return fail(FAIL_UNREACHABLE, "No daemon is running at %s.", c->endpoint);
	}
	if (starts)
		return wait_ready(c, NULL, "waiting for the daemon");
	c->sink = sink_open(c->endpoint, "sink", HELLO_MS);
	if (c->sink)
		return 0;
	return may_come() ? fail(FAIL_UNREACHABLE, "%s", sink_error_text(NULL)) : fail_sink(NULL);
}
