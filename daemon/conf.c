/*
 * Owns the table of options. An option that is not in the table does not exist: nothing
 * else in the daemon reads the environment for settings or parses a command line.
 */
#include "conf.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conf_table.h"
#include "kernels.h"
#include "log.h"
#include "marks.h"
#include "sched.h"
#include "usual.h"

#define FIELD(f) offsetof(struct conf, f), sizeof(((struct conf *)0)->f)

const struct conf_row conf_rows[CONF_ROWS] = {
	{ "model", 'm', TEXT, false, FIELD(model), "", 0, 0, "FILE", "the model, a GGUF file" },
	{ "listen", 'l', TEXT, false, FIELD(listen), "", 0, 0, "ENDPOINT",
	  "where clients connect; by default sinkd/sinkd.sock in the runtime directory" },
	{ "threads", 0, INT, false, FIELD(threads), "0", 0, 1024, "N", "threads of the engine; 0: as many as cores" },
	{ "pin-threads", 0, BOOL, false, FIELD(pin_threads), "no", 0, 0, "BOOL", "bind each thread to a core" },
	{ "kernels", 0, TEXT, false, FIELD(kernels), "auto", 0, 0, "NAME",
	  "the arithmetic: auto, or a name that -t lists" },
	{ "device", 0, TEXT, false, FIELD(device), "auto", 0, 0, "NAME",
	  "where the model computes: cpu, cuda or cuda:N; auto: a card if there is one that can hold the model" },
	{ "gpu-memory", 0, SIZE, false, FIELD(gpu_memory), "0", 0, 0x1p45, "SIZE",
	  "most memory of the card that is taken; 0: what is free" },
	{ "batch-invariant", 0, BOOL, false, FIELD(batch_invariant), "no", 0, 0, "BOOL",
	  "on a card: the same bits for a conversation whoever else is served, at the cost of speed" },
	{ "precision", 0, PRECISION, false, FIELD(precision), "exact", 0, 0, "NAME",
	  "activations in fifteen bits (exact) or in eight (fast)" },
	{ "cache", 0, SIZE, false, FIELD(cache), "2G", 1 << 20, 0x1p45, "SIZE",
	  "most memory for the caches of all conversations" },
	{ "cache-type", 0, CACHE_TYPE, false, FIELD(cache_type), "auto", 0, 0, "TYPE",
	  "keys and values as f16, q8_0 (half the memory) or f32; auto: as the kernels like" },
	{ "policy", 0, POLICY, true, FIELD(policy), USUAL_AUTO, 0, 0, "POLICY",
	  "what new conversations remember: auto (the sinks that the model needs, and the latest tokens, 2048 in all), "
	  "sink:S,W[,token=ID], separator:S,K,W, anchor:S,K,W, window:W, recompute:W, dense" },
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
	{ "speculation", 0, DRAFTS, true, FIELD(speculation), "auto", 0, DRAFT_MOST, "N",
	  "guess tokens of answers from the text and check N in one step: auto, as many as pay; off; or a number" },
	{ "conversations", 0, INT, true, FIELD(conversations), "1000", 1, 100000, "N", "most conversations" },
	{ "clients", 0, INT, false, FIELD(clients), "500", 1, 100000, "N", "most connections" },
	{ "attachments", 0, INT, true, FIELD(attachments), "256", 1, 10000, "N", "most attachments of one client" },
	{ "status-segment", 0, BOOL, false, FIELD(status_segment), "yes", 0, 0, "BOOL",
	  "show the state in shared memory, to whom the socket lets in: sink top reads it" },
	{ "message-bytes", 0, SIZE, false, FIELD(message_bytes), "4M", 4096, 1 << 30, "SIZE",
	  "longest message of a client" },
	{ "log-bytes", 0, SIZE, true, FIELD(log_bytes), "16M", 4096, 0x1p40, "SIZE",
	  "events kept for readers, a conversation; new conversations only" },
	{ "log-tokens", 0, SIZE, true, FIELD(log_tokens), "64M", 1024, 0x1p36, "N",
	  "longest conversation in tokens (4 bytes of memory each)" },
	{ "state", 0, TEXT, false, FIELD(state), "", 0, 0, "DIR",
	  "where conversations are kept; by default sinkd in the state directory; none: nowhere" },
	{ "event-bytes", 0, SIZE, false, FIELD(event_bytes), "1G", 1 << 20, 0x1p50, "SIZE",
	  "events kept on the disk, a conversation" },
	{ "sync-tokens", 0, BOOL, true, FIELD(sync_tokens), "no", 0, 0, "BOOL",
	  "put each token safe from a power cut before it is told, not only each turn and second" },
	{ "restore-at-start", 0, BOOL, false, FIELD(restore_at_start), "no", 0, 0, "BOOL",
	  "bring all caches back when the daemon starts, not each when it is used" },
	{ "cache-idle", 0, INT, true, FIELD(cache_idle), "0", 0, INT32_MAX, "SECONDS",
	  "when an idle conversation's cache leaves memory for the disk; 0: when others need the room" },
	{ "cache-files", 0, SIZE, true, FIELD(cache_files), "20G", 0, 0x1p50, "SIZE",
	  "most disk for files of caches; the ones used least recently go first" },
	{ "free-space", 0, SIZE, true, FIELD(free_space), "256M", 0, 0x1p50, "SIZE",
	  "leave so much of the disk free of files of caches" },
	{ "stop-seconds", 0, INT, true, FIELD(stop_seconds), "30", 0, 3600, "SECONDS",
	  "how long caches may be saved when the daemon ends" },
	{ "log-level", 0, LEVEL, true, FIELD(log_level), "info", 0, 0, "LEVEL", "error, warning, info or debug" },
};

