/* The verbs that look: ls, show, status, tokenize. Tables for people, the daemon's own objects for scripts. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "buf.h"
#include "format.h"
#include "json.h"
#include "target.h"
#include "term.h"
#include "verb.h"

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static const char *text_at(const struct sink_reply *r, const char *path)
{
	const char *text = sink_str(r, path, NULL);

	return text ? text : "";
}

/* printf pads by bytes; names have characters. */
static void print_padded(const char *text, size_t cells)
{
	size_t width = term_width(text);

	printf("%s%*s", text, width < cells ? (int)(cells - width) : 0, "");
}

static void print_row(const struct sink_reply *r, size_t i, size_t cells)
{
	static const char *const counts[] = { "messages", "tokens", "window", "evicted", "clients" };
	static const int widths[] = { 6, 8, 8, 9, 8 };
	char path[64], age[32];

	snprintf(path, sizeof(path), "conversations.%zu.name", i);
	print_padded(text_at(r, path), cells);
	snprintf(path, sizeof(path), "conversations.%zu.state", i);
	printf("  %-9s", text_at(r, path));
	for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); k++) {
		snprintf(path, sizeof(path), "conversations.%zu.%s", i, counts[k]);
		printf(" %*" PRId64, widths[k], sink_int(r, path, 0));
	}
	snprintf(path, sizeof(path), "conversations.%zu.tier", i);
	printf("  %-6s", strcmp(text_at(r, path), "none") == 0 ? "-" : text_at(r, path));
	snprintf(path, sizeof(path), "conversations.%zu.used", i);
	printf("  %s\n", format_age(now() - sink_float(r, path, 0), age, sizeof(age)));
}

static void print_table(const struct sink_reply *r, size_t count, bool legend)
{
	size_t cells = 4;
	char path[64];

	for (size_t i = 0; i < count; i++) {
		size_t width;

		snprintf(path, sizeof(path), "conversations.%zu.name", i);
		width = term_width(text_at(r, path));
		cells = width > cells ? width : cells;
	}
	if (legend) {
		printf("%s", term_style(1, TERM_BOLD));
		print_padded("NAME", cells);
		printf("  %-9s %6s %8s %8s %9s %8s  %-6s  %s%s\n", "STATE", "MSGS", "TOKENS", "WINDOW", "EVICTED",
		       "CLIENTS", "TIER", "LAST", term_style(1, TERM_PLAIN));
	}
	for (size_t i = 0; i < count; i++)
		print_row(r, i, cells);
}

/* The value under a path of keys with dots between: a string's text, or the JSON of anything else. False: none. */
static bool add_member(struct buf *b, struct json from, const char *path, size_t len)
{
	char key[64];

	for (const char *end = path + len; path < end; path += len + 1) {
		len = 0;
		while (path + len < end && path[len] != '.')
			len++;
		snprintf(key, sizeof(key), "%.*s", (int)len, path);
		if (!json_member(from, key, &from))
			return false;
	}
	if (!json_unquote(from, b))
		buf_add(b, from.text, from.size);
	return true;
}

/* One line of a person's own form. */
static int print_form(struct json one, const char *form)
{
	struct buf b = { 0 };
	int code = 0;

	for (const char *at = form; *at && !code; at++) {
		size_t len = strcspn(at, "}");

		if (*at == '\\' && (at[1] == 't' || at[1] == 'n')) {
			buf_adds(&b, *++at == 't' ? "\t" : "\n");
		} else if (*at == '{' && at[1] == '{') {
			buf_add(&b, at++, 1);
		} else if (*at != '{') {
			buf_add(&b, at, 1);
		} else if (at[len] && add_member(&b, one, at + 1, len - 1)) {
			at += len;
		} else {
			code = fail(FAIL_USAGE, "Option -F: there is no %.*s; `sink ls --json` shows the keys.",
				    (int)(at[len] ? len + 1 : len), at);
		}
	}
	buf_adds(&b, "\n");
	if (!code)
		term_text(buf_text(&b), b.size);
	buf_release(&b);
	return code;
}

static int print_forms(const struct sink_reply *r, const char *form)
{
	char *text = sink_json(r);
	struct json array = { "[]", 2 }, one;
	size_t at = 0;
	int code = 0;

	if (!text)
		return fail(FAIL_FAILED, "There is not enough memory.");
	json_member((struct json){ text, strlen(text) }, "conversations", &array);
	while (!code && json_next(array, &at, &one))
		code = print_form(one, form);
	free(text);
	return code;
}

int see_ls(struct cli *c)
{
	int code;
	struct sink_reply *r = verb_call(c, "list", NULL, &code);
	size_t count;
	char path[64];

	if (!r)
		return code;
	count = sink_count(r, "conversations");
	if (c->o.v[OPTION_JSON].given) {
		code = verb_json_lines(r, "conversations");
	} else if (c->o.v[OPTION_FIELDS].given) {
		code = print_forms(r, c->o.v[OPTION_FIELDS].text);
	} else if (c->o.v[OPTION_QUIET].given) {
		for (size_t i = 0; i < count; i++) {
			snprintf(path, sizeof(path), "conversations.%zu.name", i);
			printf("%s\n", text_at(r, path));
		}
	} else if (count) {
		print_table(r, count, !c->o.v[OPTION_NO_LEGEND].given);
	} else {
		term_hint("There is no conversation yet; `sink` begins one.\n");
	}
	sink_reply_free(r);
	return code;
}

