/*
 * A module for LD_PRELOAD: makes calls fail that the daemon's store depends on. Environment:
 *
 *   FAULT_FILE   what the test and this module share (struct control), made by the test
 *   FAULT_BELOW  the state directory, as an absolute path without links
 *   FAULT_CALL   the class of calls: write, sync, truncate, rename, unlink, open, read, map or alloc
 *   FAULT_ERROR  ENOSPC, EIO, EMFILE or ENOMEM; or SHORT: a write writes half, and says so
 *
 * Calls of the class are counted, and the one with the number `at` fails, with `lasting` all from it on, until the
 * test writes something else there. Calls that name a file or hold a descriptor count when that is below the state
 * directory. Mappings count in threads of the daemon's own (the engine maps what outlives the process). So do
 * allocations in the two threads of the disk and in SQLite; and those of sinkd itself in the main thread, which hands
 * the work over.
 *
 * It stands between all other libraries, so it calls the kernel itself, and the allocator by its inner names: there is
 * nothing to be looked up, which would allocate, and no order of starting to be kept.
 */
#undef _FILE_OFFSET_BITS /* both names of each call are defined here */
#undef _FORTIFY_SOURCE
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct control {
	_Atomic uint64_t at;	  /* 0: nothing fails */
	_Atomic uint64_t lasting; /* 1: all from that on */
	_Atomic uint64_t counted, failed;
	char last[104]; /* what failed last */
};

enum call { WRITE, SYNC, TRUNCATE, RENAME, UNLINK, OPEN, READ, MAP, ALLOC, CALLS };
static const char *const call_names[CALLS] = {
	"write", "sync", "truncate", "rename", "unlink", "open", "read", "map", "alloc",
};
static const struct {
	const char *name;
	int number;
} errors[] = { { "ENOSPC", ENOSPC }, { "EIO", EIO }, { "EMFILE", EMFILE }, { "ENOMEM", ENOMEM }, { "SHORT", 0 } };

static struct control *control; /* NULL: not set up */
static enum call wanted;
static int error;
static const char *below;

/* Where code lies whose allocations count in the main thread: the program's own, and SQLite's. */
static struct range {
	uintptr_t base, begin, end;
} program, sqlite;

/* Not allocated on the first use: the allocator is one of those who use it. */
static _Thread_local int kind __attribute__((tls_model("initial-exec"))); /* 0: not known yet */
enum { KIND_MAIN = 1, KIND_DISK, KIND_OWN, KIND_OTHER };

/* What glibc's allocator is called from inside. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

/* The definitions that follow replace those of the C library, whose headers we may not have asked for all of them. */
ssize_t pwrite64(int fd, const void *data, size_t count, off64_t at);
ssize_t pread64(int fd, void *data, size_t count, off64_t at);
int ftruncate64(int fd, off64_t size);
int open64(const char *path, int flags, ...);
void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset);

static int find_range(struct dl_phdr_info *info, size_t size, void *arg)
{
	const bool first = !program.end;
	struct range *r = first ? &program : strstr(info->dlpi_name, "libsqlite3") ? &sqlite : NULL;

	(void)size;
	(void)arg;
	for (int i = 0; r && i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		const uintptr_t begin = info->dlpi_addr + p->p_vaddr;

		if (p->p_type == PT_LOAD && (p->p_flags & PF_X))
			*r = (struct range){ info->dlpi_addr, begin, begin + p->p_memsz };
	}
	return 0;
}

__attribute__((constructor)) static void set_up(void)
{
	const char *file = getenv("FAULT_FILE"), *call = getenv("FAULT_CALL"), *name = getenv("FAULT_ERROR");
	int fd = file ? open(file, O_RDWR | O_CLOEXEC) : -1;
	struct control *c;

	below = getenv("FAULT_BELOW");
	if (fd < 0 || !call || !name || !below)
		return;
	c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (c == MAP_FAILED)
		return;
	while (wanted < CALLS && strcmp(call_names[wanted], call) != 0)
		wanted++;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (strcmp(errors[i].name, name) == 0)
			error = errors[i].number;
	dl_iterate_phdr(find_range, NULL);
	control = c;
}

/* A thread is named by the one that started it, a moment later: until then it is nobody. */
static int thread_kind(void)
{
	char name[16] = "";

	if (kind)
		return kind;
	if (syscall(SYS_gettid) == getpid())
		return kind = KIND_MAIN;
	prctl(PR_GET_NAME, name);
	if (strcmp(name, "sinkd") == 0)
		return KIND_OTHER;
	kind = strcmp(name, "sinkd-store") == 0 || strcmp(name, "sinkd-pages") == 0 ? KIND_DISK
	       : strncmp(name, "sinkd-", 6) == 0				    ? KIND_OWN
										    : KIND_OTHER;
	return kind;
}

