/*
 * Conversations to files and back: Markdown to read, JSON to work on, bundles to go on elsewhere.
 *
 * A file appears whole or not at all: it is written beside its place, made durable, and then renamed. A bundle is read
 * and written in portions, since it may hold the model's memory; a JSON export is said again, message by message.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* renameat2 */
#endif
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "input.h"
#include "json.h"
#include "log.h"
#include "target.h"
#include "term.h"
#include "verb.h"

enum {
	PORTION = 1 << 20, /* bytes of a bundle in one message */
	ENVELOPE = 4096,   /* of a message around them */
	MESSAGES = 64,	   /* fetched at once */
	SLOW_MS = 600000,  /* for what the daemon reads or writes as a whole */
	SNIFF = 4096,	   /* bytes in which a bundle has a NUL, and text has none */
};

/* ---- where an export goes ---- */

struct place {
	const char *path; /* NULL: standard output */
	int fd;
	bool force;
};

static char part[PATH_MAX]; /* the unfinished file, for the signal that ends us */

static void drop_part(int sig)
{
	unlink(part);
	signal(sig, SIG_DFL);
	raise(sig);
}

static void mind_signals(void (*handler)(int))
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (signal(signals[i], handler) == SIG_IGN)
			signal(signals[i], SIG_IGN); /* as whoever started us wanted */
}

static int place_open(struct place *p, const char *path, bool force)
{
	struct stat st;

	*p = (struct place){ .path = path && strcmp(path, "-") != 0 ? path : NULL, .fd = -1, .force = force };
	if (!p->path)
		return 0;
	if (!lstat(path, &st)) {
		if (!S_ISREG(st.st_mode))
			return fail(FAIL_FAILED, "%s is no regular file; - is standard output.", path);
		if (!force)
			return fail(FAIL_FAILED, "%s exists; --force writes over it.", path);
	}
	if (snprintf(part, sizeof(part), "%s.%ld.part", path, (long)getpid()) >= (int)sizeof(part))
		return fail(FAIL_USAGE, "The name \"%.40s…\" is too long.", path);
	p->fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (p->fd < 0)
		return fail(FAIL_FAILED, "%s cannot be written: %s.", path, strerror(errno));
	mind_signals(drop_part);
	return 0;
}

/* Text that a person may read on a terminal, or bytes as they are. */
static int place_put(struct place *p, const void *data, size_t size, bool text)
{
	int error;

	if (!p->path) {
		if (text)
			term_text(data, size);
		else
			term_raw(data, size);
		return term_broken() ? FAIL_FAILED : 0; /* the reason is told at the end */
	}
	error = term_write(p->fd, data, size);
	return error ? fail(FAIL_FAILED, "%s cannot be written: %s.", p->path, strerror(error)) : 0;
}

/* Ends what began with place_open(): the file stands in its place when `code` is 0 and all went well, else nowhere. */
static int place_close(struct place *p, int code)
{
	int error = 0;

	if (p->fd < 0)
		return code;
	if (!code && fsync(p->fd))
		error = errno;
	if (close(p->fd) && !error && !code)
		error = errno;
	if (!code && !error) {
		int rc = p->force ? rename(part, p->path)
				  : renameat2(AT_FDCWD, part, AT_FDCWD, p->path, RENAME_NOREPLACE);

		if (rc && !p->force && (errno == EINVAL || errno == ENOSYS)) /* a file system that cannot tell */
			rc = rename(part, p->path);
		error = rc ? errno : 0;
	}
	if (code || error)
		unlink(part);
	mind_signals(SIG_DFL);
	return error ? fail(FAIL_FAILED, "%s cannot be written: %s.", p->path, strerror(error)) : code;
}

static int put_buf(struct place *p, struct buf *b, bool text)
{
	int code =
		b->failed ? fail(FAIL_FAILED, "There is not enough memory.") : place_put(p, buf_text(b), b->size, text);

	buf_clear(b);
	return code;
}

/* ---- messages ---- */

static struct sink_args *about(const char *name)
{
	struct sink_args *a = sink_args_new();

	sink_args_str(a, "conversation", name);
	return a;
}

