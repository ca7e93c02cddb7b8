/*
 * Owns the table of options and the order of their sources. An option that is not in the table does not exist: nothing
 * else in the daemon reads the environment for settings or parses a command line.
 */
#include "conf.h"

#include <errno.h>
#include <getopt.h>
#include <ini.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels.h"
#include "log.h"
#include "marks.h"

enum type { TEXT, POLICY, MARKS, PRECISION, BOOL, INT, SIZE, FLOAT, LEVEL };

struct option_row {
	const char *name;
	char short_name; /* 0: none */
	enum type type;
	bool live; /* may change while the daemon runs, by SIGHUP */
	size_t offset, size;
	const char *otherwise;
	double least, most;
	const char *value, *help;
};

#define FIELD(f) offsetof(struct conf, f), sizeof(((struct conf *)0)->f)

static const struct option_row table[] = {
	{ "model", 'm', TEXT, false, FIELD(model), "", 0, 0, "FILE", "the model, a GGUF file" },
	{ "listen", 'l', TEXT, false, FIELD(listen), "", 0, 0, "ENDPOINT",
	  "where clients connect; by default sinkd/sinkd.sock in the runtime directory" },
	{ "threads", 0, INT, false, FIELD(threads), "0", 0, 1024, "N", "threads of the engine; 0: as many as cores" },
	{ "pin-threads", 0, BOOL, false, FIELD(pin_threads), "no", 0, 0, "BOOL", "bind each thread to a core" },
	{ "kernels", 0, TEXT, false, FIELD(kernels), "auto", 0, 0, "NAME",
	  "the arithmetic: auto, or a name that -t lists" },
	{ "precision", 0, PRECISION, false, FIELD(precision), "exact", 0, 0, "NAME",
	  "activations in sixteen bits (exact) or in eight (fast)" },
	{ "cache", 0, SIZE, false, FIELD(cache), "2G", 1 << 20, 0x1p45, "SIZE",
	  "most memory for the caches of all conversations" },
	{ "policy", 0, POLICY, true, FIELD(policy), "sink:4,2044", 0, 0, "POLICY",
	  "what new conversations remember: sink:S,W[,token=ID], separator:S,K,W, anchor:S,K,W, window:W, recompute:W, "
	  "dense" },
	{ "separator-ids", 0, MARKS, true, FIELD(separator_ids), "", 0, 0, "IDS",
	  "the tokens that separator:S,K,W keeps, ids with commas; by default punctuation and ends of lines" },
	{ "anchors", 0, MARKS, true, FIELD(anchors), "", 0, 0, "IDS",
	  "the tokens that anchor:S,K,W keeps; by default <AC>, else those that end a sentence" },
	{ "pin-system", 0, FLOAT, true, FIELD(pin_system), "0.25", 0, 0.9, "SHARE",
	  "pin a whole system prompt that fits in this share of the budget; 0: never" },
	{ "temperature", 0, FLOAT, true, FIELD(sampling.how.temperature), "0.7", 0, 100, "T",
	  "how freely answers are chosen; 0: the likeliest token" },
	{ "top-k", 0, INT, true, FIELD(sampling.how.top_k), "40", 0, INT32_MAX, "N",
	  "choose among the N likeliest tokens; 0: off" },
	{ "top-p", 0, FLOAT, true, FIELD(sampling.how.top_p), "0.95", 1e-9, 1, "P",
	  "choose among the likeliest tokens that make up this probability; 1: off" },
	{ "min-p", 0, FLOAT, true, FIELD(sampling.how.min_p), "0.05", 0, 0.999999, "P",
	  "leave out tokens below this share of the likeliest one's probability; 0: off" },
	{ "repetition-penalty", 0, FLOAT, true, FIELD(sampling.how.repetition_penalty), "1", 1e-9, 10, "X",
	  "make tokens that were used less likely, by division; 1: off" },
	{ "presence-penalty", 0, FLOAT, true, FIELD(sampling.how.presence_penalty), "0", -10, 10, "X",
	  "the same by subtraction, once; 0: off" },
	{ "frequency-penalty", 0, FLOAT, true, FIELD(sampling.how.frequency_penalty), "0", -10, 10, "X",
	  "the same by subtraction, for each use; 0: off" },
	{ "penalty-last", 0, INT, true, FIELD(sampling.how.penalty_last), "64", 0, 8192, "N",
	  "tokens that the penalties look back on" },
	{ "max-tokens", 0, INT, true, FIELD(sampling.max_tokens), "4096", 0, INT32_MAX, "N",
	  "longest answer; 0: until the model ends it" },
	{ "batch", 0, INT, false, FIELD(batch), "256", 1, 4096, "N", "most tokens of one step over all conversations" },
	{ "gap", 0, FLOAT, true, FIELD(gap), "100", 1, 10000, "MS",
	  "longest step that a prompt may cause while another conversation answers" },
	{ "conversations", 0, INT, true, FIELD(conversations), "1000", 1, 100000, "N", "most conversations" },
	{ "clients", 0, INT, false, FIELD(clients), "500", 1, 100000, "N", "most connections" },
	{ "attachments", 0, INT, true, FIELD(attachments), "256", 1, 10000, "N", "most attachments of one client" },
	{ "message-bytes", 0, SIZE, false, FIELD(message_bytes), "4M", 4096, 1 << 30, "SIZE",
	  "longest message of a client" },
	{ "log-bytes", 0, SIZE, true, FIELD(log_bytes), "16M", 4096, 0x1p40, "SIZE",
	  "events kept for readers, a conversation; new conversations only" },
	{ "log-tokens", 0, SIZE, true, FIELD(log_tokens), "64M", 1024, 0x1p36, "N",
	  "longest conversation in tokens (4 bytes of memory each)" },
	{ "log-level", 0, LEVEL, true, FIELD(log_level), "info", 0, 0, "LEVEL", "error, warning, info or debug" },
};

