/* notify.h, whichever file has it: against a notification socket and a listening one of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "notify.h"

/* A datagram socket under an abstract name, which is put into the environment. */
static int manager(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	char name[64];
	int len = snprintf(name, sizeof(name), "@sinkd-test-%d", (int)getpid());

	memcpy(at.sun_path, name, (size_t)len);
	at.sun_path[0] = '\0';
	assert_int_equal(
		bind(fd, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len)), 0);
	setenv("NOTIFY_SOCKET", name, 1);
	return fd;
}

static void assignments_arrive(void **state)
{
	int fd = manager();
	char text[1024];
	ssize_t n;

	(void)state;
	notify_send("READY=1\nSTATUS=%d conversations", 3);
	n = read(fd, text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_string_equal(text, "READY=1\nSTATUS=3 conversations");
	notify_reloading();
	n = read(fd, text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_memory_equal(text, "RELOADING=1\nMONOTONIC_USEC=", 27);
	assert_true(atoll(text + 27) > 0);
	unsetenv("NOTIFY_SOCKET");
	notify_send("READY=1");
	assert_true(read(fd, text, sizeof(text)) < 0);
	close(fd);
	setenv("NOTIFY_SOCKET", "/nonexistent/socket", 1);
	notify_send("READY=1"); /* nobody is there, and nothing happens */
	unsetenv("NOTIFY_SOCKET");
}

static void the_watchdog_s_time_is_read(void **state)
{
	char pid[32];

	(void)state;
	unsetenv("WATCHDOG_USEC");
	assert_int_equal(notify_watchdog_usec(), 0);
	setenv("WATCHDOG_USEC", "30000000", 1);
	assert_int_equal(notify_watchdog_usec(), 30000000);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("WATCHDOG_PID", pid, 1);
	assert_int_equal(notify_watchdog_usec(), 30000000);
	setenv("WATCHDOG_PID", "1", 1); /* somebody else's */
	assert_int_equal(notify_watchdog_usec(), 0);
	unsetenv("WATCHDOG_PID");
	setenv("WATCHDOG_USEC", "soon", 1);
	assert_int_equal(notify_watchdog_usec(), 0);
	unsetenv("WATCHDOG_USEC");
}

/* In a child, whose descriptor 3 is what is given: its exit status tells what notify_listen_fd() said. */
static int listen_fd_in_child(int given, const char *count, int for_pid)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		char pid[32];
		int fd = -2, rc;

		dup2(given, 3);
		snprintf(pid, sizeof(pid), "%d", for_pid ? for_pid : (int)getpid());
		setenv("LISTEN_PID", pid, 1);
		setenv("LISTEN_FDS", count, 1);
		rc = notify_listen_fd(&fd, NULL);
		if (getenv("LISTEN_FDS"))
			_exit(99);
		_exit(rc < 0 ? 50 : fd + 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void a_listening_socket_is_taken_and_nothing_else(void **state)
{
	int listening = socket(AF_UNIX, SOCK_STREAM, 0), datagram = socket(AF_UNIX, SOCK_DGRAM, 0), ends[2], fd;
	const struct sockaddr_un any = { .sun_family = AF_UNIX };

	(void)state;
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	assert_int_equal(notify_listen_fd(&fd, NULL), 0);
	assert_int_equal(fd, -1);
	assert_int_equal(bind(listening, (const struct sockaddr *)&any, sizeof(sa_family_t)),
			 0); /* a name of its own */
	assert_int_equal(listen(listening, 1), 0);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(listen_fd_in_child(listening, "1", 0), 4);
	assert_int_equal(listen_fd_in_child(listening, "1", 1), 0); /* for another process */
	assert_int_equal(listen_fd_in_child(listening, "2", 0), 50);
	assert_int_equal(listen_fd_in_child(listening, "0", 0), 0);
	assert_int_equal(listen_fd_in_child(datagram, "1", 0), 50);
	assert_int_equal(listen_fd_in_child(ends[0], "1", 0), 50);
	close(listening);
	close(datagram);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(assignments_arrive),
		cmocka_unit_test(the_watchdog_s_time_is_read),
		cmocka_unit_test(a_listening_socket_is_taken_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
