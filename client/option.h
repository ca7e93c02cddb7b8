/*
 * The options of `sink`: one table, read by the parser, the help text, and whoever writes completions or a manual.
 *
 * An option has one meaning in each verb that takes it; a letter may stand for two options as long as no verb takes
 * both
 * (-n, -f). Options may stand before or after the arguments; `--` ends them; `-` alone is an argument; long names are
 * never abbreviated, so that a new one cannot break a script.
 */
#ifndef CLIENT_OPTION_H
#define CLIENT_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sink.h"

enum option {
	OPTION_HELP,
	OPTION_VERSION,
	OPTION_ENDPOINT,
	OPTION_INSTANCE,
	OPTION_JSON,
	OPTION_QUIET,
	OPTION_RAW,
	OPTION_COLOR,
	OPTION_CONVERSATION,
	OPTION_SYSTEM,
	OPTION_POLICY,
	OPTION_MARKS,
	OPTION_TEMPLATE,
	OPTION_TEMPORARY,
	OPTION_FILE,
	OPTION_DETACH,
	OPTION_STRICT,
	OPTION_TIMEOUT,
	OPTION_MAX,
	OPTION_SEED,
	OPTION_TEMPERATURE,
	OPTION_TOP_K,
	OPTION_TOP_P,
	OPTION_MIN_P,
	OPTION_REPETITION,
	OPTION_PRESENCE,
	OPTION_FREQUENCY,
	OPTION_PENALTY_LAST,
	OPTION_STOP,
	OPTION_SCHEMA,
	OPTION_REGEX,
	OPTION_LOGPROBS,
	OPTION_TOP_LOGPROBS,
	OPTION_NO_THINKING,
	OPTION_READ_ONLY,
	OPTION_FOLLOW,
	OPTION_NUMBER,
	OPTION_FROM,
	OPTION_FORCE,
	OPTION_SPECIAL,
	OPTION_WITHIN,
	OPTION_OUTPUT,
	OPTION_FORMAT,
	OPTION_CACHE,
	OPTION_STDIO,
	OPTION_FIELDS,
	OPTION_NO_LEGEND,
	OPTION_NO_PAGER,
	OPTION_SINCE,
	OPTION_ONCE,
	OPTION_INTERVAL,
	OPTION_TIMES,
	OPTION_COUNT,
};

#define OPTION_BIT(option) (UINT64_C(1) << (option))

/* What every verb takes, and what each verb that makes an answer takes. */
#define OPTION_GLOBAL                                                                                                  \
	(OPTION_BIT(OPTION_HELP) | OPTION_BIT(OPTION_VERSION) | OPTION_BIT(OPTION_ENDPOINT) |                          \
	 OPTION_BIT(OPTION_INSTANCE) | OPTION_BIT(OPTION_JSON) | OPTION_BIT(OPTION_QUIET) | OPTION_BIT(OPTION_RAW) |   \
	 OPTION_BIT(OPTION_COLOR))
#define OPTION_SAMPLING                                                                                                \
	(OPTION_BIT(OPTION_MAX) | OPTION_BIT(OPTION_SEED) | OPTION_BIT(OPTION_TEMPERATURE) |                           \
	 OPTION_BIT(OPTION_TOP_K) | OPTION_BIT(OPTION_TOP_P) | OPTION_BIT(OPTION_MIN_P) |                              \
	 OPTION_BIT(OPTION_REPETITION) | OPTION_BIT(OPTION_PRESENCE) | OPTION_BIT(OPTION_FREQUENCY) |                  \
	 OPTION_BIT(OPTION_PENALTY_LAST) | OPTION_BIT(OPTION_STOP) | OPTION_BIT(OPTION_SCHEMA) |                       \
	 OPTION_BIT(OPTION_REGEX) | OPTION_BIT(OPTION_LOGPROBS) | OPTION_BIT(OPTION_TOP_LOGPROBS) |                    \
	 OPTION_BIT(OPTION_NO_THINKING))

enum option_type { OPTION_IS_FLAG, OPTION_IS_TEXT, OPTION_IS_LIST, OPTION_IS_INT, OPTION_IS_FLOAT, OPTION_IS_FILE };

struct option_row {
	char letter; /* 0: none */
	const char *name;
	const char *value; /* what the help calls the value; NULL for a flag */
	enum option_type type;
	const char *key; /* its name in the protocol's map `sampling`; NULL: it is none of those */
	const char *help;
	const char *choices; /* what completion offers, with blanks between; NULL: as the value's name says */
};

extern const struct option_row option_rows[OPTION_COUNT];

/* What the command line gave. The texts belong to argv, those of option_set() to `struct options`. */
struct option_value {
	bool given;
	int64_t number;
	double real;
	const char *text; /* the last one given */
	const char **list;
	size_t count;
};

struct options {
	struct option_value v[OPTION_COUNT];
	const char **args; /* what is no option, in order */
	size_t count;
	const char **owned; /* copies that option_set() made */
	size_t owned_count;
};

/*
 * Reads argv[*at ...] into `o` (zeroed at first; several calls add up). With `first` it stops at the first argument
 * that is no option and leaves *at there. Returns false with a sentence in `cause` (of `size` bytes) for an option that
 * is not among the bits of `allowed`, or a value that is missing or no number.
 */
bool option_parse(struct options *o, uint64_t allowed, bool first, int argc, char **argv, int *at, char *cause,
		  size_t size);
void option_release(struct options *o);

/* The option of this long name, or this letter, among the bits of `allowed`; OPTION_COUNT: none. */
enum option option_named(uint64_t allowed, const char *name, size_t len);
enum option option_lettered(uint64_t allowed, char letter);

/* Gives an option a value as the command line would, keeping a copy of `text`. False with a cause as above. */
bool option_set(struct options *o, enum option which, const char *text, char *cause, size_t size);
void option_unset(struct options *o, enum option which);

/*
 * Adds the map `sampling` to a request when any of its settings was given. `schema` is what the file of --schema holds,
 * known to be JSON.
 */
void option_sampling(const struct options *o, const char *schema, size_t size, struct sink_args *a);

#endif
