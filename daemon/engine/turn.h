/*
 * Turns: how messages of roles are written as tokens. A family (ChatML, Llama-3, Mistral, Zephyr, or plain text) is
 * recognised from the chat template that the model file carries; a template that matches none is a warning and ChatML
 * when the vocabulary has its marks, else plain text.
 *
 * Marks of turns are written as control tokens; the text of a message is encoded without any, so a message cannot
 * close its own turn. (A vocabulary that has no such tokens gets them as text; turns_new() says so.) The tokens of a
 * message are those of the rendered template, text and header tokenized in one piece between two marks.
 */
#ifndef ENGINE_TURN_H
#define ENGINE_TURN_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "gguf.h"
#include "token.h"

struct turns;

enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLES };

const char *role_name(enum role r);
int role_find(const char *name, enum role *ret, struct err *e); /* SINK_EINVAL lists the names */

/*
 * Chooses the family. `note` (may be NULL) receives a sentence to log when the choice is a fallback, or a mark of the
 * family is no control token here; else "". The vocabulary must outlive it. SINK_EFORMAT, SINK_ENOMEM.
 */
int turns_new(const struct gguf *g, const struct vocab *v, struct turns **ret, char note[240], struct err *e);
void turns_free(struct turns *t); /* NULL is fine */

const char *turns_name(const struct turns *t); /* "chatml" */
/* The system prompt that the template gives to a conversation that begins without one, or NULL. */
const char *turns_default_system(const struct turns *t);

/* Appends a conversation's first tokens: BOS where the file asks for it. */
int turns_begin(const struct turns *t, struct tokens *out, struct err *e);
/*
 * Appends one whole message. A family that has no system role (mistral) writes its text before the user's turn. On
 * failure, here and below, the list is as it was.
 */
int turns_message(const struct turns *t, enum role r, const char *text, size_t len, struct tokens *out, struct err *e);
/* Appends what makes the model answer (the assistant's header). */
int turns_open_answer(const struct turns *t, struct tokens *out, struct err *e);
/*
 * Appends what ends an answer, so that the next message may follow. `last` is the answer's last token in the cache:
 * when it is an end token (the answer ended itself), only what the template has behind it follows, such as a line feed.
 */
int turns_close_answer(const struct turns *t, int32_t last, struct tokens *out, struct err *e);

#endif
