/* Reading what is not typed: bounded and checked, so that a wrong file is told of before anything is sent. */
#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json.h"
#include "term.h"

enum { READ_MOST = 64 << 20 }; /* bytes of one file; the daemon's own limit is far below */
enum { SAY_MS = 600000 };      /* a message of an export may be long, and is said when the one before it was read */

static int read_whole(struct buf *b, const char *path)
{
	bool standard = strcmp(path, "-") == 0;
	int fd = standard ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC), error;

	if (standard)
		path = "Standard input";
	if (fd < 0)
		return fail(FAIL_FAILED, "%s cannot be read: %s.", path, strerror(errno));
	error = buf_read(b, fd, READ_MOST);
	close(fd);
	if (error)
		return fail(FAIL_FAILED, "%s cannot be read: %s.", path, strerror(error));
	if (b->size > READ_MOST)
		return fail(FAIL_USAGE, "%s is longer than %d MiB.", path, READ_MOST >> 20);
	return 0;
}

int input_file(struct buf *b, const char *path)
{
	struct buf text = { 0 };
	int code = read_whole(&text, path);

	while (text.size && text.data[text.size - 1] == '\n')
		buf_cut(&text, text.size - 1);
	if (b->size && text.size)
		buf_adds(b, "\n\n");
	buf_add(b, buf_text(&text), text.size);
	if (!code && (b->failed || text.failed))
		code = fail(FAIL_FAILED, "There is not enough memory.");
	buf_release(&text);
	return code;
}

/* Ids with commas or blanks between them; whether there are such tokens is the daemon's to say. */
static int add_marks(const char *list, struct sink_args *a)
{
	static const char between[] = ", ";
	const char *at = list + strspn(list, between);
	bool wrong = !*at;

	sink_args_array(a, "marks");
	while (*at && !wrong) {
		char *end;
		long long id;

		errno = 0;
		id = strtoll(at, &end, 10);
		wrong = *at < '0' || *at > '9' || errno || (*end && !strchr(between, *end));
		sink_args_int(a, NULL, id);
		at = end + strspn(end, between);
	}
	sink_args_end(a);
	return wrong ? fail(FAIL_USAGE, "Option --marks takes token ids with commas between them, not \"%.60s\".", list)
		     : 0;
}

int input_making(struct cli *c, struct sink_args *a)
{
	const char *system = c->o.v[OPTION_SYSTEM].text, *policy = c->o.v[OPTION_POLICY].text;
	const char *marks = c->o.v[OPTION_MARKS].text;
	struct buf text = { 0 };
	int code = marks ? add_marks(marks, a) : 0;

	if (policy)
		sink_args_str(a, "policy", policy);
	if (code)
		return code;
	if (system && *system == '@')
		code = input_file(&text, system + 1);
	else if (system)
		buf_adds(&text, system);
	if (system && !code)
		sink_args_strn(a, "system", buf_text(&text), text.size);
	buf_release(&text);
	return code;
}

/* ---- files that are read in portions ---- */

/* Copies all of a descriptor to a file without a name. 0 or errno. */
static int copy_whole(int from, int *fd, int64_t *size)
{
	static char chunk[1 << 16];
	FILE *copy = tmpfile();
	ssize_t n = 1;
	int error = copy && (*fd = dup(fileno(copy))) >= 0 ? 0 : errno;

	for (*size = 0; !error && n; *size += n) {
		n = read(from, chunk, sizeof(chunk));
		if (n < 0 && errno != EINTR)
			error = errno;
		n = n < 0 ? 0 : n;
		if (!error)
			error = term_write(*fd, chunk, (size_t)n);
	}
	if (copy)
		fclose(copy);
	return error;
}

