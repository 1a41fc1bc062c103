/* Faults in functions without a frame of their own, whose caller frame pointers hide. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

static volatile unsigned long sink;
static char buffer[4096];
static int drain;

/* That its arguments are not known keeps the compiler from replacing calls of the C library. */
static volatile size_t length = sizeof buffer;

__attribute__((noinline)) static void by_memcpy(char *page)
{
	memcpy(buffer, page, length); /* by_memcpy LINE */
	sink++;
}

__attribute__((noinline)) static void by_memchr(char *page)
{
	sink += memchr(page, 0xff, length) != NULL; /* by_memchr LINE */
	sink++;
}

__attribute__((noinline)) static void by_strnlen(char *page)
{
	sink += strnlen(page, length); /* by_strnlen LINE */
	sink++;
}

__attribute__((noipa)) static unsigned long leaf(const volatile char *page)
{
	return *page;
}

__attribute__((noinline)) static void by_leaf(char *page)
{
	sink += leaf(page); /* by_leaf LINE */
	sink++;
}

__attribute__((noinline)) static void by_write(char *page)
{
	sink += write(drain, page, length); /* by_write LINE */
	sink++;
}

__attribute__((noinline)) static void by_madvise(char *page)
{
	sink += madvise(page, length, MADV_POPULATE_READ); /* by_madvise LINE */
	sink++;
}

int main(int argc, char **argv)
{
	static void (*const ways[])(char *) = {
		by_memcpy, by_memchr, by_strnlen, by_leaf, by_write, by_madvise,
	};
	struct stat status;
	char line[64];
	int fd = argc > 1 ? open(argv[1], O_RDONLY) : -1;
	int pipes[2];

	if (fd < 0 || fstat(fd, &status) != 0 || pipe(pipes) != 0)
		return 1;
	drain = pipes[1];
	char *map = mmap(NULL, status.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || madvise(map, status.st_size, MADV_RANDOM) != 0)
		return 1;
	printf("ready {\"pid\":%d,\"tids\":[%d],\"places\":{}}\n", getpid(), getpid());
	fflush(stdout);
	if (!fgets(line, sizeof line, stdin))
		return 1;
	for (long page = 0; page < status.st_size / 4096; page++)
		ways[page % (sizeof ways / sizeof *ways)](map + page * 4096);
	printf("done {}\n");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin))
		;
	return 0;
}
