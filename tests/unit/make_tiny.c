/* make_tiny OUT [TYPE [SEED [HEAD_SIZE [KIND]]]]: writes a tiny random model, a file for tests; see make_gguf.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "make_gguf.h"

int main(int argc, char **argv)
{
	struct make_tiny how = { 0 };

	if (argc < 2 || argc > 6) {
		fprintf(stderr,
			"usage: make_tiny OUT [TYPE [SEED [HEAD_SIZE [KIND]]]], TYPE one of f32 f16 bf16 q8_0 q4_0 "
			"q4_1 q5_0 q5_1 q4_k q5_k q6_k, KIND one of fim pieces\n");
		return 2;
	}
	how.type = argc > 2 ? argv[2] : NULL;
	if (how.type && strchr(how.type, 'k')) { /* superblocks */
		how.head_size = 64;
		how.ff = 256;
	}
	how.seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
	if (argc > 4)
		how.head_size = (uint32_t)strtoul(argv[4], NULL, 10);
	how.fim = argc > 5 && strcmp(argv[5], "fim") == 0;
	how.pieces = argc > 5 && strcmp(argv[5], "pieces") == 0;
	if (make_tiny_model(argv[1], &how) != 0) {
		perror(argv[1]);
		return 1;
	}
	return 0;
}
