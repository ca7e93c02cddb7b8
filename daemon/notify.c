/* The service manager's protocol by its own library, libsystemd. */
#include "notify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "listen.h"

void notify_send(const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	sd_notify(0, text);
}

void notify_reloading(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	notify_send("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

int notify_take_fds(struct notify_fds *ret, struct err *e)
{
	int count = sd_listen_fds(0);
	int rc = listen_sort(count, getenv("LISTEN_FDNAMES"), ret, e);

	sd_listen_fds(1); /* takes the variables out */
	return rc;
}

bool notify_keeps_fds(void)
{
	const char *most = getenv("FDSTORE"); /* as systemd says since version 254 */

	return getenv("NOTIFY_SOCKET") && (!most || atoi(most) > 0);
}

int notify_keep_fd(const char *name, int fd)
{
	char text[512];

	notify_forget_fd(name);
	snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
	return sd_pid_notify_with_fds(0, 0, text, &fd, 1) > 0 ? 0 : SINK_EIO;
}

void notify_forget_fd(const char *name)
{
	notify_send("FDSTOREREMOVE=1\nFDNAME=%s", name);
}

uint64_t notify_watchdog_usec(void)
{
	uint64_t usec = 0;

	return sd_watchdog_enabled(0, &usec) > 0 ? usec : 0;
}