enum { ROWS = sizeof(table) / sizeof(table[0]) };

static const struct {
	char letter;
	const char *name, *value, *help;
} commands[] = {
	{ 'f', "config", "FILE", "read this configuration file" },
	{ 't', "test", NULL, "check configuration and model, print what was found, and end" },
	{ 'p', "print-config", NULL, "print the settings as a configuration file, and end" },
	{ 'v', "verbose", NULL, "the same as --log-level debug" },
	{ 'h', "help", NULL, "print this, and end" },
	{ 'V', "version", NULL, "print the version, and end" },
};

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]), LONG_ROW = 1000 };

static const struct option_row *row_named(const char *name)
{
	for (size_t i = 0; i < ROWS; i++)
		if (strcmp(table[i].name, name) == 0)
			return &table[i];
	return NULL;
}

/* A whole number with an optional K, M, G or T (powers of 1024). */
static bool parse_size(const char *text, double *ret)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	char *end;
	double n;

	errno = 0;
	n = (double)strtoull(text, &end, 10);
	if (end == text || errno || *text == '-')
		return false;
	suffix = *end ? strchr(suffixes, *end) : NULL;
	if (suffix) {
		for (const char *s = suffixes; s <= suffix; s++)
			n *= 1024;
		end++;
	}
	*ret = n;
	return *end == '\0';
}

static bool parse_number(const struct option_row *row, const char *text, double *ret)
{
	char *end;

	if (row->type == SIZE)
		return parse_size(text, ret);
	errno = 0;
	if (row->type == INT)
		*ret = (double)strtoll(text, &end, 10);
	else
		*ret = strtod(text, &end);
	return end != text && *end == '\0' && !errno && isfinite(*ret);
}

static int set_number(struct conf *c, const struct option_row *row, const char *text, struct err *e)
{
	char *field = (char *)c + row->offset;
	double n;

	if (!parse_number(row, text, &n) || n < row->least || n > row->most)
		return err_set(e, SINK_EINVAL, "%s = %s: it must be a %snumber from %.12g to %.12g%s.", row->name, text,
			       row->type == FLOAT ? "" : "whole ", row->least, row->most,
			       row->type == SIZE ? ", or with K, M, G or T" : "");
	if (row->type == FLOAT)
		*(double *)field = n;
	else
		*(int64_t *)field = (int64_t)n;
	return 0;
}

static int set_bool(struct conf *c, const struct option_row *row, const char *text, struct err *e)
{
	static const char *const words[] = { "no", "yes", "false", "true", "off", "on", "0", "1" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(text, words[i]) == 0) {
			*(bool *)((char *)c + row->offset) = i % 2;
			return 0;
		}
	return err_set(e, SINK_EINVAL, "%s = %s: it must be yes or no.", row->name, text);
}

