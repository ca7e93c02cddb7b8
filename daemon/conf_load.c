/* Owns the order of the sources of settings: defaults, environment, file, command line. */
#include <errno.h>
#include <getopt.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

#include "conf_table.h"

enum { LONG_ROW = 1000 }; /* what getopt_long() returns for the first row */

/* The file. inih tells a handler no line numbers, so the lines are counted where they are read. */

struct reading {
	struct conf *conf;
	FILE *from;
	int line;
	bool seen[CONF_ROWS];
	struct err err; /* the first one */
	int err_line;
};

static void reading_failed(struct reading *r, const char *fmt, const char *what)
{
	if (r->err_line)
		return;
	r->err_line = r->line;
	err_set(&r->err, SINK_EINVAL, fmt, what);
}

static char *read_line(char *line, int size, void *stream)
{
	struct reading *r = stream;

	if (!fgets(line, size, r->from))
		return NULL;
	r->line++;
	if (!strchr(line, '\n') && !feof(r->from))
		reading_failed(r, "The line is too long%s.", "");
	return r->err_line ? NULL : line;
}

static int take_line(void *user, const char *section, const char *name, const char *value)
{
	struct reading *r = user;
	const struct conf_row *row = conf_row_named(name);

	if (r->err_line)
		return 0;
	if (*section && strcmp(section, "sinkd") != 0)
		reading_failed(r, "There is no section [%s]; the only one is [sinkd].", section);
	else if (!row)
		reading_failed(r, "There is no option \"%.64s\".", name);
	else if (r->seen[row - conf_rows])
		reading_failed(r, "The option \"%s\" is given twice.", name);
	else if (conf_set_row(r->conf, row, value, &r->err) < 0)
		r->err_line = r->line;
	else
		r->seen[row - conf_rows] = true;
	return !r->err_line;
}

static int read_file(struct conf *c, const char *path, bool must, bool *found, struct err *e)
{
	struct reading r = { .conf = c, .from = fopen(path, "re") };
	int line;

	*found = r.from != NULL;
	if (!r.from) {
		if (!must && (errno == ENOENT || errno == ENOTDIR))
			return 0;
		return err_set(e, SINK_ENOENT, "%s cannot be read: %s.", path, strerror(errno));
	}
	line = ini_parse_stream(read_line, &r, take_line, &r);
	if (ferror(r.from))
		line = r.line + 1;
	fclose(r.from);
	if (r.err_line)
		return err_set(e, SINK_EINVAL, "%s, line %d: %s", path, r.err_line, r.err.text);
	if (line)
		return err_set(e, SINK_EINVAL, "%s, line %d: This is no `name = value`.", path, line);
	return 0;
}

static int read_usual_file(struct conf *c, char *path, size_t size, struct err *e)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	bool found = false;
	int rc;

	path[0] = '\0';
	if (config && *config)
		snprintf(path, size, "%s/sinkd/sinkd.conf", config);
	else if (home && *home)
		snprintf(path, size, "%s/.config/sinkd/sinkd.conf", home);
	if (*path && ((rc = read_file(c, path, false, &found, e)) < 0 || found))
		return rc;
	snprintf(path, size, "/etc/sinkd/sinkd.conf");
	rc = read_file(c, path, false, &found, e);
	if (!found)
		path[0] = '\0';
	return rc;
}

/* The command line. It is gone through twice: first for -f, then for the options that stand above the file. */

static void fill_getopt(struct option *longs, char *shorts)
{
	struct option *l = longs;
	char *s = shorts;

	*s++ = '+'; /* argv stays in its order */
	*s++ = ':'; /* a missing value is told from an unknown option */
	for (int i = 0; i < CONF_COMMANDS; i++) {
		*l++ = (struct option){ conf_commands[i].name, conf_commands[i].value ? required_argument : no_argument,
					NULL, conf_commands[i].letter };
		*s++ = conf_commands[i].letter;
		if (conf_commands[i].value)
			*s++ = ':';
	}
	for (int i = 0; i < CONF_ROWS; i++) {
		*l++ = (struct option){ conf_rows[i].name,
					conf_rows[i].type == BOOL ? optional_argument : required_argument, NULL,
					LONG_ROW + i };
		if (conf_rows[i].short_name) {
			*s++ = conf_rows[i].short_name;
			*s++ = ':';
		}
	}
	*l = (struct option){ 0 };
	*s = '\0';
}

/* The row of what getopt_long() returned, or NULL. */
static const struct conf_row *row_of(int got)
{
	if (got >= LONG_ROW)
		return &conf_rows[got - LONG_ROW];
	for (size_t i = 0; i < CONF_ROWS; i++)
		if (conf_rows[i].short_name && conf_rows[i].short_name == got)
			return &conf_rows[i];
	return NULL;
}

