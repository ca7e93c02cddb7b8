/*
 * Editor and pager. Both are run by the shell, since people put options into $EDITOR and $PAGER. Owns the pager that
 * runs now and the standard output that waits for its end.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fail.h"
#include "input.h"
#include "term.h"

static struct {
	pid_t pid; /* 0: none runs */
	int output;
} pager;

/* The child gets the signals that the process may hold back or ignore. */
static void be_ordinary(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGINT, SIG_DFL);
}

static pid_t run_shell(const char *command, const char *argument, int input)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	be_ordinary();
	if (input >= 0)
		dup2(input, STDIN_FILENO);
	execl("/bin/sh", "sh", "-c", command, "sh", argument, (char *)NULL);
	_exit(127);
}

static int wait_for(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

int program_edit_file(const char *path)
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = run_shell("eval \"${VISUAL:-${EDITOR:-vi}}\" '\"$1\"'", path, -1);
	status = pid < 0 ? -1 : wait_for(pid);
	if (status == 0)
		return 0;
	return fail(FAIL_FAILED, "The editor failed; $VISUAL or $EDITOR names the one to be used.");
}

int program_edit(struct buf *text)
{
	const char *dir = getenv("TMPDIR");
	char path[PATH_MAX];
	int fd, code = 0, error;

	snprintf(path, sizeof(path), "%s/sink-XXXXXX.md", dir && *dir == '/' ? dir : "/tmp");
	fd = mkstemps(path, 3);
	if (fd < 0)
		return fail(FAIL_FAILED, "No file for the editor can be made: %s.", strerror(errno));
	error = term_write(fd, buf_text(text), text->size);
	close(fd);
	if (error)
		code = fail(FAIL_FAILED, "%s cannot be written: %s.", path, strerror(error));
	if (!code)
		code = program_edit_file(path);
	if (!code) {
		buf_clear(text);
		code = input_file(text, path);
	}
	unlink(path);
	return code;
}

/* Whether the shell finds the pager: its first word. */
static bool pager_command(char *ret, size_t size)
{
	const char *given = getenv("PAGER");

	if (given)
		return *given && strcmp(given, "cat") != 0 && (size_t)snprintf(ret, size, "%s", given) < size;
	snprintf(ret, size, "less");
	return access("/usr/bin/less", X_OK) == 0 || access("/bin/less", X_OK) == 0;
}

void program_page(void)
{
	char command[PATH_MAX];
	int ends[2];

	if (pager.pid || !term_is(STDIN_FILENO) || !term_is(STDOUT_FILENO) || !term_escapes() ||
	    !pager_command(command, sizeof(command)) || pipe2(ends, O_CLOEXEC))
		return;
	setenv("LESS", "FRX", 0); /* as others do: end at once when all fits, and show colours */
	fflush(stdout);
	pager.output = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
	pager.pid = pager.output < 0 ? -1 : run_shell(command, NULL, ends[0]);
	close(ends[0]);
	if (pager.pid > 0) {
		term_paged(true);
		signal(SIGINT, SIG_IGN); /* that key is the pager's */
		dup2(ends[1], STDOUT_FILENO);
	} else {
		pager.pid = 0;
	}
	close(ends[1]);
}

void program_page_end(void)
{
	if (!pager.pid)
		return;
	fflush(stdout);
	dup2(pager.output, STDOUT_FILENO);
	close(pager.output);
	wait_for(pager.pid);
	signal(SIGINT, SIG_DFL);
	pager.pid = 0;
	term_paged(false);
}
