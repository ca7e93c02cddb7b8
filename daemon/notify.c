/* The service manager's protocol by its own library, libsystemd. */
#include "notify.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <time.h>

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

int notify_listen_fd(int *ret, struct err *e)
{
	int count = sd_listen_fds(1);

	*ret = -1;
	if (count <= 0)
		return 0;
	if (count != 1)
		return err_set(e, SINK_EINVAL, "%d sockets were passed in; sinkd takes one.", count);
	if (sd_is_socket_unix(SD_LISTEN_FDS_START, SOCK_STREAM, 1, NULL, 0) <= 0)
		return err_set(e, SINK_EINVAL, "The descriptor that was passed in is no listening unix stream socket.");
	*ret = SD_LISTEN_FDS_START;
	return 0;
}

uint64_t notify_watchdog_usec(void)
{
	uint64_t usec = 0;

	return sd_watchdog_enabled(0, &usec) > 0 ? usec : 0;
}
