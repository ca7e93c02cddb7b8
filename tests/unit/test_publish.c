/*
 * publish.c from its manual, with a core that has no model: who may read the board, what becomes of one that is there
 * already, and which conversations are on it. pulse.c and the counts of steps, which are shown there, too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "board.h"
#include "publish.h"
#include "step.h"

static int send_nothing(void *arg, void *peer, const void *frame, size_t size)
{
	(void)arg;
	(void)peer;
	(void)frame;
	(void)size;
	return 0;
}

/* A daemon's core, a socket file, and the name that its board will have. */
struct scene {
	struct core *core;
	char folder[32], path[64], endpoint[80], canonical[BOARD_ENDPOINT], name[BOARD_NAME];
	int socket;
	struct board_header header;
	struct board_state state;
	struct board_row row[BOARD_ROWS];
};

static int set_up(void **state)
{
	static struct conf conf;
	struct scene *s = calloc(1, sizeof(*s));
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	conf_defaults(&conf);
	assert_int_equal(core_new(&conf, send_nothing, NULL, &s->core, NULL), 0);
	snprintf(s->folder, sizeof(s->folder), "/tmp/test-publish-XXXXXX");
	assert_non_null(mkdtemp(s->folder));
	assert_int_equal(chmod(s->folder, 0755), 0);
	snprintf(s->path, sizeof(s->path), "%s/s.sock", s->folder);
	snprintf(s->endpoint, sizeof(s->endpoint), "ipc://%s", s->path);
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", s->path);
	s->socket = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(s->socket, (const struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(board_name(s->endpoint, s->canonical, s->name, NULL), 0);
	*state = s;
	return 0;
}

static int tear_down(void **state)
{
	struct scene *s = *state;

	core_free(s->core);
	close(s->socket);
	unlink(s->path);
	rmdir(s->folder);
	shm_unlink(s->name);
	free(s);
	return 0;
}

static void look(struct scene *s)
{
	int fd = shm_open(s->name, O_RDONLY, 0);
	void *at;

	assert_true(fd >= 0);
	at = mmap(NULL, board_size(), PROT_READ, MAP_SHARED, fd, 0);
	assert_true(at != MAP_FAILED);
	assert_int_equal(board_read(at, board_size(), &s->header, &s->state, s->row, NULL), 0);
	munmap(at, board_size());
	close(fd);
}

static bool is_there(const struct scene *s)
{
	int fd = shm_open(s->name, O_RDONLY, 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void the_board_is_there_while_the_daemon_is(void **state)
{
	struct scene *s = *state;
	struct publish *p = publish_open(s->core, s->endpoint);

	assert_non_null(p);
	look(s);
	assert_int_equal(s->header.pid, getpid());
	assert_string_equal(s->header.endpoint, s->canonical);
	assert_int_equal(s->header.instance, s->core->instance);
	assert_true(s->header.started > 0);
	assert_int_equal(s->state.phase, BOARD_LOADING);
	assert_string_equal(s->state.model_name, "");
	publish_close(p);
	assert_false(is_there(s));
}

static void who_may_connect_may_read(void **state)
{
	static const struct {
		mode_t folder, socket, segment;
	} rows[] = {
		{ 0755, 0600, 0400 }, { 0755, 0660, 0440 }, { 0755, 0666, 0444 }, { 0700, 0666, 0400 },
		{ 0750, 0666, 0440 }, { 0711, 0622, 0444 }, { 0755, 0644, 0400 }, { 0750, 0660, 0440 },
	};
	struct scene *s = *state;
	struct stat st;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct publish *p;
		int fd;

		assert_int_equal(chmod(s->folder, rows[i].folder), 0);
		assert_int_equal(chmod(s->path, rows[i].socket), 0);
		p = publish_open(s->core, s->endpoint);
		fd = shm_open(s->name, O_RDONLY, 0);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_mode & 07777, rows[i].segment);
		close(fd);
		publish_close(p);
	}
}

static void an_endpoint_without_a_file_is_shown_to_its_user(void **state)
{
	static const char endpoint[] = "tcp://127.0.0.1:41977";
	struct scene *s = *state;
	struct publish *p = publish_open(s->core, endpoint);
	char canonical[BOARD_ENDPOINT], name[BOARD_NAME];
	struct stat st;
	int fd;

	assert_int_equal(board_name(endpoint, canonical, name, NULL), 0);
	fd = shm_open(name, O_RDONLY, 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0400);
	close(fd);
	publish_close(p);
}

/* A child has a board and is killed, which no handler sees. */
static void what_a_killed_daemon_left_is_replaced(void **state)
{
	struct scene *s = *state;
	pid_t child = fork();
	struct publish *p;
	int status;

	if (!child) {
		publish_open(s->core, s->endpoint);
		raise(SIGKILL);
	}
	waitpid(child, &status, 0);
	assert_true(is_there(s));
	look(s);
	assert_int_equal(s->header.pid, child);
	p = publish_open(s->core, s->endpoint);
	assert_non_null(p);
	look(s);
	assert_int_equal(s->header.pid, getpid());
	publish_close(p);
}

static void the_board_of_a_living_daemon_is_left_alone(void **state)
{
	struct scene *s = *state;
	struct publish *p = publish_open(s->core, s->endpoint);

	assert_null(publish_open(s->core, s->endpoint));
	look(s);
	publish_close(p);
}

static void a_board_that_was_taken_away_is_made_again(void **state)
{
	struct scene *s = *state;
	struct publish *p = publish_open(s->core, s->endpoint);
	double now = clock_ms();

	shm_unlink(s->name);
	publish_turn(p, now + 2000);
	assert_false(is_there(s));
	publish_turn(p, now + 10000);
	look(s);
	publish_close(p);
}

static struct conversation *make(struct scene *s, const char *name)
{
	struct conversation *v;

	assert_int_equal(conversation_new(&s->core->table, name, strlen(name), 1 << 12, &v, NULL), 0);
	assert_int_equal(policy_parse("sink:4,252", &v->keeps.policy, NULL), 0);
	v->runner.kind = RUNS_CONVERSATION;
	v->runner.owner = v;
	return v;
}

static void those_at_work_come_first_and_the_rest_by_use(void **state)
{
	struct scene *s = *state;
	struct publish *p = publish_open(s->core, s->endpoint);
	struct conversation *busy[2];
	char name[32];

	for (int i = 0; i < 300; i++) {
		struct conversation *v;

		snprintf(name, sizeof(name), "talk %d", i);
		v = make(s, name);
		if (i == 7 || i == 9)
			busy[i / 9] = v;
	}
	for (size_t i = 0; i < 2; i++) {
		conversation_happens(busy[i], HAPPENS_PROMPT);
		sched_add(&s->core->sched, &busy[i]->runner);
	}
	publish_turn(p, clock_ms() + 500);
	look(s);
	assert_int_equal(s->state.conversations, 300);
	assert_int_equal(s->state.queued, 2);
	assert_int_equal(s->state.rows, BOARD_ROWS);
	assert_string_equal(s->row[0].name, "talk 7");
	assert_string_equal(s->row[0].policy, "sink:4,252");
	assert_int_equal(s->row[0].state, 1);
	assert_int_equal(s->row[0].place, 1);
	assert_string_equal(s->row[1].name, "talk 9");
	assert_int_equal(s->row[1].place, 2);
	assert_string_equal(s->row[2].name, "talk 299");
	assert_int_equal(s->row[2].place, 0);
	assert_string_equal(s->row[BOARD_ROWS - 1].name, "talk 46");
	publish_close(p);
}

static void a_change_is_written_soon_and_nothing_once_a_second(void **state)
{
	struct scene *s = *state;
	struct publish *p = publish_open(s->core, s->endpoint);
	double now = clock_ms();
	uint32_t before;

	publish_turn(p, now += 2000);
	look(s);
	before = s->header.latest;
	assert_true(publish_due(p) == now + BOARD_PERIOD_MS);
	publish_turn(p, now + BOARD_PERIOD_MS - 1);
	look(s);
	assert_int_equal(s->header.latest, before);
	s->core->pulse.written = 50;
	assert_true(publish_due(p) < now + BOARD_PERIOD_MS / 2);
	publish_turn(p, publish_due(p));
	look(s);
	assert_int_equal(s->header.latest, before + 1);
	assert_int_equal(s->state.tokens_written, 50);
	publish_close(p);
}

static void a_speed_is_that_of_the_last_second(void **state)
{
	struct pulse p = { 0 };

	(void)state;
	pulse_beat(&p, 5000);
	p.written = 40;
	pulse_beat(&p, 5999);
	assert_true(p.written_per_s == 0);
	pulse_beat(&p, 6000);
	assert_true(p.written_per_s == 40 && p.read_per_s == 0);
	p.written = 60;
	p.read = 1000;
	pulse_beat(&p, 8000);
	assert_true(p.written_per_s == 10 && p.read_per_s == 500);
	p.written = 1000000;
	pulse_beat(&p, 100000); /* the daemon was stopped meanwhile */
	assert_true(p.written_per_s == 0 && p.read_per_s == 0);
	pulse_beat(&p, 101000);
	assert_true(p.written_per_s == 0);
}

static void steps_are_counted_by_powers_of_two(void **state)
{
	static const struct {
		double ms;
		size_t bucket;
	} rows[] = { { 0.01, 0 }, { 0.0625, 1 }, { 0.9, 4 },  { 1, 5 },
		     { 1.99, 5 }, { 2, 6 },	 { 100, 11 }, { 1e9, SCHED_BUCKETS - 1 } };
	static struct sched s;
	uint64_t counts[SCHED_BUCKETS] = { 0 };
	double sum = 0;

	(void)state;
	sched_init(&s, 16, 16, 100);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		sched_learn(&s, 1, 0, rows[i].ms);
		counts[rows[i].bucket]++;
		sum += rows[i].ms;
	}
	assert_memory_equal(s.bucket, counts, sizeof(counts));
	assert_true(s.sum_ms == sum);
}

int main(void)
{
#define SCENE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		SCENE(the_board_is_there_while_the_daemon_is),
		SCENE(who_may_connect_may_read),
		SCENE(an_endpoint_without_a_file_is_shown_to_its_user),
		SCENE(what_a_killed_daemon_left_is_replaced),
		SCENE(the_board_of_a_living_daemon_is_left_alone),
		SCENE(a_board_that_was_taken_away_is_made_again),
		SCENE(those_at_work_come_first_and_the_rest_by_use),
		SCENE(a_change_is_written_soon_and_nothing_once_a_second),
		cmocka_unit_test(a_speed_is_that_of_the_last_second),
		cmocka_unit_test(steps_are_counted_by_powers_of_two),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
