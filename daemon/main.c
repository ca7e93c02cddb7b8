/*
 * sinkd: from the command line to the exit status. Only this file ends the process.
 *
 * Exit statuses: 0 a clean end, 1 something failed, 2 the command line or the configuration, 5 another daemon is there,
 * 6 the model cannot be loaded, 7 the device that computes has failed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "conf.h"
#include "log.h"
#include "server.h"

enum { EXIT_USAGE = 2, EXIT_BUSY = 5, EXIT_MODEL = 6, EXIT_DEVICE = 7 };

static int serve(const struct conf *conf, int argc, char **argv)
{
	static const int statuses[] = {
		[SERVER_STOPPED] = EXIT_SUCCESS,  [SERVER_HURRIED] = EXIT_SUCCESS, [SERVER_NO_MODEL] = EXIT_MODEL,
		[SERVER_NO_DEVICE] = EXIT_DEVICE, [SERVER_FAILED] = EXIT_FAILURE,
	};
	struct server *server;
	enum server_end end;
	struct err e;
	int rc = server_new(conf, argc, argv, &server, &e);

	if (rc < 0) {
		log_error("%s", e.text);
		return rc == SINK_EBUSY ? EXIT_BUSY : rc == SINK_EINVAL ? EXIT_USAGE : EXIT_FAILURE;
	}
	end = server_run(server);
	server_free(server, end);
	if (end == SERVER_HURRIED)
		_exit(statuses[end]); /* threads are still at work: nothing of theirs may be taken down */
	return statuses[end];
}

int main(int argc, char **argv)
{
	static struct conf conf;
	struct conf_call call;
	struct err e;

	if (conf_load(argc, argv, &conf, &call, &e) < 0) {
		log_error("%s", e.text);
		return EXIT_USAGE;
	}
	log_set_level((enum log_level)conf.log_level);
	switch (call.action) {
	case CONF_HELP:
		conf_help(stdout);
		return EXIT_SUCCESS;
	case CONF_VERSION:
		puts("sinkd " PACKAGE_VERSION);
		return EXIT_SUCCESS;
	case CONF_PRINT:
		conf_print(&conf, stdout);
		return EXIT_SUCCESS;
	case CONF_TEST:
		return check_print(&conf, call.file, stdout) < 0 ? EXIT_MODEL : EXIT_SUCCESS;
	case CONF_CHECK:
	case CONF_REPAIR:
		return check_store(&conf, call.action == CONF_REPAIR, stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
	case CONF_RUN:
		break;
	}
	if (!*conf.model) {
		log_error(
			"No model is given: say sinkd -m FILE, or set model in the configuration file (see sinkd(8)).");
		return EXIT_MODEL;
	}
	return serve(&conf, argc, argv);
}