static int take_command(int got, struct conf *c, struct conf_call *call, struct err *e)
{
	switch (got) {
	case 'f':
		if (strlen(optarg) >= sizeof(call->file))
			return err_set(e, SINK_EINVAL, "The path of the configuration file is too long.");
		memcpy(call->file, optarg, strlen(optarg) + 1);
		return 0;
	case 't':
		call->action = CONF_TEST;
		return 0;
	case 'c':
		call->action = CONF_CHECK;
		return 0;
	case 'r':
		call->action = CONF_REPAIR;
		return 0;
	case 'p':
		call->action = CONF_PRINT;
		return 0;
	case 'v':
		return conf_set(c, "log-level", "debug", e);
	case 'h':
		call->action = CONF_HELP;
		return 0;
	case 'V':
		call->action = CONF_VERSION;
		return 0;
	default:
		return SINK_EINVAL;
	}
}

static int read_arguments(int argc, char *const *argv, struct conf *c, struct conf_call *call, struct err *e)
{
	struct option longs[CONF_COMMANDS + CONF_ROWS + 1];
	char shorts[2 * (CONF_COMMANDS + CONF_ROWS) + 3];
	int got;

	fill_getopt(longs, shorts);
	optind = 0; /* glibc: begin anew */
	opterr = 0;
	while ((got = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct conf_row *row = row_of(got);

		if (got == ':')
			return err_set(e, SINK_EINVAL, "The option %s needs a value.", argv[optind - 1]);
		if (got == '?' && optopt && strncmp(argv[optind - 1], "--", 2) != 0)
			return err_set(e, SINK_EINVAL, "There is no option -%c.", optopt);
		if (got == '?')
			return err_set(e, SINK_EINVAL, "The option %s is unknown, ambiguous or takes no value.",
				       argv[optind - 1]);
		if (row ? conf_set_row(c, row, optarg ? optarg : "yes", e) < 0 : take_command(got, c, call, e) < 0)
			return SINK_EINVAL;
	}
	if (optind < argc)
		return err_set(e, SINK_EINVAL, "\"%s\" is left over on the command line.", argv[optind]);
	return 0;
}

static int default_endpoint(struct conf *c, struct err *e)
{
	const char *service = getenv("RUNTIME_DIRECTORY"), *user = getenv("XDG_RUNTIME_DIR");
	char path[sizeof(c->listen)] = "";
	int n = 0;

	if (!*c->listen && service && *service)
		n = snprintf(path, sizeof(path), "ipc://%.*s/sinkd.sock", (int)strcspn(service, ":"), service);
	else if (!*c->listen && user && *user)
		n = snprintf(path, sizeof(path), "ipc://%s/sinkd/sinkd.sock", user);
	else if (!*c->listen)
		n = snprintf(path, sizeof(path), "ipc:///run/sinkd/sinkd.sock");
	else if (!strstr(c->listen, "://"))
		n = snprintf(path, sizeof(path), "ipc://%s", c->listen);
	if (n < 0 || (size_t)n >= sizeof(path))
		return err_set(e, SINK_EINVAL, "listen: the endpoint is too long.");
	if (n)
		memcpy(c->listen, path, (size_t)n + 1);
	return 0;
}

/* Without any place to be found, nothing is kept. */
static int default_state(struct conf *c, struct err *e)
{
	const char *service = getenv("STATE_DIRECTORY"), *user = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	char path[sizeof(c->state)] = "none";
	int n = 4;

	if (*c->state)
		return 0;
	if (service && *service)
		n = snprintf(path, sizeof(path), "%.*s", (int)strcspn(service, ":"), service);
	else if (user && *user)
		n = snprintf(path, sizeof(path), "%s/sinkd", user);
	else if (home && *home)
		n = snprintf(path, sizeof(path), "%s/.local/state/sinkd", home);
	if (n < 0 || (size_t)n >= sizeof(path))
		return err_set(e, SINK_EINVAL, "state: the path is too long.");
	memcpy(c->state, path, (size_t)n + 1);
	return 0;
}

int conf_load(int argc, char *const *argv, struct conf *ret, struct conf_call *call, struct err *e)
{
	static struct conf c; /* large, and needed once at a time */
	struct conf_call k = { .action = CONF_RUN };
	const char *model = getenv("SINKD_MODEL");
	bool found;
	int rc;

	conf_defaults(&c);
	rc = read_arguments(argc, argv, &c, &k, e);
	if (rc < 0 || k.action == CONF_HELP || k.action == CONF_VERSION)
		goto out;
	conf_defaults(&c);
	if (model && (rc = conf_set(&c, "model", model, e)) < 0)
		goto out;
	rc = *k.file ? read_file(&c, k.file, true, &found, e) : read_usual_file(&c, k.file, sizeof(k.file), e);
	if (rc < 0 || (rc = read_arguments(argc, argv, &c, &(struct conf_call){ 0 }, e)) < 0)
		goto out;
	rc = default_endpoint(&c, e);
	if (rc == 0)
		rc = default_state(&c, e);
out:
	if (rc < 0)
		return rc;
	*ret = c;
	*call = k;
	return 0;
}
