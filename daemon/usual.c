/*
 * Owns the choice of what nobody has chosen. A measurement is advice: one that is damaged, of other weights, or of
 * another vocabulary is told of and not followed, and never a reason not to start.
 */
#include "usual.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "conf.h"
#include "marks.h"
#include "model.h"

static void set(struct usual *u, const char *from, int32_t sinks, int32_t token)
{
	struct policy p;

	policy_at_budget("sink", USUAL_BUDGET, sinks, 0, &p, NULL);
	p.token = token;
	policy_format(&p, u->policy, sizeof(u->policy));
	u->from = from;
}

void usual_init(struct usual *u)
{
	memset(u, 0, sizeof(*u));
	set(u, "default", USUAL_SINKS, -1);
}

/* What the file says, when it speaks of this model. */
static int measurement(struct model *m, struct usual *u, struct measured *ret, struct err *e)
{
	int rc = measured_read(u->file, ret, e);

	if (rc < 0)
		return rc;
	if (ret->fingerprint != model_fingerprint(m))
		return err_set(e, SINK_EFORMAT,
			       "%s was measured of other weights (%016" PRIx64 ", not %016" PRIx64 ").", u->file,
			       ret->fingerprint, model_fingerprint(m));
	if (ret->token >= 0 && marks_check(model_vocab(m), &ret->token, 1, NULL) < 0)
		return err_set(e, SINK_EFORMAT, "%s names a token that the model does not have.", u->file);
	return 0;
}

void usual_find(struct model *m, const char *path, struct usual *ret)
{
	struct measured measured;
	int rc;

	usual_init(ret);
	if (model_info(m)->learned_sinks)
		set(ret, "learned", 0, -1);
	if (measured_path(path, ret->file, NULL) < 0) {
		ret->file[0] = '\0';
		return;
	}
	rc = measurement(m, ret, &measured, &ret->trouble);
	if (rc == 0)
		set(ret, "measured", measured.sinks, measured.token);
	if (rc != SINK_ENOENT)
		return;
	ret->file[0] = '\0';
	ret->trouble.code = 0;
}

static bool names(const struct conf *conf)
{
	return strcmp(conf->policy, USUAL_AUTO) != 0;
}

const char *usual_policy(const struct usual *u, const struct conf *conf)
{
	return names(conf) ? conf->policy : u->policy;
}

const char *usual_source(const struct usual *u, const struct conf *conf)
{
	return names(conf) ? "configuration" : u->from;
}
