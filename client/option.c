/*
 * The option table and its parser. Written here rather than left to getopt_long(), because that one abbreviates long
 * names, prints by itself, and does not tell a number from a word.
 */
#include "option.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nearest.h"

const struct option_row option_rows[OPTION_COUNT] = {
	[OPTION_HELP] = { 'h', "help", NULL, OPTION_IS_FLAG, NULL, "show this help", NULL },
	[OPTION_VERSION] = { 'V', "version", NULL, OPTION_IS_FLAG, NULL, "show the version", NULL },
	[OPTION_ENDPOINT] = { 'H', "host", "ENDPOINT", OPTION_IS_TEXT, NULL,
			      "the daemon's endpoint, such as ipc:///run/sinkd/sinkd.sock", NULL },
	[OPTION_INSTANCE] = { 'L', "instance", "INSTANCE", OPTION_IS_TEXT, NULL,
			      "another daemon of this user: sinkd-INSTANCE.sock in the runtime directory", NULL },
	[OPTION_JSON] = { 0, "json", NULL, OPTION_IS_FLAG, NULL, "one JSON object a line on standard output", NULL },
	[OPTION_QUIET] = { 'q', "quiet", NULL, OPTION_IS_FLAG, NULL, "no notes, progress and footers; ls: names only",
			   NULL },
	[OPTION_RAW] = { 0, "raw", NULL, OPTION_IS_FLAG, NULL, "show Markdown as it is, unstyled", NULL },
	[OPTION_COLOR] = { 0, "color", "WHEN", OPTION_IS_TEXT, NULL, "auto, always or never", "auto always never" },
	[OPTION_CONVERSATION] = { 'c', "conversation", "NAME", OPTION_IS_TEXT, NULL,
				  "the conversation, made when there is none; - is the last used", NULL },
	[OPTION_SYSTEM] = { 's', "system", "TEXT", OPTION_IS_TEXT, NULL,
			    "the system prompt of a new conversation; @FILE reads it from a file", NULL },
	[OPTION_POLICY] = { 0, "policy", "POLICY", OPTION_IS_TEXT, NULL,
			    "what a new conversation keeps in sight, such as sink:4,1020",
			    "dense window: recompute: sink: separator: anchor:" },
	[OPTION_MARKS] = { 0, "marks", "IDS", OPTION_IS_TEXT, NULL,
			   "the tokens that a separator or anchor policy keeps, ids with commas", NULL },
	[OPTION_TEMPLATE] = { 't', "template", "TEMPLATE", OPTION_IS_TEXT, NULL,
			      "system prompt, policy and settings of a template; see `sink help template`", NULL },
	[OPTION_TEMPORARY] = { 0, "temp", NULL, OPTION_IS_FLAG, NULL,
			       "a temporary conversation, whatever $SINK_CONVERSATION says", NULL },
	[OPTION_FILE] = { 'f', "file", "FILE", OPTION_IS_LIST, NULL, "add a file's text to the prompt; may be repeated",
			  NULL },
	[OPTION_DETACH] = { 'd', "detach", NULL, OPTION_IS_FLAG, NULL, "return at once; the answer goes on by itself",
			    NULL },
	[OPTION_STRICT] = { 0, "strict", NULL, OPTION_IS_FLAG, NULL, "exit 7 when the answer was cut by its length",
			    NULL },
	[OPTION_TIMEOUT] = { 0, "timeout", "SECONDS", OPTION_IS_FLOAT, NULL, "give up after this time with exit 124",
			     NULL },
	[OPTION_MAX] = { 'n', "max", "TOKENS", OPTION_IS_INT, "max_tokens", "the longest answer; 0: no limit", NULL },
	[OPTION_SEED] = { 0, "seed", "N", OPTION_IS_INT, "seed", "same seed, same words", NULL },
	[OPTION_TEMPERATURE] = { 0, "temperature", "T", OPTION_IS_FLOAT, "temperature",
				 "how freely words are chosen; 0: always the likeliest", NULL },
	[OPTION_TOP_K] = { 0, "top-k", "K", OPTION_IS_INT, "top_k", "choose among the K likeliest tokens; 0: all",
			   NULL },
	[OPTION_TOP_P] = { 0, "top-p", "P", OPTION_IS_FLOAT, "top_p", "choose among tokens that add up to P", NULL },
	[OPTION_MIN_P] = { 0, "min-p", "P", OPTION_IS_FLOAT, "min_p", "leave out tokens below P times the likeliest",
			   NULL },
	[OPTION_REPETITION] = { 0, "repetition-penalty", "R", OPTION_IS_FLOAT, "repetition_penalty",
				"above 1: repeat less", NULL },
	[OPTION_PRESENCE] = { 0, "presence-penalty", "R", OPTION_IS_FLOAT, "presence_penalty",
			      "above 0: avoid tokens that were used", NULL },
	[OPTION_FREQUENCY] = { 0, "frequency-penalty", "R", OPTION_IS_FLOAT, "frequency_penalty",
			       "above 0: avoid tokens by how often they were used", NULL },
	[OPTION_PENALTY_LAST] = { 0, "penalty-last", "N", OPTION_IS_INT, "penalty_last",
				  "how many tokens back the penalties look", NULL },
	[OPTION_STOP] = { 0, "stop", "TEXT", OPTION_IS_LIST, "stop", "end the answer before this text; may be repeated",
			  NULL },
	[OPTION_SCHEMA] = { 0, "schema", "FILE", OPTION_IS_FILE, "schema",
			    "the answer is JSON that fits this JSON Schema; - is standard input", NULL },
	[OPTION_REGEX] = { 0, "regex", "PATTERN", OPTION_IS_TEXT, "regex",
			   "the answer as a whole matches this regular expression", NULL },
	[OPTION_LOGPROBS] = { 0, "logprobs", NULL, OPTION_IS_FLAG, "logprobs",
			      "with --json: each token with its log-probability", NULL },
	[OPTION_TOP_LOGPROBS] = { 0, "top-logprobs", "K", OPTION_IS_INT, "top_logprobs",
				  "with --json: each token with the K likeliest, 0 to 20", NULL },
	[OPTION_NO_THINKING] = { 0, "no-thinking", NULL, OPTION_IS_FLAG, "no_thinking",
				 "the model answers without thinking first, where its template can say so", NULL },
	[OPTION_READ_ONLY] = { 'r', "read-only", NULL, OPTION_IS_FLAG, NULL, "watch without a prompt", NULL },
	[OPTION_FOLLOW] = { 'f', "follow", NULL, OPTION_IS_FLAG, NULL, "go on with what comes", NULL },
	[OPTION_NUMBER] = { 'n', "number", "N", OPTION_IS_INT, NULL, "the last N messages; grep: of those that match",
			    NULL },
	[OPTION_FROM] = { 0, "from", "SEQ", OPTION_IS_INT, NULL, "events from this sequence number on", NULL },
	[OPTION_FORCE] = { 0, "force", NULL, OPTION_IS_FLAG, NULL, "do not ask; export: write over a file that exists",
			   NULL },
	[OPTION_SPECIAL] = { 0, "special", NULL, OPTION_IS_FLAG, NULL, "read the names of special tokens as such",
			     NULL },
	[OPTION_WITHIN] = { 'c', "in", "NAME", OPTION_IS_TEXT, NULL,
			    "search this conversation alone; - is the last used", NULL },
	[OPTION_OUTPUT] = { 'o', "output", "FILE", OPTION_IS_TEXT, NULL,
			    "write this file, as a whole or not at all; - is standard output", NULL },
	[OPTION_FORMAT] = { 0, "format", "FORMAT", OPTION_IS_TEXT, NULL, "md (the default), json or bundle",
			    "md json bundle" },
	[OPTION_CACHE] = { 0, "with-cache", NULL, OPTION_IS_FLAG, NULL,
			   "a bundle with the model's memory in it, which need not be read anew", NULL },
	[OPTION_STDIO] = { 0, "stdio", NULL, OPTION_IS_FLAG, NULL, "in place of a verb: the verb stdio", NULL },
	[OPTION_FIELDS] = { 'F', "fields", "TEXT", OPTION_IS_TEXT, NULL,
			    "a line of one's own for each, such as '{name}: {tokens}'", NULL },
	[OPTION_NO_LEGEND] = { 0, "no-legend", NULL, OPTION_IS_FLAG, NULL, "no heading above the table", NULL },
	[OPTION_NO_PAGER] = { 0, "no-pager", NULL, OPTION_IS_FLAG, NULL, "no $PAGER on a terminal", NULL },
	[OPTION_SINCE] = { 0, "since", "TIME", OPTION_IS_TEXT, NULL,
			   "messages from then on: 10m, 3h, 2d ago, or 2026-01-31 or with 12:30", NULL },
	[OPTION_ONCE] = { 0, "once", NULL, OPTION_IS_FLAG, NULL, "show it once", NULL },
	[OPTION_INTERVAL] = { 'd', "interval", "SECONDS", OPTION_IS_FLOAT, NULL, "the time between two looks; 1",
			      NULL },
	[OPTION_TIMES] = { 'n', "times", "N", OPTION_IS_INT, NULL, "look N times, and end", NULL },
};

