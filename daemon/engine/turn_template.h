/*
 * Turns written by a model file's own template, which is run (jinja.h). The tokens of a message are what the text gains
 * by it: a short conversation is rendered without and with it, and with a next message behind it. What stands before
 * must stay as it was; a template that writes earlier messages otherwise once others follow is not used.
 */
#ifndef ENGINE_TURN_TEMPLATE_H
#define ENGINE_TURN_TEMPLATE_H

#include "turn.h"

struct turn_template;

/*
 * Tries the template with short conversations. SINK_EFORMAT, SINK_EINVAL or SINK_EBUSY: it cannot be used, and the text
 * says why. SINK_ENOMEM.
 */
int turn_template_new(struct gguf_str text, const struct vocab *v, struct turn_template **ret, struct err *e);
void turn_template_free(struct turn_template *t); /* NULL is fine */

bool turn_template_begins(const struct turn_template *t);	 /* with BOS */
const char *turn_template_system(const struct turn_template *t); /* its own system prompt, or NULL */
const struct tokens *turn_template_open(const struct turn_template *t);
const struct tokens *turn_template_close(const struct turn_template *t);
/* SINK_EINVAL: not this message, since the template would write others in another way behind it. */
int turn_template_message(const struct turn_template *t, enum turn_place place, enum role r, const char *text,
			  size_t len, struct tokens *out, struct err *e);

/*
 * Appends how the template opens an answer when `enable_thinking` (or `thinking`) is false; nothing where that makes no
 * difference, or the template cannot be run. A template that is not used for messages is asked too. SINK_ENOMEM.
 */
int turn_template_unthinking(struct gguf_str text, const struct vocab *v, struct tokens *out, struct err *e);

#endif