static void add_markdown(struct buf *b, const struct sink_reply *r, size_t i)
{
	char path[64];
	const char *text;
	size_t len = 0;

	snprintf(path, sizeof(path), "messages.%zu.role", i);
	text = sink_str(r, path, NULL);
	buf_addf(b, "\n## %s\n\n", text ? text : "");
	snprintf(path, sizeof(path), "messages.%zu.text", i);
	text = sink_str(r, path, &len);
	while (len && text[len - 1] == '\n')
		len--;
	buf_add(b, text, len);
	buf_adds(b, "\n");
}

/* Element i of a reply's messages as JSON, from the reply's own text. */
static void add_json(struct buf *b, struct json messages, size_t *at, bool first)
{
	struct json one;

	if (!json_next(messages, at, &one))
		return;
	buf_adds(b, first ? "\n" : ",\n");
	buf_add(b, one.text, one.size);
}

/* The messages of one reply, but the one that is being written. *next: where the following reply begins. */
static int put_messages(struct place *p, const struct sink_reply *r, bool markdown, const struct log_info *info,
			int64_t *next)
{
	char *text = sink_json(r), path[64];
	struct json all = { text, text ? strlen(text) : 0 }, messages = { 0 };
	struct buf b = { .failed = !text };
	size_t at = 0, count = sink_count(r, "messages");
	int code;

	if (text)
		json_member(all, "messages", &messages);
	for (size_t i = 0; i < count; i++) {
		int64_t number;

		snprintf(path, sizeof(path), "messages.%zu.message", i);
		number = sink_int(r, path, *next);
		if (number == info->answer)
			break; /* it is the last */
		if (markdown)
			add_markdown(&b, r, i);
		else
			add_json(&b, messages, &at, number == 0);
		*next = number + 1;
	}
	free(text);
	code = put_buf(p, &b, markdown);
	buf_release(&b);
	return code;
}

static int put_all_messages(struct cli *c, struct place *p, const char *name, bool markdown,
			    const struct log_info *info)
{
	int64_t next = 0, before = -1;
	int code = 0;

	while (!code && next > before && next < info->messages) {
		struct sink_args *a = about(name);
		struct sink_reply *r;

		before = next;
		sink_args_int(a, "from", next);
		sink_args_int(a, "count", MESSAGES);
		r = verb_call(c, "log", a, &code);
		if (r)
			code = put_messages(p, r, markdown, info, &next);
		sink_reply_free(r);
	}
	return code;
}

/* What stands in front of the messages. */
static void add_head(struct buf *b, const struct sink_reply *r, const char *name, bool markdown)
{
	static const char *const keys[] = { "name", "policy", "sampling", "created" };
	char *text = markdown ? NULL : sink_json(r);
	struct json all = { text, text ? strlen(text) : 0 }, info, one;

	if (markdown) {
		buf_addf(b, "# %s\n", name);
		return;
	}
	b->failed |= !text;
	buf_adds(b, "{");
	for (size_t i = 0; text && json_member(all, "conversation", &info) && i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (!json_member(info, keys[i], &one))
			continue;
		buf_addf(b, "\"%s\":", keys[i]);
		buf_add(b, one.text, one.size);
		buf_adds(b, ",");
	}
	buf_adds(b, "\"messages\":[");
	free(text);
}

static int export_text(struct cli *c, struct place *p, const char *name, bool markdown)
{
	struct sink_reply *r;
	struct log_info info;
	struct buf b = { 0 };
	int code = log_info(c, name, &info);

	r = code ? NULL : verb_call(c, "show", about(name), &code);
	if (r) {
		add_head(&b, r, name, markdown);
		code = put_buf(p, &b, markdown);
	}
	sink_reply_free(r);
	if (!code)
		code = put_all_messages(c, p, name, markdown, &info);
	if (!code && !markdown)
		code = place_put(p, "\n]}\n", 4, false);
	buf_release(&b);
	return code;
}

/* ---- bundles out ---- */

static void end_bundle(struct cli *c, int64_t bundle)
{
	struct sink_args *a = sink_args_new();

	sink_args_int(a, "bundle", bundle);
	sink_reply_free(sink_call(c->sink, "bundle_close", a, SLOW_MS)); /* else it ends with the connection */
}

