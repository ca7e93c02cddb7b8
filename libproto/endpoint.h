/* The endpoint that clients use: the rules are those of sink_endpoint() in sink.h. */
#ifndef SINK_ENDPOINT_H
#define SINK_ENDPOINT_H

#include <stddef.h>

#include "error.h"

/* Writes it to `endpoint`, terminated. SINK_EINVAL, with the reason. */
int endpoint_find(const char *given, char *endpoint, size_t size, struct err *e);

#endif