static bool is_below(const char *path)
{
	const size_t len = strlen(below);

	return strncmp(path, below, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static bool fd_counts(int fd, char *path, size_t size)
{
	char link[40];
	struct stat s;
	ssize_t n;

	if (fstat(fd, &s) < 0 || (!S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode)))
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, size - 1);
	path[n < 0 ? 0 : n] = '\0';
	return is_below(path);
}

/* A call that counts: whether it fails. errno is set. */
static bool fails(const char *what, const char *path)
{
	struct control *c = control;
	const uint64_t number = atomic_fetch_add(&c->counted, 1) + 1, at = c->at;

	if (!at || (c->lasting ? number < at : number != at))
		return false;
	c->failed++;
	snprintf(c->last, sizeof(c->last), "%s %.80s", what, is_below(path) ? path + strlen(below) : path);
	errno = error;
	return true;
}

static bool fd_fails(enum call call, int fd, const char *what)
{
	const int before = errno;
	char path[4096];
	bool counts;

	if (!control || wanted != call)
		return false;
	counts = fd_counts(fd, path, sizeof(path));
	errno = before;
	return counts && fails(what, path);
}

static bool path_fails(enum call call, const char *path, const char *what)
{
	return control && wanted == call && is_below(path) && fails(what, path);
}

/* Writing and reading. A short write writes half, and that is no error. */

static size_t half(size_t count)
{
	return count > 1 ? count / 2 : count;
}

ssize_t write(int fd, const void *data, size_t count)
{
	if (fd_fails(WRITE, fd, "write")) {
		if (error)
			return -1;
		count = half(count);
	}
	return syscall(SYS_write, fd, data, count);
}

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t at)
{
	if (fd_fails(WRITE, fd, "pwrite")) {
		if (error)
			return -1;
		count = half(count);
	}
	return syscall(SYS_pwrite64, fd, data, count, at);
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t at)
{
	return pwrite64(fd, data, count, at);
}

ssize_t read(int fd, void *data, size_t count)
{
	return fd_fails(READ, fd, "read") ? -1 : syscall(SYS_read, fd, data, count);
}

ssize_t pread64(int fd, void *data, size_t count, off64_t at)
{
	return fd_fails(READ, fd, "pread") ? -1 : syscall(SYS_pread64, fd, data, count, at);
}

ssize_t pread(int fd, void *data, size_t count, off_t at)
{
	return pread64(fd, data, count, at);
}

int fsync(int fd)
{
	return fd_fails(SYNC, fd, "fsync") ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	return fd_fails(SYNC, fd, "fdatasync") ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int ftruncate64(int fd, off64_t size)
{
	return fd_fails(TRUNCATE, fd, "ftruncate") ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int ftruncate(int fd, off_t size)
{
	return ftruncate64(fd, size);
}

/* Names. */

int rename(const char *from, const char *to)
{
	return path_fails(RENAME, from, "rename") ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlink(const char *path)
{
	return path_fails(UNLINK, path, "unlink") ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int unlinkat(int dir, const char *name, int flags)
{
	return fd_fails(UNLINK, dir, "unlinkat") ? -1 : (int)syscall(SYS_unlinkat, dir, name, flags);
}

int mkdir(const char *path, mode_t mode)
{
	return path_fails(OPEN, path, "mkdir") ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

static int open_at(int dir, const char *path, int flags, mode_t mode)
{
	return path_fails(OPEN, path, "open") ? -1 : (int)syscall(SYS_openat, dir, path, flags, mode);
}

static mode_t mode_of(int flags, va_list args)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

int open64(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = mode_of(flags, args);
	va_end(args);
	return open_at(AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = mode_of(flags, args);
	va_end(args);
	return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = mode_of(flags, args);
	va_end(args);
	return open_at(dir, path, flags, mode);
}

/* Memory. */

void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset)
{
	if (control && wanted == MAP && thread_kind() != KIND_OTHER && fails("mmap", fd < 0 ? "memory" : "a file"))
		return MAP_FAILED;
	return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	return mmap64(at, size, protection, flags, fd, offset);
}

static bool lies_in(const struct range *r, const void *caller)
{
	return (uintptr_t)caller >= r->begin && (uintptr_t)caller < r->end;
}

/* Who asked is told as a place that addr2line(1) knows. */
static bool alloc_fails(const void *caller)
{
	const bool in_sqlite = lies_in(&sqlite, caller);
	char name[64];
	int who;

	if (!control || wanted != ALLOC)
		return false;
	who = thread_kind();
	if (who != KIND_DISK && !in_sqlite && (who != KIND_MAIN || !lies_in(&program, caller)))
		return false;
	snprintf(name, sizeof(name), "%s 0x%lx", in_sqlite ? "sqlite" : "sinkd",
		 (unsigned long)((uintptr_t)caller - (in_sqlite ? sqlite : program).base));
	return fails("alloc", name);
}

void *malloc(size_t size)
{
	return alloc_fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return alloc_fails(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
	return alloc_fails(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}
