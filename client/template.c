/*
 * Reading templates. inih tells a handler no line numbers, takes lines of 200 bytes, and passes over blank lines, so
 * the lines come from a reader of ours: it counts, hands a long line over as several that go on, and remembers how the
 * handler has to join what it gets.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "template.h"

#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "input.h"
#include "json.h"
#include "nearest.h"
#include "paths.h"
#include "program.h"
#include "term.h"

#ifndef TEMPLATE_DIR
#define TEMPLATE_DIR "/usr/local/share/sinkd/templates"
#endif

enum { PLACES = 3 };

/* Keys beyond the options. */
enum { KEY_NONE = OPTION_COUNT, KEY_PROMPT, KEY_DESCRIPTION };

/* The options that a template may set: those that make a conversation, and of sampling. */
static const uint64_t settable =
	OPTION_BIT(OPTION_SYSTEM) | OPTION_BIT(OPTION_POLICY) | OPTION_BIT(OPTION_MARKS) | OPTION_SAMPLING;

struct template
{
	char path[PATH_MAX];
	struct options set;
	struct buf prompt, description;
};

/* What is known while a file is read. */
struct reading {
	struct template *t;
	FILE *from;
	char *raw; /* the line that is handed over */
	size_t room, length, at;
	int line, blank_lines;
	bool glued;	/* what comes is a piece of the line before */
	bool continued; /* the line began with a blank */
	int key, key_line;
	bool seen[KEY_DESCRIPTION + 1];
	struct buf value; /* of that key, so far */
	char cause[240];  /* the first failure; "" */
	int cause_line;
};

static void failed(struct reading *r, int line, const char *fmt, const char *what)
{
	if (r->cause[0])
		return;
	snprintf(r->cause, sizeof(r->cause), fmt, what);
	r->cause_line = line;
}

/* ---- lines ---- */

/* Fetches a line, without its end and a comment behind a value; false at the file's end. */
static bool fetch_line(struct reading *r)
{
	ssize_t n = getline(&r->raw, &r->room, r->from);
	char *comment;

	if (n < 0)
		return false;
	r->line++;
	r->at = 0;
	if (memchr(r->raw, '\0', (size_t)n) || buf_utf8(r->raw, (size_t)n) < (size_t)n)
		failed(r, r->line, "This is no text in UTF-8%s.", "");
	r->raw[strcspn(r->raw, "\r\n")] = '\0';
	r->continued = r->raw[0] == ' ' || r->raw[0] == '\t';
	comment = r->continued ? NULL : strstr(r->raw, " ;");
	if (comment)
		*comment = '\0';
	r->length = strlen(r->raw);
	if (!r->raw[strspn(r->raw, " \t")])
		r->blank_lines++;
	return true;
}

/* Where a line too long for inih can be cut: between two characters that it would not strip. */
static size_t piece(const struct reading *r, size_t most)
{
	const char *text = r->raw + r->at;
	size_t n = r->length - r->at;

	if (n <= most)
		return n;
	for (n = most; n > 1; n--)
		if (!strchr(" \t", text[n - 1]) && !strchr(" \t;#", text[n]))
			return n;
	return most;
}

/* inih's reader. */
static char *next_line(char *line, int size, void *stream)
{
	struct reading *r = stream;
	size_t n;

	r->glued = r->at < r->length;
	if (!r->glued && !fetch_line(r))
		return NULL;
	n = piece(r, (size_t)size - 3);
	snprintf(line, (size_t)size, "%s%.*s\n", r->glued ? " " : "", (int)n, r->raw + r->at);
	r->at += n;
	return r->cause[0] ? NULL : line;
}

/* ---- keys ---- */

static int find_key(const char *name)
{
	enum option i = option_named(settable, name, strlen(name));

	if (i != OPTION_COUNT)
		return (int)i;
	return strcmp(name, "prompt") == 0 ? KEY_PROMPT : strcmp(name, "description") == 0 ? KEY_DESCRIPTION : KEY_NONE;
}