enum option option_named(uint64_t allowed, const char *name, size_t len)
{
	for (enum option i = 0; i < OPTION_COUNT; i++)
		if ((allowed & OPTION_BIT(i)) && strlen(option_rows[i].name) == len &&
		    memcmp(option_rows[i].name, name, len) == 0)
			return i;
	return OPTION_COUNT;
}

enum option option_lettered(uint64_t allowed, char letter)
{
	for (enum option i = 0; i < OPTION_COUNT; i++)
		if ((allowed & OPTION_BIT(i)) && option_rows[i].letter == letter)
			return i;
	return OPTION_COUNT;
}

static bool no_memory(char *cause, size_t size)
{
	snprintf(cause, size, "There is not enough memory.");
	return false;
}

/* Adds to a list that grows one by one: a command line is short. */
static bool append(const char ***list, size_t *count, const char *text)
{
	const char **more = realloc(*list, (*count + 1) * sizeof(*more));

	if (!more)
		return false;
	more[(*count)++] = text;
	*list = more;
	return true;
}

static bool take_number(const struct option_row *row, struct option_value *v, const char *text)
{
	int64_t number = 0;
	double real = 0;
	char *end;

	errno = 0;
	if (row->type == OPTION_IS_INT)
		number = strtoll(text, &end, 10);
	else
		real = strtod(text, &end);
	if (end == text || *end || !isfinite(real) || (row->type == OPTION_IS_INT && errno))
		return false;
	v->number = number;
	v->real = real;
	return true;
}

