/*
 * Owns a thread and two pipes of pointers. A pointer is far below PIPE_BUF, so that it is written and read whole; a
 * write and the read that returns it order the memory of both threads.
 */
#include "worker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct worker {
	pthread_t thread;
	int give[2];
	int take[2];
};

static ssize_t read_pointer(int fd, struct job **j)
{
	ssize_t n;

	do {
		n = read(fd, j, sizeof(*j));
	} while (n < 0 && errno == EINTR);
	return n;
}

static ssize_t write_pointer(int fd, struct job *j)
{
	ssize_t n;

	do {
		n = write(fd, &j, sizeof(j));
	} while (n < 0 && errno == EINTR);
	return n;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct job *j;

	while (read_pointer(w->give[0], &j) == (ssize_t)sizeof(j) && j) {
		j->run(j);
		if (write_pointer(w->take[1], j) != (ssize_t)sizeof(j))
			break;
	}
	return NULL;
}

static void close_pipes(struct worker *w)
{
	for (int i = 0; i < 2; i++) {
		if (w->give[i] >= 0)
			close(w->give[i]);
		if (w->take[i] >= 0)
			close(w->take[i]);
	}
}

static int open_pipes(struct worker *w, struct err *e)
{
	if (pipe2(w->give, O_CLOEXEC) < 0 || pipe2(w->take, O_CLOEXEC) < 0)
		return err_set(e, SINK_EIO, "A worker's pipe cannot be made: %s.", strerror(errno));
	/* The loop never waits for a pipe; the worker does. */
	if (fcntl(w->give[1], F_SETFL, O_NONBLOCK) < 0 || fcntl(w->take[0], F_SETFL, O_NONBLOCK) < 0)
		return err_set(e, SINK_EIO, "A worker's pipe cannot be set up: %s.", strerror(errno));
	return 0;
}

int worker_new(const char *name, struct worker **ret, struct err *e)
{
	struct worker *w = malloc(sizeof(*w));
	int rc;

	if (!w)
		return err_set(e, SINK_ENOMEM, "There is no memory for a worker.");
	*w = (struct worker){ .give = { -1, -1 }, .take = { -1, -1 } };
	rc = open_pipes(w, e);
	if (rc == 0) {
		int no = pthread_create(&w->thread, NULL, work, w);

		if (no)
			rc = err_set(e, SINK_EIO, "A worker's thread cannot be started: %s.", strerror(no));
	}
	if (rc < 0) {
		close_pipes(w);
		free(w);
		return rc;
	}
	pthread_setname_np(w->thread, name);
	*ret = w;
	return 0;
}

void worker_free(struct worker *w)
{
	if (!w)
		return;
	close(w->give[1]); /* the worker finishes what it has, then reads the end */
	w->give[1] = -1;
	pthread_join(w->thread, NULL);
	close_pipes(w);
	free(w);
}

int worker_fd(const struct worker *w)
{
	return w->take[0];
}

int worker_give(struct worker *w, struct job *j, struct err *e)
{
	assert(j && j->run && j->done);
	if (write_pointer(w->give[1], j) != (ssize_t)sizeof(j))
		return err_set(e, SINK_EBUSY, "Too many texts are waiting to be read; try again later.");
	return 0;
}

struct job *worker_take(struct worker *w)
{
	struct job *j;

	return read_pointer(w->take[0], &j) == (ssize_t)sizeof(j) ? j : NULL;
}