static int export_portions(struct cli *c, struct place *p, int64_t bundle, int64_t bytes)
{
	int64_t at = 0;
	size_t size = 1;
	int code = 0;

	while (!code && size > 0) {
		struct sink_args *a = sink_args_new();
		struct sink_reply *r;
		const void *data;

		size = 0;
		sink_args_int(a, "bundle", bundle);
		sink_args_int(a, "offset", at);
		sink_args_int(a, "count", PORTION);
		r = verb_call(c, "bundle_read", a, &code);
		data = r ? sink_bin(r, "data", &size) : NULL;
		if (data && size)
			code = place_put(p, data, size, false);
		at += (int64_t)size;
		if (bytes > PORTION && p->path)
			term_progress("%.0f %%", 100.0 * (double)at / (double)bytes);
		sink_reply_free(r);
	}
	term_clear();
	if (!code && at != bytes)
		code = fail(FAIL_FAILED, "The bundle ended after %" PRId64 " of %" PRId64 " bytes.", at, bytes);
	return code;
}

static int export_bundle(struct cli *c, struct place *p, const char *name, bool cache)
{
	struct sink_args *a = about(name);
	struct sink_reply *r;
	int64_t bundle;
	int code;

	sink_args_bool(a, "cache", cache);
	r = sink_call(c->sink, "bundle", a, SLOW_MS);
	if (!r)
		return fail_sink(c->sink);
	bundle = sink_int(r, "bundle", 0);
	code = export_portions(c, p, bundle, sink_int(r, "bytes", 0));
	sink_reply_free(r);
	if (sink_connected(c->sink))
		end_bundle(c, bundle);
	return code;
}

/* ---- the verb export ---- */

enum form { FORM_MARKDOWN, FORM_JSON, FORM_BUNDLE };

static int export_as(struct cli *c, const char *name, enum form form, const char *path)
{
	bool force = c->o.v[OPTION_FORCE].given, cache = c->o.v[OPTION_CACHE].given;
	struct place p;
	int code = place_open(&p, path, force);

	if (code)
		return code;
	if (form == FORM_BUNDLE && !p.path && term_is(STDOUT_FILENO))
		return fail(FAIL_USAGE, "A bundle is no text for a terminal; -o FILE writes it to a file.");
	if (form == FORM_BUNDLE)
		code = export_bundle(c, &p, name, cache);
	else
		code = export_text(c, &p, name, form == FORM_MARKDOWN);
	return place_close(&p, code);
}

static int find_form(struct cli *c, enum form *form)
{
	static const char *const names[] = { [FORM_MARKDOWN] = "md", [FORM_JSON] = "json", [FORM_BUNDLE] = "bundle" };
	const char *word = c->o.v[OPTION_FORMAT].text;
	size_t i = 0;

	if (!word) {
		*form = c->o.v[OPTION_CACHE].given  ? FORM_BUNDLE
			: c->o.v[OPTION_JSON].given ? FORM_JSON
						    : FORM_MARKDOWN;
		return 0;
	}
	while (i <= FORM_BUNDLE && strcmp(names[i], word) != 0)
		i++;
	if (i > FORM_BUNDLE)
		return fail(FAIL_USAGE, "Option --format takes md, json or bundle, not \"%.60s\".", word);
	*form = (enum form)i;
	if (c->o.v[OPTION_CACHE].given && *form != FORM_BUNDLE)
		return fail(FAIL_USAGE,
			    "Only a bundle can have the memory in it: --with-cache goes with --format bundle.");
	return 0;
}

int bundle_export(struct cli *c)
{
	char name[TARGET_SIZE];
	enum form form = FORM_MARKDOWN;
	int code = find_form(c, &form);

	if (!code)
		code = target_find(c, c->o.args[0], TARGET_NEAR, name);
	return code ? code : export_as(c, name, form, c->o.v[OPTION_OUTPUT].text);
}

