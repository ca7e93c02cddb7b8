/* Keys, and the comparison whose time depends neither on where they differ nor on which one fits. */
#include "http_key.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void http_key_release(struct http_keys *k)
{
	if (k->key)
		explicit_bzero(k->key, k->count * sizeof(*k->key));
	free(k->key);
	*k = (struct http_keys){ 0 };
}

static char *trimmed(char *line)
{
	size_t n;

	line += strspn(line, " \t\r\n");
	for (n = strlen(line); n && strchr(" \t\r\n", line[n - 1]); n--)
		line[n - 1] = '\0';
	return line;
}

static bool add(struct http_keys *k, const char *line, const char *path, char *cause, size_t size)
{
	if (strlen(line) >= HTTP_KEY_MOST || k->count == HTTP_KEYS_MOST) {
		snprintf(cause, size, "%s may have %d keys of at most %d bytes.", path, HTTP_KEYS_MOST,
			 HTTP_KEY_MOST - 1);
		return false;
	}
	memcpy(k->key[k->count++], line, strlen(line));
	return true;
}

bool http_key_load(struct http_keys *k, const char *path, char *cause, size_t size)
{
	struct http_keys new = { 0 };
	FILE *f = fopen(path, "re");
	char line[1024], *text;
	bool good = true;

	new.key = f ? calloc(HTTP_KEYS_MOST, sizeof(*new.key)) : NULL;
	if (!new.key) {
		snprintf(cause, size, "The keys in %s cannot be read: %s.", path, strerror(errno));
		if (f)
			fclose(f);
		return false;
	}
	while (good && fgets(line, sizeof(line), f)) {
		text = trimmed(line);
		if (*text && *text != '#')
			good = add(&new, text, path, cause, size);
	}
	if (good && !new.count) {
		snprintf(cause, size, "There is no key in %s.", path);
		good = false;
	}
	fclose(f);
	explicit_bzero(line, sizeof(line));
	if (!good) {
		http_key_release(&new);
		return false;
	}
	http_key_release(k);
	*k = new;
	return true;
}

bool http_key_fits(const struct http_keys *k, const char *header)
{
	static const char scheme[] = "Bearer ";
	char given[HTTP_KEY_MOST] = "";
	unsigned fits = 0;
	size_t len;

	if (!header || strncasecmp(header, scheme, strlen(scheme)) != 0)
		return false;
	header += strlen(scheme);
	header += strspn(header, " ");
	len = strlen(header);
	if (len == 0 || len >= sizeof(given))
		return false;
	memcpy(given, header, len);
	for (size_t i = 0; i < k->count; i++) {
		unsigned differs = 0;

		for (size_t b = 0; b < sizeof(given); b++)
			differs |= (unsigned char)given[b] ^ (unsigned char)k->key[i][b];
		fits |= differs == 0;
	}
	return fits;
}
