/*
 * Runs a fuzz target over files, without a fuzzer: those named by the arguments, or the target's own corpus (CORPUS, a
 * folder below $top_srcdir). Each file is one case; one that kills the process is a failure that tests/tap reports.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BYTES_MOST = 1 << 24 };

static int replay_file(const char *path)
{
	uint8_t *room = malloc(BYTES_MOST), *data;
	FILE *f = fopen(path, "rb");
	size_t size = 0;

	if (f && room)
		size = fread(room, 1, BYTES_MOST, f);
	data = malloc(size ? size : 1); /* of exactly this size, so that a sanitizer sees a read behind it */
	if (!f || !room || !data || ferror(f)) {
		perror(path);
		exit(1);
	}
	memcpy(data, room, size);
	fclose(f);
	free(room);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 1;
}

static int replay(const char *path);

static int replay_folder(const char *path)
{
	struct dirent **entry;
	int count = scandir(path, &entry, NULL, alphasort), files = 0;
	char inside[4096];

	for (int i = 0; i < count; i++) {
		snprintf(inside, sizeof(inside), "%s/%s", path, entry[i]->d_name);
		if (entry[i]->d_name[0] != '.')
			files += replay(inside);
		free(entry[i]);
	}
	if (count >= 0)
		free(entry);
	return files;
}

static int replay(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0) {
		perror(path);
		exit(1);
	}
	return S_ISDIR(st.st_mode) ? replay_folder(path) : replay_file(path);
}

int main(int argc, char **argv)
{
	const char *top = getenv("top_srcdir");
	char corpus[4096];
	int files = 0;

	for (int i = 1; i < argc; i++)
		files += replay(argv[i]);
	if (argc == 1) {
		snprintf(corpus, sizeof(corpus), "%s/%s", top && *top ? top : ".", CORPUS);
		files = replay(corpus);
	}
	printf("%d files replayed\n", files);
	return files ? 0 : 1;
}