int bundle_export_to(struct cli *c, const char *name, const char *path)
{
	size_t len = strlen(path);
	bool json = len > 5 && strcmp(path + len - 5, ".json") == 0;

	return export_as(c, name, json ? FORM_JSON : FORM_MARKDOWN, path);
}

/* ---- the verb import ---- */

static int write_portions(struct cli *c, int64_t bundle, int fd, int64_t bytes)
{
	int64_t room = sink_int(sink_hello(c->sink), "limits.message_bytes", PORTION) - ENVELOPE, at = 0;
	size_t most = room < 1 ? 1 : room < PORTION ? (size_t)room : PORTION;
	char *data = malloc(most);
	int code = data ? 0 : fail(FAIL_FAILED, "There is not enough memory.");

	while (!code && at < bytes) {
		ssize_t n = pread(fd, data, most, at);
		struct sink_args *a;

		if (n <= 0) {
			code = fail(FAIL_FAILED, "The file cannot be read: %s.",
				    n ? strerror(errno) : "it became shorter");
			break;
		}
		a = sink_args_new();
		sink_args_int(a, "bundle", bundle);
		sink_args_int(a, "offset", at);
		sink_args_bin(a, "data", data, (size_t)n);
		sink_reply_free(verb_call(c, "bundle_write", a, &code));
		at += n;
		if (bytes > PORTION)
			term_progress("%.0f %%", 100.0 * (double)at / (double)bytes);
	}
	term_clear();
	free(data);
	return code;
}

static void tell_import(struct cli *c, const struct sink_reply *r, int *code)
{
	const char *name = sink_str(r, "conversation.name", NULL), *cache = sink_str(r, "cache", NULL);

	verb_note(r);
	if (c->o.v[OPTION_JSON].given) {
		*code = verb_json(r, NULL);
		return;
	}
	printf("%s\n", name ? name : "");
	if (cache && strcmp(cache, "taken") == 0)
		term_hint("[the model's memory came along]\n");
	else
		term_hint("[the model reads it anew when it is asked]\n");
}

static int import_bundle(struct cli *c, int fd, int64_t bytes, const char *name)
{
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;
	int64_t bundle;
	int code;

	sink_args_int(a, "bytes", bytes);
	r = verb_call(c, "bundle_new", a, &code);
	if (!r)
		return code;
	bundle = sink_int(r, "bundle", 0);
	sink_reply_free(r);
	code = write_portions(c, bundle, fd, bytes);
	if (code)
		return code;
	a = sink_args_new();
	sink_args_int(a, "bundle", bundle);
	if (name)
		sink_args_str(a, "name", name);
	r = sink_call(c->sink, "bundle_import", a, SLOW_MS);
	if (!r)
		return fail_sink(c->sink);
	tell_import(c, r, &code);
	sink_reply_free(r);
	return code;
}

enum bundle_kind bundle_kind(const char *data, size_t size)
{
	static const char mark[] = "\xef\xbb\xbf"; /* that some editors put in front of UTF-8 */
	size_t at = size >= 3 && memcmp(data, mark, 3) == 0 ? 3 : 0;

	while (at < size && data[at] && strchr(" \t\r\n", data[at]))
		at++;
	if (at < size && data[at] == '{')
		return BUNDLE_JSON;
	return memchr(data, '\0', size) ? BUNDLE_BYTES : BUNDLE_OTHER;
}

int bundle_import(struct cli *c)
{
	const char *path = c->o.args[0], *name = c->o.count > 1 ? c->o.args[1] : NULL;
	char start[SNIFF];
	int64_t bytes;
	ssize_t n;
	int fd, code = input_open(path, &fd, &bytes);

	if (code)
		return code;
	n = pread(fd, start, sizeof(start), 0);
	switch (bundle_kind(start, n > 0 ? (size_t)n : 0)) {
	case BUNDLE_JSON:
		code = input_export(c, fd, name);
		break;
	case BUNDLE_BYTES:
		code = import_bundle(c, fd, bytes, name);
		break;
	case BUNDLE_OTHER:
		code = fail(FAIL_USAGE, "%s is neither a bundle nor a JSON export of sink.",
			    strcmp(path, "-") == 0 ? "Standard input" : path);
		break;
	}
	close(fd);
	return code;
}