const struct conf_command conf_commands[CONF_COMMANDS] = {
	{ 'f', "config", "FILE", "read this configuration file" },
	{ 't', "test", NULL, "check configuration and model, print what was found, and end" },
	{ 'c', "check-store", NULL, "verify all that is kept, say what is wrong, and end" },
	{ 'r', "repair-store", NULL, "the same, and mend what can be" },
	{ 'p', "print-config", NULL, "print the settings as a configuration file, and end" },
	{ 'v', "verbose", NULL, "the same as --log-level debug" },
	{ 'h', "help", NULL, "print this, and end" },
	{ 'V', "version", NULL, "print the version, and end" },
};

const struct conf_row *conf_row_named(const char *name)
{
	for (size_t i = 0; i < CONF_ROWS; i++)
		if (strcmp(conf_rows[i].name, name) == 0)
			return &conf_rows[i];
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

static bool parse_number(const struct conf_row *row, const char *text, double *ret)
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

static int set_number(struct conf *c, const struct conf_row *row, const char *text, struct err *e)
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

static int set_bool(struct conf *c, const struct conf_row *row, const char *text, struct err *e)
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
static int check_marks(const struct conf_row *row, const char *text, struct err *e)
{
	struct tokens ids = { 0 };
	struct err why;
	int rc = *text ? marks_parse(text, &ids, &why) : 0;

	tokens_release(&ids);
	return rc < 0 ? err_set(e, rc, "%s: %s", row->name, why.text) : 0;
}

static int set_drafts(struct conf *c, const struct conf_row *row, const char *text, struct err *e)
{
	int64_t *field = (int64_t *)((char *)c + row->offset);
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (strcmp(text, "auto") == 0)
		n = DRAFTS_AUTO;
	else if (strcmp(text, "off") == 0)
		n = 0;
	else if (end == text || *end || errno || n < 0 || n > DRAFT_MOST)
		return err_set(e, SINK_EINVAL, "%s = %s: it must be auto, off, or a whole number to %d.", row->name,
			       text, DRAFT_MOST);
	*field = n;
	return 0;
}

static int set_text(struct conf *c, const struct conf_row *row, const char *text, struct err *e)
{
	enum precision precision;
	enum dtype type;
	struct policy p;
	int rc = 0;

	if (strlen(text) >= row->size)
		return err_set(e, SINK_EINVAL, "%s: the value is longer than %zu bytes.", row->name, row->size - 1);
	if (row->type == POLICY && strcmp(text, USUAL_AUTO) != 0)
		rc = policy_parse(text, &p, e);
	else if (row->type == PRECISION)
		rc = precision_find(text, &precision, e);
	else if (row->type == CACHE_TYPE)
		rc = page_type_find(text, DTYPE_F16, &type, e);
	else if (row->type == MARKS)
		rc = check_marks(row, text, e);
	if (rc < 0)
		return rc;
	memcpy((char *)c + row->offset, text, strlen(text) + 1);
	return 0;
}

int conf_set_row(struct conf *c, const struct conf_row *row, const char *text, struct err *e)
{
	int level;

	switch (row->type) {
	case TEXT:
	case POLICY:
	case MARKS:
	case PRECISION:
	case CACHE_TYPE:
		return set_text(c, row, text, e);
	case BOOL:
		return set_bool(c, row, text, e);
	case INT:
	case SIZE:
	case FLOAT:
		return set_number(c, row, text, e);
	case DRAFTS:
		return set_drafts(c, row, text, e);
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
	const struct conf_row *row = conf_row_named(name);

	if (!row)
		return err_set(e, SINK_EINVAL, "There is no option \"%.64s\".", name);
	return conf_set_row(c, row, value, e);
}

void conf_defaults(struct conf *c)
{
	memset(c, 0, sizeof(*c));
	sampling_defaults(&c->sampling.how);
	for (size_t i = 0; i < CONF_ROWS; i++)
		conf_set_row(c, &conf_rows[i], conf_rows[i].otherwise, NULL);
}

void conf_reload(struct conf *c, const struct conf *fresh, char *restart, size_t size)
{
	size_t used = 0;

	restart[0] = '\0';
	for (size_t i = 0; i < CONF_ROWS; i++) {
		char *old = (char *)c + conf_rows[i].offset;
		const char *new = (const char *)fresh + conf_rows[i].offset;
		bool text = conf_rows[i].type <= CACHE_TYPE;

		if (text ? strcmp(old, new) == 0 : memcmp(old, new, conf_rows[i].size) == 0)
			continue;
		if (conf_rows[i].live)
			memcpy(old, new, conf_rows[i].size);
		else if (used < size)
			used += (size_t)snprintf(restart + used, size - used, "%s%s", used ? " " : "",
						 conf_rows[i].name);
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

static void value_text(const struct conf *c, const struct conf_row *row, char *text, size_t size)
{
	const char *field = (const char *)c + row->offset;

	switch (row->type) {
	case TEXT:
	case POLICY:
	case MARKS:
	case PRECISION:
	case CACHE_TYPE:
		snprintf(text, size, "%s", field);
		return;
	case BOOL:
		snprintf(text, size, "%s", *(const bool *)field ? "yes" : "no");
		return;
	case FLOAT:
		snprintf(text, size, "%.12g", *(const double *)field);
		return;
	case DRAFTS:
		if (*(const int64_t *)field > 0)
			snprintf(text, size, "%lld", (long long)*(const int64_t *)field);
		else
			snprintf(text, size, "%s", *(const int64_t *)field ? "auto" : "off");
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
	for (size_t i = 0; i < CONF_COMMANDS; i++)
		fprintf(to, "  -%c, --%s%s%s\n\t%s\n", conf_commands[i].letter, conf_commands[i].name,
			conf_commands[i].value ? " " : "", conf_commands[i].value ? conf_commands[i].value : "",
			conf_commands[i].help);
	fputs("\nOptions of the command line and, without the dashes, of the configuration file:\n\n", to);
	for (size_t i = 0; i < CONF_ROWS; i++) {
		if (conf_rows[i].short_name)
			fprintf(to, "  -%c, --%s %s\n", conf_rows[i].short_name, conf_rows[i].name, conf_rows[i].value);
		else
			fprintf(to, "      --%s%c%s\n", conf_rows[i].name, conf_rows[i].type == BOOL ? '=' : ' ',
				conf_rows[i].value);
		fprintf(to, "\t%s", conf_rows[i].help);
		fprintf(to, *conf_rows[i].otherwise ? " [%s]\n" : "\n", conf_rows[i].otherwise);
	}
}

void conf_print(const struct conf *c, FILE *to)
{
	for (size_t i = 0; i < CONF_ROWS; i++) {
		char text[4096];

		value_text(c, &conf_rows[i], text, sizeof(text));
		fprintf(to, "%s# %s\n", i ? "\n" : "", conf_rows[i].help);
		fprintf(to, *text ? "%s = %s\n" : "#%s =%s\n", conf_rows[i].name, text);
	}
}