static void unknown_key(struct reading *r, const char *name)
{
	const char *names[OPTION_COUNT + 2], *near;
	size_t count = 0;
	char text[160];

	for (enum option i = 0; i < OPTION_COUNT; i++)
		if (settable & OPTION_BIT(i))
			names[count++] = option_rows[i].name;
	names[count++] = "prompt";
	names[count++] = "description";
	near = nearest(name, strlen(name), names, count);
	snprintf(text, sizeof(text), "%.60s%s%s", name, near ? "\"; did you mean \"" : "", near ? near : "");
	failed(r, r->line, "There is no key \"%s\".", text);
}

/* A file that is named, behind `before`, stands beside the template. */
static void beside(struct reading *r, const char *before)
{
	const char *slash = strrchr(r->t->path, '/'), *name = buf_text(&r->value) + strlen(before);
	struct buf path = { 0 };

	if (*name == '/' || !slash)
		return;
	buf_addf(&path, "%s%.*s/%s", before, (int)(slash - r->t->path), r->t->path, name);
	buf_clear(&r->value);
	buf_adds(&r->value, buf_text(&path));
	buf_release(&path);
}

/* The value of the last key is whole. */
static void take_value(struct reading *r)
{
	char cause[200];
	const char *text;

	if (r->key == OPTION_SYSTEM && buf_text(&r->value)[0] == '@')
		beside(r, "@");
	if (r->key < KEY_NONE && option_rows[r->key].type == OPTION_IS_FILE)
		beside(r, "");
	text = buf_text(&r->value);
	if (r->key == KEY_PROMPT || r->key == KEY_DESCRIPTION) {
		buf_adds(r->key == KEY_PROMPT ? &r->t->prompt : &r->t->description, text);
	} else if (r->key < KEY_NONE && option_rows[r->key].type == OPTION_IS_FLAG) {
		bool yes = strcmp(text, "yes") == 0 || strcmp(text, "true") == 0;

		if (!yes && strcmp(text, "no") != 0 && strcmp(text, "false") != 0)
			failed(r, r->key_line, "\"%.60s\" is neither yes nor no.", text);
		else if (yes && !option_set(&r->t->set, (enum option)r->key, "", cause, sizeof(cause)))
			failed(r, r->key_line, "%s", cause);
	} else if (r->key < KEY_NONE && !option_set(&r->t->set, (enum option)r->key, text, cause, sizeof(cause))) {
		failed(r, r->key_line, "%s", cause);
	}
	r->key = KEY_NONE;
	buf_clear(&r->value);
}

static bool takes_lines(int key)
{
	return key == OPTION_SYSTEM || key == KEY_PROMPT || key == KEY_DESCRIPTION;
}

/* inih's handler: a key, or more of the last one. */
static int take_line(void *user, const char *section, const char *name, const char *value)
{
	struct reading *r = user;

	if (r->cause[0])
		return 0;
	if (r->glued) {
		buf_adds(&r->value, value);
	} else if (r->continued) {
		if (!takes_lines(r->key))
			failed(r, r->line, "The value of \"%s\" has no second line.", name);
		for (; r->value.size && r->blank_lines >= 0; r->blank_lines--)
			buf_adds(&r->value, "\n");
		buf_adds(&r->value, value);
	} else {
		take_value(r);
		r->key = find_key(name);
		r->key_line = r->line;
		if (*section && strcmp(section, "template") != 0)
			failed(r, r->line, "There is no section [%s]; the only one is [template].", section);
		else if (r->key == KEY_NONE)
			unknown_key(r, name);
		else if (r->seen[r->key] && r->key != OPTION_STOP)
			failed(r, r->line, "The key \"%s\" is given twice.", name);
		else
			r->seen[r->key] = true;
		buf_adds(&r->value, value);
	}
	r->blank_lines = 0;
	return !r->cause[0];
}

/* Reads t->path. An exit code. */
static int read_template(struct template *t)
{
	struct reading r = { .t = t, .from = fopen(t->path, "re"), .key = KEY_NONE };
	int line, code = 0;

	if (!r.from)
		return fail(FAIL_FAILED, "%s cannot be read: %s.", t->path, strerror(errno));
	line = ini_parse_stream(next_line, &r, take_line, &r);
	if (!r.cause[0] && ferror(r.from))
		failed(&r, r.line + 1, "The rest cannot be read: %s.", strerror(errno));
	if (line && !r.cause[0])
		failed(&r, line, "This is no `name = value`%s.", "");
	if (!r.cause[0])
		take_value(&r);
	if (r.cause[0])
		code = fail(FAIL_USAGE, "%s, line %d: %s", t->path, r.cause_line, r.cause);
	fclose(r.from);
	free(r.raw);
	buf_release(&r.value);
	return code;
}

