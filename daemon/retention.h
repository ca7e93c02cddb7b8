/*
 * What a conversation keeps in the model's sight: its policy (engine/policy.h) and the tokens that are its marks
 * (engine/marks.h), as a request or the configuration names them, checked against the vocabulary that they speak of.
 */
#ifndef DAEMON_RETENTION_H
#define DAEMON_RETENTION_H

#include <stddef.h>

#include "error.h"
#include "kv.h"
#include "policy.h"
#include "token.h"

struct conf;
struct model;

enum { RETENTION_MARKS = 4096 }; /* most ids that a request may name */

/* Zero-initialize, then retention_release(). */
struct retention {
	struct policy policy;
	struct tokens marks; /* those that were named; none: the vocabulary's own, see model_marks() */
};

/*
 * Writes to *ret, on success only, the policy of this text and these marks; NULL: the marks of the configuration. The
 * ids are copied. SINK_EINVAL: no such policy; a sink token or a mark that the vocabulary does not have; marks for a
 * policy that has none; no marks, neither named nor in the vocabulary, for a policy that needs some.
 */
int retention_choose(const struct conf *conf, const struct model *m, const char *policy, const struct tokens *marks,
		     struct retention *ret, struct err *e);
int retention_copy(const struct retention *from, struct retention *ret, struct err *e);
void retention_release(struct retention *r);

/*
 * Whether the settings of new conversations, with this policy, fit the model. SINK_EINVAL names the one that does not.
 */
int retention_check(const struct conf *conf, const struct model *m, const char *policy, struct err *e);

/* What a person should know of such a policy with this model, a static text; NULL: nothing. */
const char *retention_note(const struct policy *p, const struct model *m);

/* An empty cache; `step`: most tokens of a step. SINK_EBUSY when it could never be held. */
int retention_cache(const struct retention *r, struct model *m, size_t step, struct kv **ret, struct err *e);

#endif
