/*
 * Chat templates: the part of the template language Jinja that the templates in model files are written in, run as
 * Hugging Face's apply_chat_template() runs them (jinja2's immutable sandbox with trim_blocks and lstrip_blocks, with
 * tojson, raise_exception, strftime_now, {% generation %}, break and continue). What is outside of that part is an
 * error that says so, never a guess.
 *
 * A template comes with a file, so it is hostile: a run has limits on steps, memory, output and depth, reads nothing
 * but the values that it is given, and changes nothing.
 *
 * Every byte of the output knows where it comes from: from the template (or a name that the caller vouches for), or
 * from the text of a message. Filters and methods carry that along, so whoever makes tokens of the output can tell a
 * mark that the template wrote from one that a message imitates.
 */
#ifndef ENGINE_JINJA_H
#define ENGINE_JINJA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "error.h"

struct jinja;

/* Reads a template. SINK_EFORMAT: it is damaged, or outside of what is known; SINK_EBUSY: larger than any in use. */
int jinja_new(const char *text, size_t len, struct jinja **ret, struct err *e);
void jinja_free(struct jinja *j); /* NULL is fine */

/* A message; its role is the caller's own word, its text is anybody's. */
struct jinja_message {
	const char *role;
	const char *text;
	size_t len;
	uint8_t origin; /* of the bytes of the text in the output; 0 is the template's own */
};

/* What a run may use: 0 is what a template in use needs at most, and some. */
struct jinja_limits {
	size_t steps, bytes, output;
};

/* The variables of a run. */
struct jinja_call {
	const struct jinja_message *message; /* `messages`, unless NULL */
	size_t messages;
	bool open_answer;      /* `add_generation_prompt` */
	const char *bos, *eos; /* `bos_token`, `eos_token`, or NULL */
	const char *json;      /* an object whose members become variables, or NULL; its texts are of origin 1 */
	size_t json_len;
	const struct tm *now;		   /* what strftime_now() tells; NULL: it is no function of this run */
	const struct jinja_limits *limits; /* or NULL */
};

/* What a run wrote; `origin` has a number for each byte. */
struct jinja_output {
	char *at;
	uint8_t *origin;
	size_t len;
};

/*
 * Runs the template. Any number of threads may run one at the same time. SINK_EFORMAT: it does something that is
 * outside of what is known, or wrong; SINK_EINVAL: it refuses the conversation (raise_exception); SINK_EBUSY: a limit.
 */
int jinja_render(const struct jinja *j, const struct jinja_call *c, struct jinja_output *ret, struct err *e);
void jinja_output_release(struct jinja_output *o);

#endif
