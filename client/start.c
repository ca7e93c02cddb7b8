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
#include "format.h"
#include "paths.h"
#include "spawn.h"
#include "term.h"

enum {
	HELLO_MS = 10000,
	SAY_MS = 2000, /* without an answer; and what a first attempt takes */
	LOAD_MS = 120000,
	LOOK_MS = 500, /* what completion waits */
	NAP_MS = 20,
	LOADING_NOTE_MS = 500,
	PERIODS = 3, /* after so many in which it shows nothing, a daemon does not answer */
};

int start_find(struct cli *c)
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

bool start_present(const char *endpoint)
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

/* What the daemon shows of itself in shared memory; it need not answer for that. */
enum seen { SEEN_NOTHING, SEEN_LOADING, SEEN_AT_WORK, SEEN_SILENT };

struct sight {
	enum seen seen;
	double age; /* seconds since it showed anything */
	long pid;
};

static struct sight look(const struct cli *c)
{
	struct sink_reply *r = sink_board(c->endpoint);
	const char *state = r ? sink_str(r, "state", NULL) : NULL;
	struct sight s = { SEEN_NOTHING, sink_float(r, "age", 0), (long)sink_int(r, "pid", 0) };

	if (r && s.age * 1e3 > PERIODS * sink_float(r, "period_ms", 1000))
		s.seen = SEEN_SILENT;
	else if (r)
		s.seen = state && strcmp(state, "loading") == 0 ? SEEN_LOADING : SEEN_AT_WORK;
	sink_reply_free(r);
	return s;
}

/* How long a daemon is waited for in all. One that loads its model, or may be doing so, is given time. */
static int64_t patience(const struct cli *c, const struct sight *s)
{
	const struct option_value *limit = &c->o.v[OPTION_TIMEOUT];
	int64_t ms = HELLO_MS;

	if (c->verb->daemon == VERB_STARTS)
		ms = s->seen == SEEN_LOADING || s->seen == SEEN_NOTHING ? LOAD_MS : FOLLOW_PATIENCE_MS;
	if (limit->given && limit->real * 1e3 < (double)ms)
		ms = limit->real > 0 ? (int64_t)(limit->real * 1e3) : 0;
	return ms;
}

static int no_answer(const struct cli *c, const struct sight *s)
{
	const struct option_value *limit = &c->o.v[OPTION_TIMEOUT];
	const double most = (double)patience(c, s);
	enum fail_code code = limit->given && most >= limit->real * 1e3 - 1 ? FAIL_TIMEOUT : FAIL_UNREACHABLE;
	char age[32];

	term_clear();
	if (s->seen == SEEN_SILENT)
		return fail(code, "The daemon at %s does not answer: process %ld has shown no life for %s.",
			    c->endpoint, s->pid, format_age(s->age, age, sizeof(age)));
	if (s->seen == SEEN_LOADING)
		return fail(code, "The daemon at %s is still loading its model.", c->endpoint);
	return fail(code, "The daemon at %s does not answer.", c->endpoint);
}

static bool last_was(const char *name)
{
	return strcmp(sink_error_name(sink_error(NULL)), name) == 0;
}

/*
 * One attempt. Attempts take longer and longer, since each that is given up leaves a connection in the queue of a
 * daemon that does not look at it. Returns false for an error that is final.
 */
static bool try_open(struct cli *c, int64_t left, int *attempts)
{
	int64_t ms = (int64_t)SAY_MS << (*attempts < 8 ? *attempts : 8);

	++*attempts;
	c->sink = sink_open(c->endpoint, "sink", (int)(ms < left ? ms : left));
	return c->sink || last_was("etimedout") || (c->verb->daemon == VERB_STARTS && last_was("econn"));
}

/*
 * Waits until a daemon answers. `s` is the one that was started, NULL when one was there; `what` is being waited for.
 * While it shows that it loads its model, it is not asked.
 */
static int wait_ready(struct cli *c, const struct spawn *s, const char *what)
{
	const int64_t began = follow_clock();
	struct sight sight;
	int attempts = 0;

	for (bool said = s != NULL;; usleep(NAP_MS * 1000)) {
		const bool over = s && spawn_ended(s), present = start_present(c->endpoint);
		int64_t waited = follow_clock() - began;

		sight = look(c);
		if (waited > patience(c, &sight))
			return no_answer(c, &sight);
		if (!present && c->verb->daemon == VERB_LOOKS)
			return fail(FAIL_UNREACHABLE, "No daemon is running at %s.", c->endpoint);
		if (present && sight.seen != SEEN_LOADING) {
			if (!try_open(c, patience(c, &sight) - waited + 1, &attempts))
				return last_was("econn") ? fail(FAIL_UNREACHABLE, "%s", sink_error_text(NULL))
							 : fail_sink(NULL);
			if (c->sink) {
				term_clear();
				return 0;
			}
		}
		if (over)
			return died(s);
		waited = follow_clock() - began;
		if (waited >= SAY_MS && !said) {
			said = true;
			term_note("sink: waiting for the daemon, which does not answer yet\n");
		}
		if (waited >= LOADING_NOTE_MS)
			term_progress("%s  %.0f s", what, (double)waited / 1000);
	}
}

/* Starts a daemon and waits for it, unless somebody else has meanwhile. */
static int start_locked(struct cli *c, const char *model)
{
	char what[PATH_MAX + 16];
	const char *base = strrchr(model, '/');
	struct spawn s;
	int code;

	snprintf(what, sizeof(what), "loading %s", *model ? (base ? base + 1 : model) : "the model");
	if (start_present(c->endpoint))
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
	int code = start_find(c);

	if (code)
		return code;
	if (!start_present(c->endpoint)) {
		if (c->verb->daemon == VERB_STARTS)
			return start_daemon(c);
		return fail(FAIL_UNREACHABLE, "No daemon is running at %s.", c->endpoint);
	}
	return wait_ready(c, NULL, "waiting for the daemon");
}

bool start_look(struct cli *c)
{
	if (!start_find(c) && start_present(c->endpoint))
		c->sink = sink_open(c->endpoint, "sink", LOOK_MS);
	return c->sink != NULL;
}
