/*
 * What new conversations keep where neither the configuration nor a request names a policy: the first tokens that this
 * model needs, and the latest ones, USUAL_BUDGET in all. How many first tokens that is was measured, where
 * measured.h has a file of it; a model that has learned sinks of its own needs none, any other four.
 */
#ifndef DAEMON_USUAL_H
#define DAEMON_USUAL_H

#include "error.h"
#include "measured.h"
#include "policy.h"

struct conf;
struct model;

enum { USUAL_BUDGET = 2048, USUAL_SINKS = 4 };

/* The configuration's word for it. */
#define USUAL_AUTO "auto"

struct usual {
	char policy[POLICY_TEXT];
	const char *from;	  /* "default", "learned" or "measured": what the number of sinks comes from */
	char file[MEASURED_PATH]; /* that of a measurement that is there, good or not; "" */
	struct err trouble;	  /* why it is not used; its code is 0: it is, or there is none */
};

/* As long as no model is known. */
void usual_init(struct usual *u);

/* Of the model that was opened from this path. May read all of its weights. */
void usual_find(struct model *m, const char *path, struct usual *ret);

/* The policy of new conversations: that of the configuration, where it names one, else the usual one. */
const char *usual_policy(const struct usual *u, const struct conf *conf);

/* What named it: "configuration", else as `from`. */
const char *usual_source(const struct usual *u, const struct conf *conf);

#endif
