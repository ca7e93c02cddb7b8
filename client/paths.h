/* Where a user's files are: the XDG base directories, each with its fallback under $HOME. */
#ifndef CLIENT_PATHS_H
#define CLIENT_PATHS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum paths { PATHS_CONFIG, PATHS_DATA, PATHS_STATE };

/*
 * Writes the path of sinkd's `file` in one of the directories. A variable that is unset, empty or no absolute path
 * falls back to $HOME/.config, $HOME/.local/share or $HOME/.local/state. False when that is no absolute path either, or
 * too long for `size` (PATH_MAX serves).
 */
bool paths_get(enum paths which, const char *file, char *ret, size_t size);

/* Makes the directories above `file` that are missing, for the user alone. 0 or errno. */
int paths_make(const char *file);

#endif
