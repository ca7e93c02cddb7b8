/*
 * Owns the choice between what a request names, what the configuration names, and what the vocabulary has. A mark that
 * does not exist would never be seen, and the conversation forget what it was to keep: so each id is checked.
 */
#include "retention.h"

#include "conf.h"
#include "marks.h"
#include "model.h"

static const char untrained[] =
	"This model was not trained for anchors (its vocabulary has no \"<AC>\"): of a sentence that has ended it sees "
	"the last token alone, and will remember little.";

static const char *marks_name(enum marking kind)
{
	return kind == MARKING_ANCHORS ? "anchors" : "separators";
}

/* The ids that the configuration names for policies of this kind. */
static int take_configured(const struct conf *conf, enum marking kind, struct tokens *ret, struct err *e)
{
	const char *text = kind == MARKING_SEPARATORS ? conf->separator_ids : conf->anchors;

	return kind == MARKING_NONE || !*text ? 0 : marks_parse(text, ret, e);
}

static int take_named(const struct policy *p, const struct tokens *marks, struct tokens *ret, struct err *e)
{
	if (policy_marking(p) == MARKING_NONE)
		return err_set(e, SINK_EINVAL, "\"marks\" are given, but the policy %s keeps none.", policy_name(p));
	if (!marks->count)
		return err_set(e, SINK_EINVAL, "\"marks\" names no token; leave it out for those of the model.");
	return tokens_append(ret, marks->id, marks->count, e);
}

int retention_choose(const struct conf *conf, const struct model *m, const char *policy, const struct tokens *marks,
		     struct retention *ret, struct err *e)
{
	const struct vocab *v = model_vocab(m);
	struct retention r = { 0 };
	enum marking kind;
	int rc = policy_parse(policy, &r.policy, e);

	if (rc < 0 || (r.policy.token >= 0 && (rc = marks_check(v, &r.policy.token, 1, e)) < 0))
		return rc;
	kind = policy_marking(&r.policy);
	rc = marks ? take_named(&r.policy, marks, &r.marks, e) : take_configured(conf, kind, &r.marks, e);
	if (rc == 0)
		rc = marks_check(v, r.marks.id, r.marks.count, e);
	if (rc == 0 && kind != MARKING_NONE && !r.marks.count && !model_marks(m, kind)->count)
		rc = err_set(e, SINK_EINVAL, "The policy %s keeps %s, and the model's vocabulary has none: name some.",
			     policy_name(&r.policy), marks_name(kind));
	if (rc < 0)
		retention_release(&r);
	else
		*ret = r;
	return rc;
}

int retention_copy(const struct retention *from, struct retention *ret, struct err *e)
{
	struct retention r = { .policy = from->policy };
	int rc = tokens_append(&r.marks, from->marks.id, from->marks.count, e);

	if (rc == 0)
		*ret = r;
	return rc;
}

void retention_release(struct retention *r)
{
	tokens_release(&r->marks);
}

static int check_list(const struct conf *conf, const struct model *m, enum marking kind, const char *option,
		      struct err *e)
{
	struct tokens ids = { 0 };
	struct err why;
	int rc = take_configured(conf, kind, &ids, &why);

	if (rc == 0)
		rc = marks_check(model_vocab(m), ids.id, ids.count, &why);
	tokens_release(&ids);
	return rc < 0 ? err_set(e, rc, "%s: %s", option, why.text) : 0;
}

int retention_check(const struct conf *conf, const struct model *m, const char *policy, struct err *e)
{
	struct retention r = { 0 };
	struct err why;
	int rc;

	if ((rc = check_list(conf, m, MARKING_SEPARATORS, "separator-ids", e)) < 0 ||
	    (rc = check_list(conf, m, MARKING_ANCHORS, "anchors", e)) < 0)
		return rc;
	rc = retention_choose(conf, m, policy, NULL, &r, &why);
	retention_release(&r);
	return rc < 0 ? err_set(e, rc, "policy = %s: %s", policy, why.text) : 0;
}

const char *retention_note(const struct policy *p, const struct model *m)
{
	return policy_marking(p) == MARKING_ANCHORS && !marks_trained(model_vocab(m)) ? untrained : NULL;
}

int retention_cache(const struct retention *r, struct model *m, size_t step, struct kv **ret, struct err *e)
{
	const struct tokens *marks = r->marks.count ? &r->marks : model_marks(m, policy_marking(&r->policy));
	const struct kv_options o = { .policy = r->policy, .step = step, .mark = marks->id, .marks = marks->count };

	return kv_new(model_arena(m), &o, ret, e);
}