int input_open(const char *path, int *fd, int64_t *size)
{
	bool standard = strcmp(path, "-") == 0;
	int from = standard ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC), error;
	struct stat st;

	*fd = -1;
	error = from < 0 || fstat(from, &st) ? errno : 0;
	if (!error && S_ISREG(st.st_mode) && lseek(from, 0, SEEK_CUR) == 0) {
		*fd = from;
		*size = st.st_size;
		return 0;
	}
	if (!error)
		error = copy_whole(from, fd, size);
	if (from >= 0)
		close(from);
	if (!error)
		return 0;
	if (*fd >= 0)
		close(*fd);
	return fail(FAIL_FAILED, "%s cannot be read: %s.", standard ? "Standard input" : path, strerror(error));
}

int input_schema(const struct options *o, struct buf *schema)
{
	const struct option_value *v = &o->v[OPTION_SCHEMA];
	struct sink_args *a;
	bool good;
	int code;

	if (!v->given)
		return 0;
	code = input_file(schema, v->text);
	if (code)
		return code;
	a = sink_args_new();
	good = a && sink_args_json(a, "schema", buf_text(schema), schema->size);
	sink_args_free(a);
	return good ? 0 : fail(FAIL_USAGE, "%s: %s", v->text, sink_error_text(NULL));
}

/* ---- exports ---- */

static int no_export(const char *why)
{
	return fail(FAIL_USAGE, "This is no JSON export of sink: %s.", why);
}

/* A number as the daemon's own objects have it: with a point or an exponent it is a float. */
static void add_number(struct sink_args *a, const char *key, struct json v)
{
	char text[64];

	snprintf(text, sizeof(text), "%.*s", (int)v.size, v.text);
	if (strpbrk(text, ".eE"))
		sink_args_float(a, key, strtod(text, NULL));
	else
		sink_args_int(a, key, strtoll(text, NULL, 10));
}

/* Any value of a JSON text that json_valid() has passed, which bounds the recursion. */
static void add_value(struct sink_args *a, const char *key, struct json v)
{
	struct buf text = { 0 };
	struct json one;
	size_t at = 0;

	switch (v.text[0]) {
	case '"':
		json_unquote(v, &text);
		sink_args_strn(a, key, buf_text(&text), text.size);
		buf_release(&text);
		break;
	case '[':
		sink_args_array(a, key);
		while (json_next(v, &at, &one))
			add_value(a, NULL, one);
		sink_args_end(a);
		break;
	case 't':
	case 'f':
		sink_args_bool(a, key, v.text[0] == 't');
		break;
	case '{': /* there is none in what is taken from an export */
	case 'n':
		sink_args_str(a, key, NULL);
		break;
	default:
		add_number(a, key, v);
	}
}

/* The settings that we know by their options: others of a newer daemon would be refused by this one. */
static void add_sampling(struct sink_args *a, struct json sampling)
{
	struct json v;

	sink_args_map(a, "sampling");
	for (enum option i = 0; i < OPTION_COUNT; i++) {
		if (!option_rows[i].key || !json_member(sampling, option_rows[i].key, &v))
			continue;
		if (option_rows[i].type == OPTION_IS_FILE)
			sink_args_json(a, option_rows[i].key, v.text, v.size);
		else
			add_value(a, option_rows[i].key, v);
	}
	sink_args_end(a);
}

static bool text_member(struct json of, const char *key, struct buf *ret)
{
	struct json v;

	buf_clear(ret);
	return json_member(of, key, &v) && json_unquote(v, ret);
}

/* Makes the conversation with all but its messages; a system prompt that begins them is made with it. *first: is it. */
static struct sink_reply *make_again(struct cli *c, struct json all, struct json messages, const char *name,
				     bool *first, int *code)
{
	struct sink_args *a = sink_args_new();
	struct buf text = { 0 };
	struct json v;
	size_t at = 0;

	if (name)
		sink_args_str(a, "name", name);
	else if (text_member(all, "name", &text))
		sink_args_strn(a, "name", buf_text(&text), text.size);
	if (text_member(all, "policy", &text)) {
		sink_args_strn(a, "policy", buf_text(&text), text.size);
		sink_args_bool(a, "pin_system", false); /* what was pinned is part of it */
	}
	if (json_member(all, "sampling", &v) && v.text[0] == '{')
		add_sampling(a, v);
	*first = json_next(messages, &at, &v) && text_member(v, "role", &text) &&
		 strcmp(buf_text(&text), "system") == 0 && text_member(v, "text", &text);
	if (!*first)
		buf_clear(&text); /* no system prompt, not even the model's own */
	sink_args_strn(a, "system", buf_text(&text), text.size);
	buf_release(&text);
	return verb_call(c, "new", a, code);
}