static void release(struct template *t)
{
	option_release(&t->set);
	buf_release(&t->prompt);
	buf_release(&t->description);
}

/* ---- places ---- */

/* The directory of a place, the user's own first; false when it has none. */
static bool place(int which, char ret[PATH_MAX])
{
	if (which == 0)
		return paths_get(PATHS_CONFIG, "templates", ret, PATH_MAX);
	snprintf(ret, PATH_MAX, "%s", which == 1 ? "/etc/sinkd/templates" : TEMPLATE_DIR);
	return true;
}

/* The file of a name in a place; false when the path is too long. */
static bool file_in(int which, const char *name, char ret[PATH_MAX])
{
	char dir[PATH_MAX];

	return place(which, dir) && snprintf(ret, PATH_MAX, "%s/%s.ini", dir, name) < PATH_MAX;
}

static int check_name(const char *name)
{
	if (*name && *name != '.')
		return 0;
	return fail(FAIL_USAGE, "A template's name is not empty and begins with no dot.");
}

static int find(const char *name, char path[PATH_MAX])
{
	int code = strchr(name, '/') ? 0 : check_name(name);

	if (code)
		return code;
	if (strchr(name, '/')) {
		if (strlen(name) >= PATH_MAX)
			return fail(FAIL_USAGE, "The path is too long.");
		strcpy(path, name);
		return 0;
	}
	for (int i = 0; i < PLACES; i++)
		if (file_in(i, name, path) && access(path, F_OK) == 0)
			return 0;
	return fail(FAIL_ABSENT, "There is no template \"%.60s\"; `sink template ls` lists them.", name);
}

int template_apply(struct cli *c)
{
	const char *name = c->o.v[OPTION_TEMPLATE].text;
	struct template t = { 0 };
	char cause[200];
	int code;

	if (!name)
		return 0;
	code = find(name, t.path);
	if (!code)
		code = read_template(&t);
	for (enum option i = 0; !code && i < OPTION_COUNT; i++) {
		const struct option_value *v = &t.set.v[i];
		bool good = true;

		if (!v->given || c->o.v[i].given)
			continue;
		for (size_t k = 0; good && k < v->count; k++)
			good = option_set(&c->o, i, v->list[k], cause, sizeof(cause));
		if (!v->count)
			good = option_set(&c->o, i, v->text, cause, sizeof(cause));
		if (!good)
			code = fail(FAIL_FAILED, "%s", cause);
	}
	if (!code)
		buf_adds(&c->prefix, buf_text(&t.prompt));
	release(&t);
	return code;
}

/* ---- the verb ---- */

static bool listed(const struct buf *b, const char *name, size_t len)
{
	for (const char *at = buf_text(b); *at; at += strcspn(at, "\n") + 1)
		if (strncmp(at, name, len) == 0 && at[len] == '\t')
			return true;
	return false;
}

/* The value of `description`, without the complaints that reading the file may cause. */
static void describe(const char *path, struct buf *b)
{
	char line[200];
	FILE *f = fopen(path, "re");
	size_t len;

	while (f && fgets(line, sizeof(line), f)) {
		char *value = line + strspn(line, " \t");

		if (strncmp(value, "description", 11) != 0)
			continue;
		value += 11;
		value += strspn(value, " \t");
		if (*value++ != '=')
			continue;
		value += strspn(value, " \t");
		len = strcspn(value, "\r\n");
		buf_add(b, value, buf_utf8(value, len));
		break;
	}
	if (f)
		fclose(f);
}

static int is_template(const struct dirent *d)
{
	size_t len = strlen(d->d_name);

	return d->d_name[0] != '.' && len > 4 && strcmp(d->d_name + len - 4, ".ini") == 0;
}

