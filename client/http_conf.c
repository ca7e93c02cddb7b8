/* The table of options and their parser. Long names are not abbreviated, as everywhere in the house. */
#include "http_conf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { FLAG, TEXT, LIST, NUMBER };

struct row {
	char letter;
	const char *name, *value;
	enum kind kind;
	size_t at; /* in struct http_conf */
	int64_t least, most;
	const char *help;
};

#define AT(field) offsetof(struct http_conf, field)

static const struct row rows[] = {
	{ 'h', "help", NULL, FLAG, AT(help), 0, 0, "show this help" },
	{ 'V', "version", NULL, FLAG, AT(version), 0, 0, "show the version" },
	{ 'H', "host", "ENDPOINT", TEXT, AT(endpoint), 0, 0, "the daemon's endpoint, as for sink(1)" },
	{ 'l', "listen", "ADDRESS", LIST, AT(listen), 0, 0,
	  "unix:PATH, or ADDRESS:PORT such as 127.0.0.1:8080 or [::1]:8080; may be repeated" },
	{ 'k', "key-file", "FILE", TEXT, AT(key_file), 0, 0,
	  "ask for one of the bearer keys in this file, one a line" },
	{ 0, "body-bytes", "N", NUMBER, AT(body_bytes), 1024, 64 << 20, "the longest body that is taken (4194304)" },
	{ 0, "connections", "N", NUMBER, AT(connections), 1, 65536, "how many at once, at each address (256)" },
	{ 0, "timeout", "SECONDS", NUMBER, AT(timeout), 1, 86400,
	  "end a connection on which nothing moves for so long (60)" },
	{ 0, "keep", "N", NUMBER, AT(keep), 0, 65536,
	  "how many conversations of its own to keep for clients that resend their history (32)" },
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static bool take(struct http_conf *c, const struct row *r, const char *text, char *cause, size_t size)
{
	char *field = (char *)c + r->at, *end;
	long long n;

	switch (r->kind) {
	case FLAG:
		*(bool *)field = true;
		return true;
	case TEXT:
		*(const char **)field = text;
		return true;
	case LIST:
		if (c->listens < HTTP_LISTEN_MOST) {
			c->listen[c->listens++] = text;
			return true;
		}
		snprintf(cause, size, "Option --%s may be given %d times.", r->name, HTTP_LISTEN_MOST);
		return false;
	case NUMBER:
		break;
	}
	errno = 0;
	n = strtoll(text, &end, 10);
	if (end == text || *end || errno || n < r->least || n > r->most) {
		snprintf(cause, size, "Option --%s takes a number from %lld to %lld, not \"%.60s\".", r->name,
			 (long long)r->least, (long long)r->most, text);
		return false;
	}
	*(int64_t *)field = n;
	return true;
}

/* The row of a word that begins with a dash; *value is what is glued to it, or NULL. */
static const struct row *find(const char *word, const char **value)
{
	const bool is_long = word[1] == '-';
	const char *name = word + 1 + is_long;
	size_t len = is_long ? strcspn(name, "=") : 1;

	*value = name[len] ? name + len + is_long : NULL;
	for (size_t i = 0; i < ROWS; i++)
		if (is_long ? strlen(rows[i].name) == len && strncmp(rows[i].name, name, len) == 0
			    : rows[i].letter && rows[i].letter == *name)
			return &rows[i];
	return NULL;
}

bool http_conf_read(struct http_conf *c, int argc, char **argv, char *cause, size_t size)
{
	*c = (struct http_conf){ .body_bytes = 4 << 20, .connections = 256, .timeout = 60, .keep = 32 };
	for (int i = 1; i < argc; i++) {
		const char *value = NULL;
		const struct row *r;

		if (argv[i][0] != '-' || !argv[i][1]) {
			snprintf(cause, size, "There are options only, no \"%.60s\".", argv[i]);
			return false;
		}
		r = find(argv[i], &value);
		if (!r) {
			snprintf(cause, size, "There is no option %.60s.", argv[i]);
			return false;
		}
		if (!r->value && value) {
			snprintf(cause, size, "Option --%s takes no value.", r->name);
			return false;
		}
		if (r->value && !value && i + 1 < argc)
			value = argv[++i];
		if (r->value && !value) {
			snprintf(cause, size, "Option --%s needs a value: %s.", r->name, r->value);
			return false;
		}
		if (!take(c, r, value, cause, size))
			return false;
	}
	return true;
}

void http_conf_help(void)
{
	printf("Usage: sinkd-http [options]\n\n"
	       "Serves the daemon's conversations to clients of the OpenAI API, by default at the unix socket\n"
	       "$XDG_RUNTIME_DIR/sinkd/http.sock. See sinkd-http(8).\n\nOptions:\n");
	for (size_t i = 0; i < ROWS; i++) {
		char head[64];

		snprintf(head, sizeof(head), "%c%c%s --%s%s%s", rows[i].letter ? '-' : ' ',
			 rows[i].letter ? rows[i].letter : ' ', rows[i].letter ? "," : " ", rows[i].name,
			 rows[i].value ? " " : "", rows[i].value ? rows[i].value : "");
		printf("  %-26s %s\n", head, rows[i].help);
	}
}
