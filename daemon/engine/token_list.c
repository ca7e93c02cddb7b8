/* Growing lists of ids, which texts are encoded to. */
#include <stdlib.h>
#include <string.h>

#include "token.h"

int tokens_reserve(struct tokens *t, size_t count, struct err *e)
{
	size_t room = t->count + count < 64 ? 64 : (t->count + count) / 2 * 3;
	int32_t *more;

	if (t->room - t->count >= count)
		return 0;
	more = realloc(t->id, room * sizeof(*more));
	if (!more)
		return err_set(e, SINK_ENOMEM, "There is no memory for a list of %zu tokens.", room);
	t->id = more;
	t->room = room;
	return 0;
}

int tokens_append(struct tokens *t, const int32_t *id, size_t count, struct err *e)
{
	int rc = tokens_reserve(t, count, e);

	if (rc < 0)
		return rc;
	if (count)
		memcpy(t->id + t->count, id, count * sizeof(*id));
	t->count += count;
	return 0;
}

int tokens_add(struct tokens *t, int32_t id, struct err *e)
{
	return tokens_append(t, &id, 1, e);
}

void tokens_release(struct tokens *t)
{
	free(t->id);
	*t = (struct tokens){ 0 };
}
