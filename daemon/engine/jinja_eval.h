/* What jinja.c needs of the evaluator: scopes with the variables of a run, and the run itself. */
#ifndef ENGINE_JINJA_EVAL_H
#define ENGINE_JINJA_EVAL_H

#include "jinja_parts.h"

/* Where a run is: its names, where it writes to, and the text of the block whose filters are at work. */
struct jinja_frame {
	struct jinja_run *r;
	struct jinja_scope *scope;
	struct jinja_buffer *out;
	struct jinja_value block;
};

struct jinja_scope *jinja_scope_new(struct jinja_run *r, struct jinja_scope *parent);
void jinja_define(struct jinja_run *r, struct jinja_scope *s, const char *name, struct jinja_value value);
void jinja_run_list(struct jinja_frame *f, const struct jinja_node *n);

#endif
