/*
 * Where the daemon is. A person's own daemon comes before the system's, unless only the system's is there.
 */
#include "endpoint.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "reply.h"

enum { UNIX_PATH_MOST = 107 };
#define IPC "ipc://"
#define SYSTEM_ENDPOINT "ipc:///run/sinkd/sinkd.sock"

static bool is_socket(const char *endpoint)
{
	struct stat st;

	return stat(endpoint + strlen(IPC), &st) == 0 && S_ISSOCK(st.st_mode);
}

/* The user's daemon, unless only the system's is there. Returns as snprintf does. */
static int default_endpoint(char *endpoint, size_t size)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");
	char run[40];
	int len;

	snprintf(run, sizeof(run), "/run/user/%lu", (unsigned long)getuid());
	if (!dir || dir[0] != '/')
		dir = access(run, X_OK) == 0 ? run : NULL;
	if (!dir)
		return snprintf(endpoint, size, "%s", SYSTEM_ENDPOINT);
	len = snprintf(endpoint, size, IPC "%s/sinkd/sinkd.sock", dir);
	if (len > 0 && (size_t)len < size && !is_socket(endpoint) && is_socket(SYSTEM_ENDPOINT))
		len = snprintf(endpoint, size, "%s", SYSTEM_ENDPOINT);
	return len;
}

int endpoint_find(const char *given, char *endpoint, size_t size, struct err *e)
{
	int len;

	if (!given || !*given)
		given = getenv("SINK_HOST");
	if (!given || !*given)
		len = default_endpoint(endpoint, size);
	else if (given[0] == '/')
		len = snprintf(endpoint, size, IPC "%s", given);
	else if (strncmp(given, IPC, strlen(IPC)) == 0 || strncmp(given, "tcp://", strlen("tcp://")) == 0)
		len = snprintf(endpoint, size, "%s", given);
	else
		return err_set(e, SINK_EINVAL, "\"%s\" is no endpoint: it must begin with ipc://, tcp:// or a slash.",
			       given);
	if (len < 0 || (size_t)len >= size)
		return err_set(e, SINK_EINVAL, "The endpoint is longer than %zu bytes.", size - 1);
	if (strncmp(endpoint, IPC, strlen(IPC)) == 0 && (size_t)len - strlen(IPC) > UNIX_PATH_MOST)
		return err_set(e, SINK_EINVAL, "The socket's path \"%s\" is longer than %d bytes.",
			       endpoint + strlen(IPC), UNIX_PATH_MOST);
	return 0;
}

int sink_endpoint(const char *given, char *endpoint, size_t size)
{
	memset(err_alone(), 0, sizeof(struct err));
	return endpoint_find(given, endpoint, size, err_alone());
}
