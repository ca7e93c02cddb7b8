/*
 * Error codes and texts: the same inside the daemon, on the wire and in a client's exit code.
 *
 * A function returns 0 or one of these negative codes (or a pointer, NULL on failure) and takes `struct err *e` last.
 * The first place that knows the cause words it, once; callers pass `e` on and clean up. `e` is written on failure
 * only, and may be NULL when nobody wants the text. This header includes the codes and nothing else: everybody may
 * include it.
 */
#ifndef SINK_ERROR_H
#define SINK_ERROR_H

#include "sink_code.h"

#ifdef __cplusplus
extern "C" {
#endif

struct err {
	int code;
	char text[240]; /* whole sentences for a person; truncated, never overrun; control characters are blanks */
};

/* Words the error and returns `code`, so that a failing line reads `return err_set(e, SINK_EINVAL, "…", …);`. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The code's stable name as it travels ("einval"); "unknown" for a code of a newer peer. Static storage. */
const char *err_name(int code);

/* The code that travels under this name; SINK_EINVAL for a name of a newer peer, and for "ok", which is no error. */
int err_code(const char *name);

#ifdef __cplusplus
}
#endif

#endif