static void print_time(const char *label, double when)
{
	time_t t = (time_t)when;
	struct tm tm;
	char text[64], age[32];

	if (!localtime_r(&t, &tm) || !strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm))
		return;
	printf("%s%s (%s)\n", label, text, format_age(now() - when, age, sizeof(age)));
}

static void print_info(const struct sink_reply *r)
{
	static const struct {
		const char *label, *key;
	} counts[] = {
		{ "  messages  ", "conversation.messages" },	{ "    tokens  ", "conversation.tokens" },
		{ "   waiting  ", "conversation.waiting" },	{ "    pinned  ", "conversation.pinned" },
		{ "      kept  ", "conversation.kept" },	{ "    window  ", "conversation.window" },
		{ "     since  ", "conversation.evicted_end" }, { "   evicted  ", "conversation.evicted" },
		{ "   clients  ", "conversation.clients" },
	};
	char text[32];

	printf("%s%s%s\n", term_style(1, TERM_BOLD), text_at(r, "conversation.name"), term_style(1, TERM_PLAIN));
	printf("     state  %s\n", text_at(r, "conversation.state"));
	printf("    policy  %s\n", text_at(r, "conversation.policy"));
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		printf("%s%" PRId64 "\n", counts[i].label, sink_int(r, counts[i].key, 0));
	if (sink_has(r, "conversation.tier"))
		printf("      tier  %s%s\n", text_at(r, "conversation.tier"),
		       sink_bool(r, "conversation.pin", false) ? ", the last to leave memory" : "");
	printf("     cache  %s\n", format_bytes(sink_float(r, "conversation.cache_bytes", 0), text, sizeof(text)));
	printf("    events  %" PRId64 " to %" PRId64 "\n", sink_int(r, "conversation.first_seq", 0),
	       sink_int(r, "conversation.seq", 1) - 1);
	print_time("   created  ", sink_float(r, "conversation.created", 0));
	print_time("      used  ", sink_float(r, "conversation.used", 0));
}

/* One message's text alone, so that it can be piped on. */
static int show_message(struct cli *c, const char *name, int64_t message)
{
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;
	const char *text;
	size_t len = 0;
	int code;

	sink_args_str(a, "conversation", name);
	sink_args_int(a, "from", message);
	sink_args_int(a, "count", 1);
	r = verb_call(c, "log", a, &code);
	if (!r)
		return code;
	text = sink_str(r, "messages.0.text", &len);
	if (!text || sink_int(r, "messages.0.message", -1) != message) {
		code = fail(FAIL_ABSENT, "%s has no message %" PRId64 ".", name, message);
	} else if (c->o.v[OPTION_JSON].given) {
		code = verb_json_lines(r, "messages");
	} else {
		term_text(text, len);
		if (!len || text[len - 1] != '\n')
			term_raw("\n", 1);
	}
	sink_reply_free(r);
	return code;
}

int see_info(struct cli *c, const char *name)
{
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;
	int code;

	sink_args_str(a, "conversation", name);
	r = verb_call(c, "show", a, &code);
	if (r && c->o.v[OPTION_JSON].given)
		code = verb_json(r, "conversation");
	else if (r)
		print_info(r);
	sink_reply_free(r);
	return code;
}

int see_show(struct cli *c)
{
	char word[TARGET_SIZE], name[TARGET_SIZE];
	int64_t message = -1;
	int code = c->o.count ? target_split(c->o.args[0], word, &message) : 0;

	if (!code)
		code = target_find(c, c->o.count ? word : NULL, TARGET_NEAR, name);
	if (code)
		return code;
	return message >= 0 ? show_message(c, name, message) : see_info(c, name);
}

static void print_model(const struct sink_reply *r)
{
	char size[32];

	if (!sink_str(r, "model.name", NULL)) {
		printf("     Model: none is loaded\n");
		return;
	}
	printf("     Model: %s (%s %s, %s, context %" PRId64 ", turns %s)\n", text_at(r, "model.name"),
	       text_at(r, "model.arch"), text_at(r, "model.quantization"),
	       format_bytes(sink_float(r, "model.bytes", 0), size, sizeof(size)), sink_int(r, "model.context", 0),
	       text_at(r, "model.turns"));
	printf("            %s\n", text_at(r, "model.path"));
	printf("   Kernels: %s, %" PRId64 " threads\n", text_at(r, "model.kernels"), sink_int(r, "model.threads", 0));
	if (sink_str(r, "model.policy", NULL))
		printf("    Policy: %s for new conversations (%s)\n", text_at(r, "model.policy"),
		       text_at(r, "model.policy_from"));
}

