/* Names as people give them, resolved against the daemon's list: the only place that knows their grammar. */
#include "target.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int target_match(const char *word, const char *const *names, size_t count)
{
	size_t len = strlen(word);
	int found = -1;

	for (size_t i = 0; i < count; i++) {
		if (strcmp(names[i], word) == 0)
			return (int)i;
		if (strncmp(names[i], word, len) == 0)
			found = found == -1 ? (int)i : -2;
	}
	return found;
}

int target_split(const char *word, char name[TARGET_SIZE], int64_t *message)
{
	const char *at = strchr(word, '@');
	size_t len = at ? (size_t)(at - word) : strlen(word);
	char *end;

	*message = -1;
	if (len >= TARGET_SIZE)
		return fail(FAIL_USAGE, "The name \"%.40s…\" is too long.", word);
	memcpy(name, word, len);
	name[len] = '\0';
	if (!at)
		return 0;
	errno = 0;
	*message = strtoll(at + 1, &end, 10);
	if (at[1] < '0' || at[1] > '9' || *end || errno)
		return fail(FAIL_USAGE, "\"%.80s\": after the @ comes a message's number.", word);
	return 0;
}

static int copy(const char *word, char name[TARGET_SIZE])
{
	if (strlen(word) >= TARGET_SIZE)
		return fail(FAIL_USAGE, "The name \"%.40s…\" is too long.", word);
	strcpy(name, word);
	return 0;
}

/* A name of the list; only its text is kept. */
static const char *listed(const struct sink_reply *list, size_t i)
{
	char path[64];
	const char *name;

	snprintf(path, sizeof(path), "conversations.%zu.name", i);
	name = sink_str(list, path, NULL);
	return name ? name : "";
}

static int last_used(struct cli *c, char name[TARGET_SIZE])
{
	int code;
	struct sink_reply *list = verb_call(c, "list", NULL, &code);

	if (!list)
		return code;
	if (sink_count(list, "conversations"))
		code = copy(listed(list, 0), name);
	else
		code = fail(FAIL_ABSENT, "There is no conversation yet; `sink new NAME` makes one.");
	sink_reply_free(list);
	return code;
}

static int ambiguous(const char *word, const char *const *names, size_t count)
{
	char text[400];
	size_t used = 0, len = strlen(word);

	text[0] = '\0';
	for (size_t i = 0; i < count && used < sizeof(text) - 80; i++)
		if (strncmp(names[i], word, len) == 0)
			used += (size_t)snprintf(text + used, sizeof(text) - used, " %.64s", names[i]);
	return fail(FAIL_ABSENT, "\"%s\" is the beginning of several names:%s", word, text);
}

/* The name itself, or the only one that begins so. */
static int by_beginning(struct cli *c, const char *word, char name[TARGET_SIZE])
{
	int code, at;
	struct sink_reply *list = verb_call(c, "list", NULL, &code);
	size_t count = list ? sink_count(list, "conversations") : 0;
	const char **names = list ? calloc(count + 1, sizeof(*names)) : NULL;

	if (list && !names)
		code = fail(FAIL_FAILED, "There is not enough memory.");
	if (!names)
		goto out;
	for (size_t i = 0; i < count; i++)
		names[i] = listed(list, i);
	at = target_match(word, names, count);
	if (at >= 0)
		code = copy(names[at], name);
	else if (at == -2)
		code = ambiguous(word, names, count);
	else
		code = fail(FAIL_ABSENT, "There is no conversation \"%s\"; `sink ls` lists them.", word);
out:
	free(names);
	sink_reply_free(list);
	return code;
}

int target_find(struct cli *c, const char *word, enum target_kind kind, char name[TARGET_SIZE])
{
	if (!word)
		word = getenv("SINK_CONVERSATION");
	if (!word || !*word || strcmp(word, "-") == 0)
		return last_used(c, name);
	if (*word == '=')
		return copy(word + 1, name);
	return kind == TARGET_EXACT ? copy(word, name) : by_beginning(c, word, name);
}

int target_or_new(struct cli *c, const char *word, char name[TARGET_SIZE])
{
	if (strcmp(word, "-") == 0)
		return last_used(c, name);
	return copy(*word == '=' ? word + 1 : word, name);
}
