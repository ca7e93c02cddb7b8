/*
 * sink: the command. Options, the verb, the daemon, the verb's function, the exit code. Everything else stands in a
 * table: verbs in verb.c, options in option.c, exit codes in fail.c.
 */
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "start.h"
#include "template.h"
#include "term.h"
#include "verb.h"

/* Text is UTF-8 on the wire; a terminal of the C locale is given it all the same. */
static void use_utf8(void)
{
	if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		setlocale(LC_CTYPE, "C.UTF-8");
}

/* A descriptor that is missing would be given to a socket, and text written into it. */
static void fill_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

static int unknown_verb(const char *name)
{
	const char *near = verb_nearest(name);

	if (near)
		return fail(FAIL_USAGE, "There is no verb \"%s\"; did you mean \"%s\"?", name, near);
	return fail(FAIL_USAGE, "There is no verb \"%s\"; `sink help` lists them, `sink ask` asks a question.", name);
}

/* Reads the command line: the options of every verb, the verb, and what belongs to it. */
static int read_line(struct cli *c, int argc, char **argv)
{
	char cause[200];
	int at = 1;

	if (!option_parse(&c->o, OPTION_GLOBAL | OPTION_BIT(OPTION_STDIO), true, argc, argv, &at, cause, sizeof(cause)))
		return fail(FAIL_USAGE, "%s `sink help` tells more.", cause);
	if (c->o.v[OPTION_STDIO].given && at < argc)
		return fail(FAIL_USAGE, "Option --stdio stands in place of a verb.");
	if (at == argc) {
		c->verb = c->o.v[OPTION_STDIO].given ? verb_find("stdio") : NULL;
		return 0;
	}
	c->verb = verb_find(argv[at]);
	if (!c->verb)
		return unknown_verb(argv[at]);
	at++;
	if (!option_parse(&c->o, OPTION_GLOBAL | c->verb->options, false, argc, argv, &at, cause, sizeof(cause)))
		return fail(FAIL_USAGE, "%s `sink help %s` tells more.", cause, c->verb->name);
	return 0;
}

static int run(struct cli *c)
{
	int code;

	if (!c->verb) {
		if (!term_is(STDIN_FILENO) || !term_is(STDOUT_FILENO)) {
			dup2(STDERR_FILENO, STDOUT_FILENO); /* an error, and no data */
			verb_help(NULL);
			return FAIL_USAGE;
		}
		c->verb = verb_find("attach");
	}
	if (c->o.count < (size_t)c->verb->least || (c->verb->most >= 0 && c->o.count > (size_t)c->verb->most))
		return fail(FAIL_USAGE, "Usage: sink %s %s", c->verb->name, c->verb->args);
	if ((code = template_apply(c)) || (c->verb->daemon != VERB_ALONE && (code = start_connect(c))))
		return code;
	return c->verb->run(c);
}

int main(int argc, char **argv)
{
	struct cli c = { 0 };
	int code;

	fill_descriptors();
	use_utf8();
	signal(SIGPIPE, SIG_IGN);
	term_init(NULL, false);
	code = read_line(&c, argc, argv);
	if (code)
		goto out;
	term_markdown_set(c.o.v[OPTION_RAW].given);
	if (!term_init(c.o.v[OPTION_COLOR].text, c.o.v[OPTION_QUIET].given))
		code = fail(FAIL_USAGE, "Option --color takes auto, always or never.");
	else if (c.o.v[OPTION_VERSION].given)
		printf("sink %s\n", sink_version());
	else if (c.o.v[OPTION_HELP].given)
		verb_help(c.verb);
	else
		code = run(&c);
out:
	sink_close(c.sink);
	buf_release(&c.prefix);
	option_release(&c.o);
	return term_finish(code);
}
