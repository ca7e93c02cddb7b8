/* Reading what is not typed: bounded, so that a wrong file is told of before it is sent. */
#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { READ_MOST = 64 << 20 }; /* bytes of one file; the daemon's own limit is far below */

static int read_whole(struct buf *b, const char *path)
{
	bool standard = strcmp(path, "-") == 0;
	int fd = standard ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC), error;

	if (standard)
		path = "Standard input";
	if (fd < 0)
		return fail(FAIL_FAILED, "%s cannot be read: %s.", path, strerror(errno));
	error = buf_read(b, fd, READ_MOST);
	close(fd);
	if (error)
		return fail(FAIL_FAILED, "%s cannot be read: %s.", path, strerror(error));
	if (b->size > READ_MOST)
		return fail(FAIL_USAGE, "%s is longer than %d MiB.", path, READ_MOST >> 20);
	return 0;
}

int input_file(struct buf *b, const char *path)
{
	struct buf text = { 0 };
	int code = read_whole(&text, path);

	while (text.size && text.data[text.size - 1] == '\n')
		buf_cut(&text, text.size - 1);
	if (b->size && text.size)
		buf_adds(b, "\n\n");
	buf_add(b, buf_text(&text), text.size);
	if (!code && (b->failed || text.failed))
		code = fail(FAIL_FAILED, "There is not enough memory.");
	buf_release(&text);
	return code;
}

/* Ids with commas or blanks between them; whether there are such tokens is the daemon's to say. */
static int add_marks(const char *list, struct sink_args *a)
{
	static const char between[] = ", ";
	const char *at = list + strspn(list, between);
	bool wrong = !*at;

	sink_args_array(a, "marks");
	while (*at && !wrong) {
		char *end;
		long long id;

		errno = 0;
		id = strtoll(at, &end, 10);
		wrong = *at < '0' || *at > '9' || errno || (*end && !strchr(between, *end));
		sink_args_int(a, NULL, id);
		at = end + strspn(end, between);
	}
	sink_args_end(a);
	return wrong ? fail(FAIL_USAGE, "Option --marks takes token ids with commas between them, not \"%.60s\".", list)
		     : 0;
}

int input_making(struct cli *c, struct sink_args *a)
{
	const char *system = c->o.v[OPTION_SYSTEM].text, *policy = c->o.v[OPTION_POLICY].text;
	const char *marks = c->o.v[OPTION_MARKS].text;
	struct buf text = { 0 };
	int code = marks ? add_marks(marks, a) : 0;

	if (policy)
		sink_args_str(a, "policy", policy);
	if (code)
		return code;
	if (system && *system == '@')
		code = input_file(&text, system + 1);
	else if (system)
		buf_adds(&text, system);
	if (system && !code)
		sink_args_strn(a, "system", buf_text(&text), text.size);
	buf_release(&text);
	return code;
}
