/*
 * make_corpus DIR: writes the seeds of fuzz_gguf, that is the bad files of tests/unit/bad_gguf.c and two good ones. Run
 * it when that table has changed; the files are part of the tree, so that a replay needs nothing.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "bad_gguf.h"

static int write_one(const char *dir, const char *name, struct make_gguf *m)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s.gguf", dir, name);
	if (make_gguf_write(m, path) == 0)
		return 0;
	perror(path);
	return 1;
}

static struct make_gguf *good_file(const char *template)
{
	static const float data[32] = { 1, 2, 3 };
	struct make_gguf *m = make_gguf_new();

	make_mini_vocab(m, "c", template);
	make_gguf_tensor(m, "v", 0, 1, (const uint64_t[]){ 32 }, data, sizeof(data));
	make_gguf_tensor(m, "w", 8, 2, (const uint64_t[]){ 32, 2 }, data, 68);
	return m;
}

int main(int argc, char **argv)
{
	int failed = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: make_corpus DIR\n");
		return 2;
	}
	for (const struct bad_gguf *b = bad_gguf; b->name; b++) {
		struct make_gguf *m = make_gguf_new();

		b->make(m);
		failed |= write_one(argv[1], b->name, m);
	}
	failed |= write_one(argv[1], "good-chatml", good_file("{{ '<|im_start|>system\\nS<|im_end|>\\n' }}"));
	failed |= write_one(argv[1], "good-mistral", good_file("{{ '[INST] ' + m + ' [/INST]' + eos_token }}"));
	return failed;
}
