/*
 * JSON Schema, as an expression of a grammar: the subset that libproto/README.md states. What else constrains is
 * refused with its name and place, never passed over; annotations are. What may be written is valid under the schema,
 * but not all that is valid may be written: the order of properties is the schema's, blanks stand behind colons and
 * commas alone, and properties that the schema does not name come where it asks for them.
 */
#ifndef DAEMON_SCHEMA_H
#define DAEMON_SCHEMA_H

#include "grammar.h"
#include "msg.h"

/* `schema` is a map or a bool. *expr: a value. SINK_EINVAL names keyword and place; SINK_ENOMEM. */
int schema_read(const struct val *schema, struct grammar *g, int32_t *expr, struct err *e);

#endif
