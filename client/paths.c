/* The XDG base directory rules, and nothing else. */
#include "paths.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct {
	const char *variable, *fallback;
} dirs[] = {
	[PATHS_CONFIG] = { "XDG_CONFIG_HOME", ".config" },
	[PATHS_DATA] = { "XDG_DATA_HOME", ".local/share" },
	[PATHS_STATE] = { "XDG_STATE_HOME", ".local/state" },
};

bool paths_get(enum paths which, const char *file, char *ret, size_t size)
{
	const char *dir = getenv(dirs[which].variable), *home = getenv("HOME");
	int n;

	if (dir && *dir == '/')
		n = snprintf(ret, size, "%s/sinkd/%s", dir, file);
	else if (home && *home == '/')
		n = snprintf(ret, size, "%s/%s/sinkd/%s", home, dirs[which].fallback, file);
	else
		return false;
	return n > 0 && (size_t)n < size;
}

int paths_make(const char *file)
{
	char path[PATH_MAX];

	if (strlen(file) >= sizeof(path))
		return ENAMETOOLONG;
	strcpy(path, file);
	for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
		*at = '\0';
		if (mkdir(path, 0700) && errno != EEXIST)
			return errno;
		*at = '/';
	}
	return 0;
}
