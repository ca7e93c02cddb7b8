/* Inside the configuration: the table of options, for conf.c and conf_load.c. */
#ifndef DAEMON_CONF_TABLE_H
#define DAEMON_CONF_TABLE_H

#include "conf.h"

enum conf_type { TEXT, POLICY, MARKS, PRECISION, CACHE_TYPE, BOOL, INT, SIZE, FLOAT, LEVEL, DRAFTS };

struct conf_row {
	const char *name;
	char short_name; /* 0: none */
	enum conf_type type;
	bool live; /* may change while the daemon runs, by SIGHUP */
	size_t offset, size;
	const char *otherwise;
	double least, most;
	const char *value, *help;
};

extern const struct conf_row conf_rows[];
enum { CONF_ROWS = 43, CONF_COMMANDS = 8 };

struct conf_command {
	char letter;
	const char *name, *value, *help;
};
extern const struct conf_command conf_commands[CONF_COMMANDS];

/* NULL: there is none of this name. */
const struct conf_row *conf_row_named(const char *name);
int conf_set_row(struct conf *c, const struct conf_row *row, const char *text, struct err *e);

#endif
