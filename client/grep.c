/*
 * The verb `grep`: the daemon searches, this shows what it found. One match a line, with what stands around it, as
 * grep(1) does; the name and number in front are what `show`, `fork` and `rewind` take.
 */
#include <inttypes.h>
#include <stdio.h>

#include "buf.h"
#include "target.h"
#include "term.h"
#include "verb.h"

enum { SEARCH_MS = 120000 }; /* all that was ever said may have to be read */

static const char *text_at(const struct sink_reply *r, size_t i, const char *key, size_t *len)
{
	char path[64];
	const char *text;

	snprintf(path, sizeof(path), "matches.%zu.%s", i, key);
	*len = 0;
	text = sink_str(r, path, len);
	return text ? text : "";
}

/* Text of a conversation, which may hold anything; a line feed in it would begin a line without a name. */
static void add_text(struct buf *line, const struct sink_reply *r, size_t i, const char *key)
{
	struct buf harmless = { 0 };
	size_t len;
	const char *text = text_at(r, i, key, &len);

	if (term_is(1))
		term_filter(&harmless, text, len);
	else
		buf_add(&harmless, text, len);
	for (size_t at = 0; at < harmless.size; at++)
		if (harmless.data[at] == '\n')
			harmless.data[at] = ' ';
	buf_add(line, buf_text(&harmless), harmless.size);
	buf_release(&harmless);
}

static void print_match(const struct sink_reply *r, size_t i)
{
	struct buf line = { 0 };
	char path[64];
	size_t len;

	snprintf(path, sizeof(path), "matches.%zu.message", i);
	buf_addf(&line, "%s%s@%" PRId64 "%s ", term_style(1, TERM_BOLD), text_at(r, i, "conversation", &len),
		 sink_int(r, path, 0), term_style(1, TERM_PLAIN));
	buf_addf(&line, "%s: ", text_at(r, i, "role", &len));
	add_text(&line, r, i, "before");
	buf_adds(&line, term_style(1, TERM_RED));
	add_text(&line, r, i, "match");
	buf_adds(&line, term_style(1, TERM_PLAIN));
	add_text(&line, r, i, "after");
	buf_adds(&line, "\n");
	term_raw(buf_text(&line), line.size);
	buf_release(&line);
}

int grep_text(struct cli *c, const char *name, const char *text, int64_t count)
{
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;
	size_t found;
	int code = 0;

	sink_args_str(a, "text", text);
	if (name)
		sink_args_str(a, "conversation", name);
	if (count)
		sink_args_int(a, "count", count);
	r = sink_call(c->sink, "search", a, SEARCH_MS);
	if (!r)
		return fail_sink(c->sink);
	found = sink_count(r, "matches");
	if (c->o.v[OPTION_JSON].given)
		code = verb_json_lines(r, "matches");
	for (size_t i = 0; i < found && !c->o.v[OPTION_JSON].given && !term_broken(); i++)
		print_match(r, i);
	if (!found)
		code = fail(FAIL_ABSENT, "No message holds \"%.80s\".", text);
	else if (sink_bool(r, "more", false))
		term_hint("[there are more; -n shows more than %zu]\n", found);
	sink_reply_free(r);
	return code;
}

int grep_run(struct cli *c)
{
	const struct option_value *v = c->o.v;
	bool within = v[OPTION_WITHIN].given;
	char name[TARGET_SIZE];
	struct buf text = { 0 };
	int code = within ? target_find(c, v[OPTION_WITHIN].text, TARGET_NEAR, name) : 0;

	for (size_t i = 0; i < c->o.count; i++)
		buf_addf(&text, "%s%s", i ? " " : "", c->o.args[i]);
	if (!code && text.failed)
		code = fail(FAIL_FAILED, "There is not enough memory.");
	if (!code && v[OPTION_NUMBER].given && v[OPTION_NUMBER].number < 1)
		code = fail(FAIL_USAGE, "Option --number takes a number of 1 or more.");
	if (!code)
		code = grep_text(c, within ? name : NULL, buf_text(&text), v[OPTION_NUMBER].number);
	buf_release(&text);
	return code;
}
