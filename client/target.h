/*
 * Which conversation a word means.
 *
 *	name	the conversation of that name, else the only one whose name begins so
 *	=name	that name exactly
 *	-	the one that was used last
 *	(none)	$SINK_CONVERSATION, else the one that was used last
 *
 * A verb that destroys or renames asks for TARGET_EXACT: there a beginning is never enough. `name@3` means message 3.
 */
#ifndef CLIENT_TARGET_H
#define CLIENT_TARGET_H

#include <stdint.h>

#include "verb.h"

enum { TARGET_SIZE = 264 }; /* a name and its NUL; the daemon's limit is far below */

enum target_kind { TARGET_NEAR, TARGET_EXACT };

/* Writes the name that `word` (NULL: none given) means. An exit code; 4 with the candidates told when it is ambiguous.
 */
int target_find(struct cli *c, const char *word, enum target_kind kind, char name[TARGET_SIZE]);

/* The same without asking for its existence: where a verb makes a conversation that is missing. */
int target_or_new(struct cli *c, const char *word, char name[TARGET_SIZE]);

/*
 * Splits NAME@MESSAGE. *message is -1 without one. Returns an exit code: 2 when what follows the @ is no number, or the
 * name is too long.
 */
int target_split(const char *word, char name[TARGET_SIZE], int64_t *message);

/*
 * The number of the name that begins with `word`, when one does; -1 when none does, -2 when several do. An exact name
 * wins over longer ones.
 */
int target_match(const char *word, const char *const *names, size_t count);

#endif
