/* A parser under way, and what expressions (jinja_parse.c) and statements (jinja_statement.c) share of it. */
#ifndef ENGINE_JINJA_PARSE_H
#define ENGINE_JINJA_PARSE_H

#include "jinja_parts.h"

struct jinja_parser {
	struct jinja_run *r;
	struct jinja_lexer lexer;
	struct jinja_token t; /* the next one */
	int loops;	      /* that are open, for break and continue */
};

void jinja_advance(struct jinja_parser *p);
struct jinja_node *jinja_node_new(struct jinja_parser *p, enum jinja_type type);
bool jinja_is_op(const struct jinja_parser *p, int op);
bool jinja_is_name(const struct jinja_parser *p, const char *name);
bool jinja_skip_op(struct jinja_parser *p, int op);
bool jinja_skip_name(struct jinja_parser *p, const char *name);
_Noreturn void jinja_wanted(struct jinja_parser *p, const char *what);
void jinja_want_op(struct jinja_parser *p, int op);
const char *jinja_want_name(struct jinja_parser *p);
void jinja_want_end(struct jinja_parser *p); /* of the tag */

struct jinja_node *jinja_expression(struct jinja_parser *p, bool with_if);
/* Expressions with commas between them; one without a comma is itself. `close`: the bracket that may end them, or 0. */
struct jinja_node *jinja_tuple(struct jinja_parser *p, bool with_if, int close);
/* Arguments up to the closing bracket; the opening one was read. */
struct jinja_node *jinja_call_arguments(struct jinja_parser *p);
struct jinja_node *jinja_filters(struct jinja_parser *p, struct jinja_node *of);
struct jinja_node *jinja_filter_chain(struct jinja_parser *p); /* of a block, the first without a bar */

#endif
