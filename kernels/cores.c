/*
 * How many threads are worth starting. A container with half a machine must not start a thread for each core that it
 * sees: threads beyond the quota stop all together when it is used up, which a step feels as a stall.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "cores.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels.h"

/* Reads a small file whole. */
static bool read_text(const char *dir, const char *name, char *text, size_t size)
{
	char path[1200];
	FILE *f;
	size_t n;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
		return false;
	f = fopen(path, "re");
	if (!f)
		return false;
	n = fread(text, 1, size - 1, f);
	fclose(f);
	text[n] = '\0';
	return n > 0;
}

/* The quota of one group in cores; 0 when it has none. */
static double quota_of(const char *dir)
{
	char text[64];
	double quota = 0, period = 0;

	if (read_text(dir, "cpu.max", text, sizeof(text))) {
		if (sscanf(text, "%lf %lf", &quota, &period) != 2)
			return 0;
	} else if (read_text(dir, "cpu.cfs_quota_us", text, sizeof(text))) {
		quota = atof(text);
		if (read_text(dir, "cpu.cfs_period_us", text, sizeof(text)))
			period = atof(text);
	}
	return quota > 0 && period > 0 ? quota / period : 0;
}

static int least_on_path(char *dir, size_t root_len, int most)
{
	for (;;) {
		double cores = quota_of(dir);
		char *slash;

		if (cores > 0 && cores < most)
			most = (int)cores + (cores > (int)cores);
		slash = strrchr(dir, '/');
		if (!slash || (size_t)(slash - dir) < root_len)
			return most;
		*slash = '\0';
	}
}

/* Whether the list "cpu,cpuacct" names the controller "cpu". */
static bool names_cpu(const char *list)
{
	for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
		if (strcspn(at, ",") == 3 && strncmp(at, "cpu", 3) == 0)
			return true;
	return false;
}

/* A line is "number:controllers:/path"; version 2 has number 0 and no controllers. */
int cores_in_quota(const char *groups, const char *root, int most)
{
	FILE *f = fopen(groups, "re");
	char line[1024], dir[2200];

	if (!f)
		return most;
	while (fgets(line, sizeof(line), f)) {
		char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
		const char *mount = "";
		size_t root_len;

		if (!path)
			continue;
		*path++ = '\0';
		list++;
		path[strcspn(path, "\n")] = '\0';
		if (*list && !names_cpu(list))
			continue;
		if (*list)
			mount = "/cpu";
		root_len = (size_t)snprintf(dir, sizeof(dir), "%s%s", root, mount);
		if (root_len + strlen(path) >= sizeof(dir))
			continue;
		if (strcmp(path, "/") != 0)
			strcpy(dir + root_len, path);
		most = least_on_path(dir, root_len, most);
	}
	fclose(f);
	return most;
}

int kernels_cores(void)
{
	size_t bytes = sizeof(cpu_set_t);
	int cores = 0;

	/* A machine of more than CPU_SETSIZE cores refuses the plain set: ask again with a larger one. */
	for (; cores == 0 && bytes <= 64 * sizeof(cpu_set_t); bytes *= 2) {
		cpu_set_t *set = calloc(1, bytes);

		if (!set)
			break;
		if (sched_getaffinity(0, bytes, set) == 0)
			cores = CPU_COUNT_S(bytes, set);
		free(set);
	}
	if (cores < 1)
		cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
	if (cores < 1)
		cores = 1;
	return cores_in_quota("/proc/self/cgroup", "/sys/fs/cgroup", cores);
}
