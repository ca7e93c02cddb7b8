/* Other programs that a person likes to use: an editor for a text, a pager for what is long. */
#ifndef CLIENT_PROGRAM_H
#define CLIENT_PROGRAM_H

#include <stdbool.h>

#include "buf.h"

/* Runs $VISUAL, $EDITOR or vi on a file and waits for its end. An exit code; the failure is said. */
int program_edit_file(const char *path);

/* Lets the person edit a text: it becomes what was saved, without its last newlines. An exit code. */
int program_edit(struct buf *text);

/*
 * From here on standard output goes through $PAGER (less, where that is unset), until program_page_end(). Without a
 * terminal or a pager nothing changes. A pager that was left before the end is no failure.
 */
void program_page(void);
void program_page_end(void);

#endif
