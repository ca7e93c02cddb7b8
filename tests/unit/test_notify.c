/* notify.h, whichever file has it: against a notification socket and a listening one of our own. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

static void descriptors_are_given_and_forgotten(void **state)
{
	int fd = manager(), ends[2], got;
	char text[256], control[CMSG_SPACE(sizeof(int))], byte = 0;
	struct iovec data = { text, sizeof(text) - 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	ssize_t n;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	unsetenv("FDSTORE");
	assert_true(notify_keeps_fds());
	assert_int_equal(notify_keep_fd("a-name", ends[1]), 0);
	n = read(fd, text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_string_equal(text, "FDSTOREREMOVE=1\nFDNAME=a-name"); /* what was there before */
	n = recvmsg(fd, &message, 0);
	assert_true(n > 0);
	text[n] = '\0';
	assert_string_equal(text, "FDSTORE=1\nFDPOLL=0\nFDNAME=a-name");
	assert_non_null(CMSG_FIRSTHDR(&message));
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(got));
	assert_int_equal(write(got, "x", 1), 1);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	assert_int_equal(byte, 'x');
	close(got);
	notify_forget_fd("a-name");
	n = read(fd, text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_string_equal(text, "FDSTOREREMOVE=1\nFDNAME=a-name");
	setenv("FDSTORE", "0", 1);
	assert_false(notify_keeps_fds());
	setenv("FDSTORE", "8", 1);
	assert_true(notify_keeps_fds());
	unsetenv("FDSTORE");
	unsetenv("NOTIFY_SOCKET");
	assert_false(notify_keeps_fds());
	assert_int_equal(notify_keep_fd("a-name", ends[1]), SINK_EIO);
	notify_forget_fd("a-name");
	close(ends[0]);
	close(ends[1]);
	close(fd);
}

/* What was passed in a child: letters of what it is, each from descriptor 3 on, and names; what it must come to. */
struct passing {
	const char *kinds; /* l: a listening socket, d: a datagram socket, p: a pipe, m: memory */
	const char *names;
	int rc;
	int listen, ours, pages, records; /* the descriptors that are used, or -1 */
	const char *note;		  /* what it must end with, or NULL: none */
	const char *said;		  /* to the manager, one after the other */
};

static int make_kind(char kind)
{
	const struct sockaddr_un any = { .sun_family = AF_UNIX };
	int ends[2], fd;

	switch (kind) {
	case 'l':
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		assert_int_equal(bind(fd, (const struct sockaddr *)&any, sizeof(sa_family_t)), 0);
		assert_int_equal(listen(fd, 1), 0);
		return fd;
	case 'd':
		return socket(AF_UNIX, SOCK_DGRAM, 0);
	case 'm':
		return memfd_create("test", MFD_CLOEXEC);
	default:
		assert_int_equal(pipe(ends), 0);
		close(ends[1]);
		return ends[0];
	}
}

static void check_taken(const struct passing *p, int told)
{
	int count = (int)strlen(p->kinds);
	char text[1024] = "";
	struct notify_fds f;
	size_t used = 0;
	ssize_t n;

	assert_int_equal(notify_take_fds(&f, NULL), p->rc);
	assert_null(getenv("LISTEN_FDS"));
	assert_null(getenv("LISTEN_PID"));
	assert_null(getenv("LISTEN_FDNAMES"));
	if (p->rc < 0)
		return;
	assert_int_equal(f.listen, p->listen);
	assert_int_equal(f.listen_ours, p->ours);
	assert_int_equal(f.pages, p->pages);
	assert_int_equal(f.records, p->records);
	for (int fd = 3; fd < 3 + count; fd++) {
		bool use = fd == f.listen || fd == f.pages || fd == f.records;

		assert_int_equal(fcntl(fd, F_GETFD), use ? FD_CLOEXEC : -1);
	}
	assert_int_equal(*f.note == '\0', p->note == NULL);
	assert_true(!p->note || (strlen(f.note) > strlen(p->note) &&
				 strcmp(f.note + strlen(f.note) - strlen(p->note), p->note) == 0));
	while ((n = read(told, text + used, sizeof(text) - used - 2)) > 0) {
		used += (size_t)n;
		text[used++] = ';';
	}
	text[used] = '\0';
	assert_string_equal(text, p->said);
}