/* Whether it is a list of ids; the vocabulary is asked when there is one. */
static int check_marks(const struct option_row *row, const char *text, struct err *e)
{
	struct tokens ids = { 0 };
	struct err why;
	int rc = *text ? marks_parse(text, &ids, &why) : 0;

	tokens_release(&ids);
	return rc < 0 ? err_set(e, rc, "%s: %s", row->name, why.text) : 0;
}

static int set_text(struct conf *c, const struct option_row *row, const char *text, struct err *e)
{
	enum precision precision;
	struct policy p;
	int rc = 0;

	if (strlen(text) >= row->size)
		return err_set(e, SINK_EINVAL, "%s: the value is longer than %zu bytes.", row->name, row->size - 1);
	if (row->type == POLICY)
		rc = policy_parse(text, &p, e);
	else if (row->type == PRECISION)
		rc = precision_find(text, &precision, e);
	else if (row->type == MARKS)
		rc = check_marks(row, text, e);
	if (rc < 0)
		return rc;
	memcpy((char *)c + row->offset, text, strlen(text) + 1);
	return 0;
}

static int set_row(struct conf *c, const struct option_row *row, const char *text, struct err *e)
{
	int level;

	switch (row->type) {
	case TEXT:
	case POLICY:
	case MARKS:
	case PRECISION:
		return set_text(c, row, text, e);
	case BOOL:
		return set_bool(c, row, text, e);
	case INT:
	case SIZE:
	case FLOAT:
		return set_number(c, row, text, e);
	case LEVEL:
		level = log_level_find(text);
		if (level < 0)
			return err_set(e, SINK_EINVAL, "%s = %s: it must be %s.", row->name, text, row->help);
		*(int64_t *)((char *)c + row->offset) = level;
		return 0;
	}
	return SINK_EINVAL;
}

int conf_set(struct conf *c, const char *name, const char *value, struct err *e)
{
	const struct option_row *row = row_named(name);

	if (!row)
		return err_set(e, SINK_EINVAL, "There is no option \"%.64s\".", name);
	return set_row(c, row, value, e);
}

void conf_defaults(struct conf *c)
{
	memset(c, 0, sizeof(*c));
	sampling_defaults(&c->sampling.how);
	for (size_t i = 0; i < ROWS; i++)
		set_row(c, &table[i], table[i].otherwise, NULL);
}

/* The file. inih tells a handler no line numbers, so the lines are counted where they are read. */

struct reading {
	struct conf *conf;
	FILE *from;
	int line;
	bool seen[ROWS];
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
	const struct option_row *row = row_named(name);

	if (r->err_line)
		return 0;
	if (*section && strcmp(section, "sinkd") != 0)
		reading_failed(r, "There is no section [%s]; the only one is [sinkd].", section);
	else if (!row)
		reading_failed(r, "There is no option \"%.64s\".", name);
	else if (r->seen[row - table])
		reading_failed(r, "The option \"%s\" is given twice.", name);
	else if (set_row(r->conf, row, value, &r->err) < 0)
		r->err_line = r->line;
	else
		r->seen[row - table] = true;
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
	for (int i = 0; i < COMMANDS; i++) {
		*l++ = (struct option){ commands[i].name, commands[i].value ? required_argument : no_argument, NULL,
					commands[i].letter };
		*s++ = commands[i].letter;
		if (commands[i].value)
			*s++ = ':';
	}
	for (int i = 0; i < ROWS; i++) {
		*l++ = (struct option){ table[i].name, table[i].type == BOOL ? optional_argument : required_argument,
					NULL, LONG_ROW + i };
		if (table[i].short_name) {
			*s++ = table[i].short_name;
			*s++ = ':';
		}
	}
	*l = (struct option){ 0 };
	*s = '\0';
}