/* Where conversations are kept; that saving has stopped is nothing to overlook. */
static void print_store(const struct sink_reply *r)
{
	const char *state = text_at(r, "store.state");
	char bytes[32], caches[32], free_bytes[32];

	if (!*state)
		return;
	if (strcmp(state, "off") == 0) {
		printf("     Store: off; conversations end with the daemon\n");
		return;
	}
	if (strcmp(state, "stopped") == 0)
		printf("     %sStore: SAVING HAS STOPPED: %s%s\n", term_style(1, TERM_RED), text_at(r, "store.text"),
		       term_style(1, TERM_PLAIN));
	printf("     %s %s, %s; %" PRId64 " caches, %s; %s free\n",
	       strcmp(state, "stopped") == 0 ? "      " : "Store:", text_at(r, "store.path"),
	       format_bytes(sink_float(r, "store.bytes", 0), bytes, sizeof(bytes)), sink_int(r, "store.caches", 0),
	       format_bytes(sink_float(r, "store.cache_bytes", 0), caches, sizeof(caches)),
	       format_bytes(sink_float(r, "store.free_bytes", 0), free_bytes, sizeof(free_bytes)));
}

static void print_status(const struct sink_reply *r)
{
	const char *state = text_at(r, "state");
	char age[32], memory[32];

	printf("%s●%s %s, pid %" PRId64 ": %s for %s\n",
	       term_style(1, strcmp(state, "ready") == 0 ? TERM_GREEN : TERM_RED), term_style(1, TERM_PLAIN),
	       text_at(r, "server"), sink_int(r, "pid", 0), state,
	       format_age(sink_float(r, "uptime", 0), age, sizeof(age)));
	print_model(r);
	printf("  Endpoint: %s\n", text_at(r, "endpoint"));
	printf("   Memory:  %s resident", format_bytes(sink_float(r, "resident_bytes", 0), memory, sizeof(memory)));
	printf(", %" PRId64 " cache pages in use, %" PRId64 " free, %s each\n",
	       sink_int(r, "pages", 0) - sink_int(r, "pages_free", 0), sink_int(r, "pages_free", 0),
	       format_bytes(sink_float(r, "page_bytes", 0), memory, sizeof(memory)));
	print_store(r);
	printf("     Talks: %" PRId64 " conversations, %" PRId64 " answering, %" PRId64 " queued\n",
	       sink_int(r, "conversations", 0), sink_int(r, "answering", 0), sink_int(r, "queued", 0));
	printf("   Clients: %" PRId64 ", %" PRId64 " attachments\n", sink_int(r, "clients", 0),
	       sink_int(r, "attachments", 0));
	printf("    Tokens: %" PRId64 " read, %" PRId64 " written in %" PRId64 " steps (median %.1f ms, p99 %.1f ms)\n",
	       sink_int(r, "tokens_read", 0), sink_int(r, "tokens_written", 0), sink_int(r, "steps", 0),
	       sink_float(r, "step_ms.median", 0), sink_float(r, "step_ms.p99", 0));
	if (sink_int(r, "drafted", 0))
		printf("            %" PRId64 " of them guessed from the text, %" PRId64 " guesses wrong\n",
		       sink_int(r, "accepted", 0), sink_int(r, "drafted", 0) - sink_int(r, "accepted", 0));
}

int see_status(struct cli *c)
{
	int code;
	struct sink_reply *r = verb_call(c, "status", NULL, &code);

	if (!r)
		return code;
	if (c->o.v[OPTION_JSON].given)
		code = verb_json(r, NULL);
	else
		print_status(r);
	sink_reply_free(r);
	return code;
}

int see_tokenize(struct cli *c)
{
	struct sink_args *a = sink_args_new();
	const char *word = c->o.count ? c->o.args[0] : "-";
	struct buf text = { 0 };
	struct sink_reply *r;
	char path[40];
	int code, error = 0;

	if (strcmp(word, "-") == 0)
		error = buf_read(&text, 0, 64 << 20);
	else
		buf_adds(&text, word);
	sink_args_strn(a, "text", buf_text(&text), text.size);
	sink_args_bool(a, "special", c->o.v[OPTION_SPECIAL].given);
	buf_release(&text);
	if (error) {
		sink_args_free(a);
		return fail(FAIL_FAILED, "Standard input cannot be read: %s.", strerror(error));
	}
	r = verb_call(c, "tokenize", a, &code);
	if (!r)
		return code;
	if (c->o.v[OPTION_JSON].given)
		code = verb_json(r, NULL);
	for (size_t i = 0; !c->o.v[OPTION_JSON].given && i < sink_count(r, "tokens"); i++) {
		snprintf(path, sizeof(path), "tokens.%zu", i);
		printf("%s%" PRId64, i ? " " : "", sink_int(r, path, -1));
	}
	if (!c->o.v[OPTION_JSON].given)
		printf("\n");
	sink_reply_free(r);
	return code;
}
