/*
 * Turns: how messages of roles are written as tokens. The chat template that the model file carries is run for them
 * (turn_template.h). One that cannot be run, or that changes what it has written when others follow, is a warning and
 * the form of its family (ChatML, Llama-3, Mistral, Zephyr, or plain text), which is recognised from its marks; of no
 * family: ChatML when the vocabulary has its marks, else plain text.
 *
 * Marks of turns are written as control tokens; the text of a message is encoded without any, so a message cannot
 * close its own turn. (A vocabulary that has no such tokens gets them as text; turns_new() says so.) The tokens of a
 * message are those of the rendered template, text and header tokenized in one piece between two marks.
 */
#ifndef ENGINE_TURN_H
#define ENGINE_TURN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "gguf.h"
#include "token.h"

struct turns;

/* Where a message stands: the first of a conversation, right behind its system message, or after an answer. */
enum turn_place { TURN_FIRST, TURN_BEHIND_SYSTEM, TURN_LATER };

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

/*
 * A text that a model writes when it goes on behind its answer with the user's next turn, as one does that was not
 * trained for turns; NULL where a token ends an answer.
 */
const char *turns_next(const struct turns *t);

/* Appends a conversation's first tokens: BOS where the file asks for it. */
int turns_begin(const struct turns *t, struct tokens *out, struct err *e);
/*
 * Appends one whole message. A family that has no system role (mistral) writes its text before the user's turn. On
 * failure, here and below, the list is as it was.
 */
int turns_message(const struct turns *t, enum role r, const char *text, size_t len, struct tokens *out, struct err *e);
/* The same where the place is known: some templates write a first message, or one behind the system's, otherwise. */
int turns_message_at(const struct turns *t, enum turn_place place, enum role r, const char *text, size_t len,
		     struct tokens *out, struct err *e);
/* Appends what makes the model answer (the assistant's header). */
int turns_open_answer(const struct turns *t, struct tokens *out, struct err *e);
/* Whether the template can be told that the model shall answer without thinking first; and what makes it do so. */
bool turns_think(const struct turns *t);
int turns_open_unthinking(const struct turns *t, struct tokens *out, struct err *e);
/*
 * Appends what ends an answer, so that the next message may follow. `last` is the answer's last token in the cache:
 * when it is an end token (the answer ended itself), only what the template has behind it follows, such as a line feed.
 */
int turns_close_answer(const struct turns *t, int32_t last, struct tokens *out, struct err *e);

#endif