static bool take_value(struct options *o, enum option which, const char *text, char *cause, size_t size)
{
	const struct option_row *row = &option_rows[which];
	struct option_value *v = &o->v[which];

	if (row->type == OPTION_IS_LIST && !append(&v->list, &v->count, text))
		return no_memory(cause, size);
	if ((row->type == OPTION_IS_INT || row->type == OPTION_IS_FLOAT) && !take_number(row, v, text)) {
		snprintf(cause, size, "Option --%s takes %s, not \"%.60s\".", row->name,
			 row->type == OPTION_IS_INT ? "a whole number" : "a number", text);
		return false;
	}
	v->given = true;
	v->text = text;
	return true;
}

static bool unknown_name(uint64_t allowed, const char *name, size_t len, char *cause, size_t size)
{
	const char *names[OPTION_COUNT], *near;
	size_t count = 0;

	for (enum option i = 0; i < OPTION_COUNT; i++)
		if (allowed & OPTION_BIT(i))
			names[count++] = option_rows[i].name;
	near = nearest(name, len, names, count);
	if (near)
		snprintf(cause, size, "There is no option --%.*s here; did you mean --%s?", (int)len, name, near);
	else
		snprintf(cause, size, "There is no option --%.*s here.", (int)len, name);
	return false;
}

/* One word that begins with two dashes; its value may be the next word. */
static bool take_long(struct options *o, uint64_t allowed, int argc, char **argv, int *at, char *cause, size_t size)
{
	const char *name = argv[(*at)++] + 2;
	size_t len = strcspn(name, "=");
	enum option which = option_named(allowed, name, len);
	const struct option_row *row = &option_rows[which];

	if (which == OPTION_COUNT)
		return unknown_name(allowed, name, len, cause, size);
	if (!row->value && name[len]) {
		snprintf(cause, size, "Option --%s takes no value.", row->name);
		return false;
	}
	if (!row->value)
		return take_value(o, which, "", cause, size);
	if (name[len])
		return take_value(o, which, name + len + 1, cause, size);
	if (*at < argc)
		return take_value(o, which, argv[(*at)++], cause, size);
	snprintf(cause, size, "Option --%s needs a value: %s.", row->name, row->value);
	return false;
}