static int say_again(struct cli *c, const char *name, const struct buf *role, const struct buf *text)
{
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;

	sink_args_str(a, "conversation", name);
	sink_args_strn(a, "role", buf_text(role), role->size);
	sink_args_strn(a, "text", buf_text(text), text->size);
	sink_args_bool(a, "answer", false);
	r = sink_call(c->sink, "say", a, SAY_MS);
	sink_reply_free(r);
	return r ? 0 : fail_sink(c->sink);
}

/* Says the messages one by one, but for the one that was made with the conversation. */
static int say_all(struct cli *c, struct json messages, const char *name, bool first)
{
	struct buf role = { 0 }, text = { 0 };
	struct json one;
	size_t at = 0, said = 0;
	int code = 0;

	while (!code && json_next(messages, &at, &one)) {
		term_progress("message %zu", said);
		if (!text_member(one, "role", &role) || !text_member(one, "text", &text))
			code = no_export("a message has no role or no text");
		else if (role.failed || text.failed)
			code = fail(FAIL_FAILED, "There is not enough memory.");
		else if (said || !first)
			code = say_again(c, name, &role, &text);
		said++;
	}
	term_clear();
	buf_release(&role);
	buf_release(&text);
	return code;
}

/* With --json the conversation as it is now, in a map as bundle_import's reply has it; else its name. */
static int tell(struct cli *c, const char *name)
{
	struct sink_args *a;
	struct sink_reply *r;
	int code = 0;

	if (!c->o.v[OPTION_JSON].given) {
		printf("%s\n", name);
		return 0;
	}
	a = sink_args_new();
	sink_args_str(a, "conversation", name);
	r = verb_call(c, "show", a, &code);
	if (r)
		code = verb_json(r, NULL);
	sink_reply_free(r);
	return code;
}

static int make_export(struct cli *c, struct json all, const char *name)
{
	struct json messages;
	struct sink_reply *r;
	struct sink_args *a;
	const char *made;
	bool first;
	int code;

	if (!json_member(all, "messages", &messages) || messages.text[0] != '[')
		return no_export("there are no messages");
	r = make_again(c, all, messages, name, &first, &code);
	made = r ? sink_str(r, "conversation.name", NULL) : NULL;
	if (made)
		code = say_all(c, messages, made, first);
	if (made && code) {
		a = sink_args_new();
		sink_args_str(a, "conversation", made);
		sink_reply_free(sink_call(c->sink, "remove", a, SAY_MS));
	} else if (made) {
		code = tell(c, made);
	}
	sink_reply_free(r);
	return code;
}

int input_export(struct cli *c, int fd, const char *name)
{
	struct buf b = { 0 };
	int error = lseek(fd, 0, SEEK_SET) < 0 ? errno : buf_read(&b, fd, READ_MOST), code;
	struct json all;

	if (b.size >= 3 && memcmp(b.data, "\xef\xbb\xbf", 3) == 0)
		buf_drop(&b, 3);
	all = (struct json){ buf_text(&b), b.size };
	if (error)
		code = fail(FAIL_FAILED, "The export cannot be read: %s.", strerror(error));
	else if (b.size > READ_MOST)
		code = fail(FAIL_USAGE, "The export is longer than %d MiB.", READ_MOST >> 20);
	else if (!json_valid(all))
		code = no_export("it is damaged");
	else
		code = make_export(c, all, name);
	buf_release(&b);
	return code;
}