void template_list(struct buf *b)
{
	char dir[PATH_MAX], path[PATH_MAX];

	for (int i = 0; i < PLACES; i++) {
		struct dirent **names = NULL;
		int count = place(i, dir) ? scandir(dir, &names, is_template, alphasort) : 0;

		for (int k = 0; k < count; k++) {
			size_t len = strlen(names[k]->d_name) - 4;

			if (!listed(b, names[k]->d_name, len) &&
			    snprintf(path, sizeof(path), "%s/%s", dir, names[k]->d_name) < PATH_MAX) {
				buf_addf(b, "%.*s\t", (int)len, names[k]->d_name);
				describe(path, b);
				buf_adds(b, "\n");
			}
			free(names[k]);
		}
		free(names);
	}
}

static int list(struct cli *c)
{
	struct buf b = { 0 };

	template_list(&b);
	for (char *at = b.data; at && *at;) {
		char *name = at, *tab = strchr(at, '\t'), *end = strchr(at, '\n');
		struct buf line = { 0 };

		*tab = *end = '\0';
		at = end + 1;
		if (c->o.v[OPTION_JSON].given) {
			buf_adds(&line, "{\"name\":");
			json_quote(&line, name);
			buf_adds(&line, ",\"description\":");
			json_quote(&line, tab + 1);
			buf_adds(&line, "}\n");
		} else if (c->o.v[OPTION_QUIET].given) {
			buf_addf(&line, "%s\n", name);
		} else {
			buf_addf(&line, "%-16s %s\n", name, tab + 1);
		}
		term_text(buf_text(&line), line.size);
		buf_release(&line);
	}
	if (!b.size)
		term_hint("There is no template yet; `sink template edit NAME` begins one.\n");
	buf_release(&b);
	return 0;
}

static int show(const char *name)
{
	struct buf text = { 0 };
	char path[PATH_MAX];
	int code = find(name, path);

	if (!code)
		code = input_file(&text, path);
	if (!code) {
		buf_adds(&text, "\n");
		term_text(buf_text(&text), text.size);
	}
	buf_release(&text);
	return code;
}

/* What an editor finds: the template of another place, or a beginning. */
static int begin(const char *name, const char *path)
{
	static const char form[] = "; A template for sink: `sink help template` tells the keys.\n"
				   "description = \n"
				   "system = \n"
				   "; policy = sink:4,1020\n"
				   "; temperature = 0.7\n";
	struct buf text = { 0 };
	char from[PATH_MAX];
	bool found = false;
	int code = 0, error;
	FILE *f;

	for (int i = 1; i < PLACES && !found; i++)
		found = file_in(i, name, from) && access(from, F_OK) == 0;
	if (found)
		code = input_file(&text, from);
	if (code)
		return code;
	buf_adds(&text, found ? "\n" : form);
	error = paths_make(path);
	f = error ? NULL : fopen(path, "wxe");
	if (!f || fwrite(text.data, 1, text.size, f) != text.size)
		error = error ? error : errno;
	if (f && fclose(f))
		error = error ? error : errno;
	buf_release(&text);
	return error ? fail(FAIL_FAILED, "%s cannot be written: %s.", path, strerror(error)) : 0;
}

static int edit(const char *name)
{
	struct template t = { 0 };
	int code = strchr(name, '/') ? find(name, t.path) : check_name(name);

	if (!code && !strchr(name, '/') && !file_in(0, name, t.path))
		code = fail(FAIL_FAILED, "Without $HOME there is no place for templates.");
	if (!code && access(t.path, F_OK) != 0)
		code = begin(name, t.path);
	if (!code)
		code = program_edit_file(t.path);
	if (!code)
		code = read_template(&t); /* what is wrong in it is told now, not when it is used */
	release(&t);
	return code;
}

static int path_of(const char *name)
{
	char path[PATH_MAX];
	int code = name ? find(name, path) : 0;

	if (!name && !place(0, path))
		code = fail(FAIL_FAILED, "Without $HOME there is no place for templates.");
	if (!code)
		printf("%s\n", path);
	return code;
}

int template_run(struct cli *c)
{
	const char *what = c->o.count ? c->o.args[0] : "ls", *name = c->o.count > 1 ? c->o.args[1] : NULL;

	if (strcmp(what, "ls") == 0 && !name)
		return list(c);
	if (strcmp(what, "path") == 0)
		return path_of(name);
	if (strcmp(what, "show") == 0 && name)
		return show(name);
	if (strcmp(what, "edit") == 0 && name)
		return edit(name);
	return fail(FAIL_USAGE, "Usage: sink template ls, show NAME, edit NAME, path or path NAME");
}