/* One word of letters; the value of the last one may be glued to it or be the next word. */
static bool take_letters(struct options *o, uint64_t allowed, int argc, char **argv, int *at, char *cause, size_t size)
{
	const char *word = argv[(*at)++] + 1;

	for (; *word; word++) {
		enum option which = option_lettered(allowed, *word);

		if (which == OPTION_COUNT) {
			snprintf(cause, size, "There is no option -%c here.", *word);
			return false;
		}
		if (!option_rows[which].value) {
			if (!take_value(o, which, "", cause, size))
				return false;
			continue;
		}
		if (word[1])
			return take_value(o, which, word + 1, cause, size);
		if (*at < argc)
			return take_value(o, which, argv[(*at)++], cause, size);
		snprintf(cause, size, "Option -%c needs a value: %s.", *word, option_rows[which].value);
		return false;
	}
	return true;
}

bool option_parse(struct options *o, uint64_t allowed, bool first, int argc, char **argv, int *at, char *cause,
		  size_t size)
{
	bool ended = false;

	while (*at < argc) {
		const char *word = argv[*at];
		bool plain = ended || word[0] != '-' || !word[1];

		if (plain && first)
			return true;
		if (plain) {
			if (!append(&o->args, &o->count, word))
				return no_memory(cause, size);
			(*at)++;
		} else if (strcmp(word, "--") == 0) {
			ended = true;
			(*at)++;
		} else if (word[1] == '-') {
			if (!take_long(o, allowed, argc, argv, at, cause, size))
				return false;
		} else if (!take_letters(o, allowed, argc, argv, at, cause, size)) {
			return false;
		}
	}
	return true;
}

void option_release(struct options *o)
{
	for (enum option i = 0; i < OPTION_COUNT; i++)
		free(o->v[i].list);
	for (size_t i = 0; i < o->owned_count; i++)
		free((char *)(uintptr_t)o->owned[i]);
	free(o->owned);
	free(o->args);
	*o = (struct options){ 0 };
}

bool option_set(struct options *o, enum option which, const char *text, char *cause, size_t size)
{
	char *copy = strdup(text);

	if (!copy || !append(&o->owned, &o->owned_count, copy)) {
		free(copy);
		return no_memory(cause, size);
	}
	return take_value(o, which, copy, cause, size);
}

void option_unset(struct options *o, enum option which)
{
	free(o->v[which].list);
	o->v[which] = (struct option_value){ 0 };
}

static void add_setting(const struct option_row *row, const struct option_value *v, struct sink_args *a)
{
	switch (row->type) {
	case OPTION_IS_FILE: /* the caller has read it */
		break;
	case OPTION_IS_FLAG:
		sink_args_bool(a, row->key, true);
		break;
	case OPTION_IS_TEXT:
		sink_args_str(a, row->key, v->text);
		break;
	case OPTION_IS_INT:
		sink_args_int(a, row->key, v->number);
		break;
	case OPTION_IS_FLOAT:
		sink_args_float(a, row->key, v->real);
		break;
	case OPTION_IS_LIST:
		sink_args_array(a, row->key);
		for (size_t i = 0; i < v->count; i++)
			sink_args_str(a, NULL, v->list[i]);
		sink_args_end(a);
		break;
	}
}

void option_sampling(const struct options *o, const char *schema, size_t size, struct sink_args *a)
{
	bool any = false;

	for (enum option i = 0; i < OPTION_COUNT; i++) {
		if (!option_rows[i].key || !o->v[i].given)
			continue;
		if (!any)
			sink_args_map(a, "sampling");
		any = true;
		if (option_rows[i].type == OPTION_IS_FILE)
			sink_args_json(a, option_rows[i].key, schema, size);
		else
			add_setting(&option_rows[i], &o->v[i], a);
	}
	if (any)
		sink_args_end(a);
}
