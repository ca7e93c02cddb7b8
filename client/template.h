/*
 * Templates: files of settings for new conversations, in INI form.
 *
 *	description = what `sink template ls` shows
 *	system      = the system prompt; lines that begin with a blank go on; @FILE reads a file beside the template
 *	prompt      = what `sink ask` puts in front of a prompt
 *	policy, marks, and every sampling setting by the name of its option
 *
 * NAME.ini is looked for in the user's configuration, in /etc/sinkd/templates, and among those that came with sinkd;
 * a name with a slash is a path.
 */
#ifndef CLIENT_TEMPLATE_H
#define CLIENT_TEMPLATE_H

#include "verb.h"

/* Where -t was given: what the template sets and the command line does not becomes an option. An exit code. */
int template_apply(struct cli *c);

/* Adds a line "NAME\tDESCRIPTION" for each template that there is, each name once. */
void template_list(struct buf *b);

#endif
