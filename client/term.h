/*
 * The terminal: what may be written to it and how. A process has one terminal, so this module has one state.
 *
 * Data goes to standard output, talk to standard error. On a terminal text from a model is shown without its control
 * characters (newline and tab excepted), so that no answer can drive the terminal; into a file or pipe it goes as it
 * is. A progress line is erased before anything else is written.
 */
#ifndef CLIENT_TERM_H
#define CLIENT_TERM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

enum term_style { TERM_PLAIN, TERM_DIM, TERM_BOLD, TERM_GREEN, TERM_RED };

/*
 * `when` is auto, always or never (NULL: auto, which means NO_COLOR, then CLICOLOR_FORCE, then whether it is a terminal
 * that is not dumb). Returns false for another word. `quiet` silences notes and progress.
 */
bool term_init(const char *when, bool quiet);

/*
 * Whether Markdown of a model is styled: where standard output has colour, unless raw text was asked for. Setting gives
 * what holds from then on.
 */
bool term_markdown(void);
bool term_markdown_set(bool raw);

/* A pager stands before the terminal, or has ended: text is filtered as for the terminal, and it may leave early. */
void term_paged(bool on);

bool term_is(int fd); /* whether descriptor 0, 1 or 2 is a terminal */
bool term_quiet(void);
bool term_escapes(void);   /* whether TERM names one that knows cursor movement */
size_t term_columns(void); /* 80 when unknown */
size_t term_rows(void);	   /* 24 when unknown */

/* The escape sequence of a style, or "" when output to `fd` has no colour. TERM_PLAIN ends every style. */
const char *term_style(int fd, enum term_style style);

/* All bytes, however many writes it takes; waits where the descriptor does not block. 0 or errno. */
int term_write(int fd, const void *data, size_t size);

/* Text to standard output: filtered on a terminal. A failure is kept for term_finish(); then nothing more is written.
 */
void term_text(const char *text, size_t size);
bool term_filters(void);		      /* whether it is */
void term_raw(const char *text, size_t size); /* the same unfiltered: our own lines, JSON */
bool term_broken(void);			      /* whether standard output failed */

/* Adds `text` to `b` as a terminal may show it. */
void term_filter(struct buf *b, const char *text, size_t size);

size_t term_width(const char *text); /* cells that a string takes */

/*
 * Adds `text` on one line as a terminal may show it, in `cells` cells at most: what is longer ends in an ellipsis. With
 * `pad` blanks fill the rest. A control character is shown as a question mark.
 */
void term_fit(struct buf *b, const char *text, size_t cells, bool pad);

/*
 * Talk on standard error. A note is dim and ends without a newline of its own; a hint is a note that only a person at a
 * terminal is given; complaints begin with "sink: ".
 */
void term_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void term_hint(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void term_complain(const char *fmt, va_list args) __attribute__((format(printf, 1, 0)));

/* Shows or replaces the progress line (only where standard error is a terminal); term_clear() erases it. */
void term_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void term_clear(void);

/* Flushes standard output. Returns `code`, or 1 when output failed; a closed pipe ends the process as SIGPIPE would. */
int term_finish(int code);

#endif
