/*
 * Marks: which tokens of a vocabulary a policy keeps beyond the window (policy.h). Separators are punctuation and the
 * ends of lines, as SepLLM has them; anchors are the tokens that end a sentence, or the one that a model was trained
 * with (AnLLM's "<AC>").
 */
#ifndef ENGINE_MARKS_H
#define ENGINE_MARKS_H

#include <stdbool.h>

#include "error.h"
#include "policy.h"
#include "token.h"

/*
 * Appends the marks of a vocabulary for policies of this kind, ascending: separators are all tokens whose text is one
 * of . , ; : ? ! or ends in a line feed; anchors are "<AC>" where there is such a token, else those whose text is one
 * of . ? !. May append none.
 */
int marks_of_vocab(const struct vocab *v, enum marking kind, struct tokens *ret, struct err *e);

/* Whether the vocabulary has a token made for anchors; a model without one was not trained to do with anchors alone. */
bool marks_trained(const struct vocab *v);

/* SINK_EINVAL for an id that the vocabulary does not have. */
int marks_check(const struct vocab *v, const int32_t *id, size_t count, struct err *e);

/* Appends the ids of a text of numbers with commas, blanks or line ends between them (and brackets around: JSON). */
int marks_parse(const char *text, struct tokens *ret, struct err *e);

#endif