/* The row of what getopt_long() returned, or NULL. */
static const struct option_row *row_of(int got)
{
	if (got >= LONG_ROW)
		return &table[got - LONG_ROW];
	for (size_t i = 0; i < ROWS; i++)
		if (table[i].short_name && table[i].short_name == got)
			return &table[i];
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
	struct option longs[COMMANDS + ROWS + 1];
	char shorts[2 * (COMMANDS + ROWS) + 3];
	int got;

	fill_getopt(longs, shorts);
	optind = 0; /* glibc: begin anew */
	opterr = 0;
	while ((got = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct option_row *row = row_of(got);

		if (got == ':')
			return err_set(e, SINK_EINVAL, "The option %s needs a value.", argv[optind - 1]);
		if (got == '?' && optopt && strncmp(argv[optind - 1], "--", 2) != 0)
			return err_set(e, SINK_EINVAL, "There is no option -%c.", optopt);
		if (got == '?')
			return err_set(e, SINK_EINVAL, "The option %s is unknown, ambiguous or takes no value.",
				       argv[optind - 1]);
		if (row ? set_row(c, row, optarg ? optarg : "yes", e) < 0 : take_command(got, c, call, e) < 0)
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
out:
	if (rc < 0)
		return rc;
	*ret = c;
	*call = k;
	return 0;
}

void conf_reload(struct conf *c, const struct conf *fresh, char *restart, size_t size)
{
	size_t used = 0;

	restart[0] = '\0';
	for (size_t i = 0; i < ROWS; i++) {
		char *old = (char *)c + table[i].offset;
		const char *new = (const char *)fresh + table[i].offset;
		bool text = table[i].type <= PRECISION;

		if (text ? strcmp(old, new) == 0 : memcmp(old, new, table[i].size) == 0)
			continue;
		if (table[i].live)
			memcpy(old, new, table[i].size);
		else if (used < size)
			used += (size_t)snprintf(restart + used, size - used, "%s%s", used ? " " : "", table[i].name);
	}
}

static void size_text(int64_t n, char *text, size_t size)
{
	static const char suffixes[] = "KMGT";
	int i = -1;

	while (n && n % 1024 == 0 && suffixes[i + 1]) {
		n /= 1024;
		i++;
	}
	snprintf(text, size, i < 0 ? "%lld" : "%lld%c", (long long)n, i < 0 ? ' ' : suffixes[i]);
}

static void value_text(const struct conf *c, const struct option_row *row, char *text, size_t size)
{
	const char *field = (const char *)c + row->offset;

	switch (row->type) {
	case TEXT:
	case POLICY:
	case MARKS:
	case PRECISION:
		snprintf(text, size, "%s", field);
		return;
	case BOOL:
		snprintf(text, size, "%s", *(const bool *)field ? "yes" : "no");
		return;
	case FLOAT:
		snprintf(text, size, "%.12g", *(const double *)field);
		return;
	case LEVEL:
		snprintf(text, size, "%s", log_level_name((enum log_level) * (const int64_t *)field));
		return;
	case INT:
		snprintf(text, size, "%lld", (long long)*(const int64_t *)field);
		return;
	case SIZE:
		size_text(*(const int64_t *)field, text, size);
		return;
	}
}

void conf_help(FILE *to)
{
	fputs("Usage: sinkd [-m FILE] [-l ENDPOINT] [-f FILE] [OPTION]...\n\n"
	      "Serves conversations with a language model to the clients of this machine (see sink(1)).\n\n",
	      to);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(to, "  -%c, --%s%s%s\n\t%s\n", commands[i].letter, commands[i].name,
			commands[i].value ? " " : "", commands[i].value ? commands[i].value : "", commands[i].help);
	fputs("\nOptions of the command line and, without the dashes, of the configuration file:\n\n", to);
	for (size_t i = 0; i < ROWS; i++) {
		if (table[i].short_name)
			fprintf(to, "  -%c, --%s %s\n", table[i].short_name, table[i].name, table[i].value);
		else
			fprintf(to, "      --%s%c%s\n", table[i].name, table[i].type == BOOL ? '=' : ' ',
				table[i].value);
		fprintf(to, "\t%s", table[i].help);
		fprintf(to, *table[i].otherwise ? " [%s]\n" : "\n", table[i].otherwise);
	}
}

void conf_print(const struct conf *c, FILE *to)
{
	for (size_t i = 0; i < ROWS; i++) {
		char text[4096];

		value_text(c, &table[i], text, sizeof(text));
		fprintf(to, "%s# %s\n", i ? "\n" : "", table[i].help);
		fprintf(to, *text ? "%s = %s\n" : "#%s =%s\n", table[i].name, text);
	}
}
