/* Faults in functions without a frame of their own, whose caller frame pointers hide. */
#define _GNU_SOURCE
#include <string.h>

#include "work.h"

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
	int pipes[2];
	long size;
	unsigned char *map = map_file(argv[1], &size);

	if (!map || pipe(pipes) != 0)
		return 1;
	drain = pipes[1];
	if (!ready_then_go())
		return 1;
	for (long page = 0; page < size / 4096; page++)
		ways[page % (sizeof ways / sizeof *ways)]((char *)map + page * 4096);
	done_then_exit("{}");
	return 0;
}