static void take_in_child(const struct passing *p)
{
	int status, count = (int)strlen(p->kinds), made[8], told = manager();
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		char text[32];

		told = fcntl(told, F_DUPFD_CLOEXEC, 100);
		for (int i = 0; i < count; i++)
			made[i] = fcntl(make_kind(p->kinds[i]), F_DUPFD, 50);
		for (int i = 0; i < count; i++)
			dup2(made[i], 3 + i);
		snprintf(text, sizeof(text), "%d", (int)getpid());
		setenv("LISTEN_PID", text, 1);
		snprintf(text, sizeof(text), "%d", count);
		setenv("LISTEN_FDS", text, 1);
		if (p->names)
			setenv("LISTEN_FDNAMES", p->names, 1);
		check_taken(p, told);
		_exit(0); /* a failed assertion does not come here */
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(told);
	unsetenv("NOTIFY_SOCKET");
}

#define FORGET(name) "FDSTOREREMOVE=1\nFDNAME=" name ";"
#define KEEP(name) "FDSTORE=1\nFDPOLL=0\nFDNAME=" name ";"

static void descriptors_are_sorted_by_name_and_kind(void **state)
{
	static const struct passing table[] = {
		{ "l", "sinkd.socket", 0, 3, 0, -1, -1, NULL, "" },
		{ "l", NULL, 0, 3, 0, -1, -1, NULL, "" },
		{ "l", NOTIFY_LISTEN, 0, 3, 1, -1, -1, NULL, "" },
		{ "mlm", "sinkd-records:sinkd-listen:sinkd-pages", 0, 4, 1, 5, 3, NULL, "" },
		{ "lm", "unit:sinkd-pages", 0, 3, 0, 4, -1, NULL, "" },
		/* A unit's socket goes before ours, whatever the order. */
		{ "ll", "sinkd-listen:unit", 0, 4, 0, -1, -1, NULL, FORGET(NOTIFY_LISTEN) },
		{ "ll", "unit:sinkd-listen", 0, 3, 0, -1, -1, NULL, FORGET(NOTIFY_LISTEN) },
		{ "ll", "unit:other", SINK_EINVAL, 0, 0, 0, 0, NULL, NULL },
		{ "lll", "sinkd-listen::", SINK_EINVAL, 0, 0, 0, 0, NULL, NULL },
		/* Of another version, or of nobody. */
		{ "pm", "old:older", 0, -1, 0, -1, -1, ": old, older", FORGET("old") FORGET("older") },
		{ "d", "unit", 0, -1, 0, -1, -1, ": unit", FORGET("unit") },
		{ "mp", "sinkd-pages", 0, -1, 0, 3, -1, ": one without a name", "" },
		{ "m", "", 0, -1, 0, -1, -1, ": one without a name", "" },
		/* The wrong kind for its name. */
		{ "pd", "sinkd-pages:sinkd-listen", 0, -1, 0, -1, -1, ": sinkd-pages, sinkd-listen",
		  FORGET(NOTIFY_LISTEN) FORGET(NOTIFY_PAGES) },
		{ "m", "sinkd-listen", 0, -1, 0, -1, -1, ": sinkd-listen", FORGET(NOTIFY_LISTEN) },
		/* Several of a name: the first that can be used is, and alone stays with the manager. */
		{ "pmm", "sinkd-pages:sinkd-pages:sinkd-pages", 0, -1, 0, 4, -1, ": sinkd-pages, sinkd-pages",
		  FORGET(NOTIFY_PAGES) KEEP(NOTIFY_PAGES) },
		{ "ll", "sinkd-listen:sinkd-listen", 0, 3, 1, -1, -1, ": sinkd-listen",
		  FORGET(NOTIFY_LISTEN) KEEP(NOTIFY_LISTEN) },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		take_in_child(&table[i]);
}

static void variables_for_another_process_pass_nothing(void **state)
{
	static const char *const variables[][2] = {
		{ "1", "1" }, { NULL, "0" }, { NULL, "-1" }, { NULL, "many" }, { NULL, "2147483647" }
	};
	struct notify_fds f;
	char pid[32];

	(void)state;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
		setenv("LISTEN_PID", variables[i][0] ? variables[i][0] : pid, 1);
		setenv("LISTEN_FDS", variables[i][1], 1);
		close(3);
		assert_int_equal(notify_take_fds(&f, NULL), 0);
		assert_int_equal(f.listen, -1);
		assert_int_equal(f.pages, -1);
		assert_int_equal(f.records, -1);
	}
	assert_null(getenv("LISTEN_FDS"));
	assert_int_equal(notify_take_fds(&f, NULL), 0);
	assert_int_equal(f.listen, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(assignments_arrive),
		cmocka_unit_test(the_watchdog_s_time_is_read),
		cmocka_unit_test(descriptors_are_given_and_forgotten),
		cmocka_unit_test(descriptors_are_sorted_by_name_and_kind),
		cmocka_unit_test(variables_for_another_process_pass_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
