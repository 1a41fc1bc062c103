/* Faults in a known line of an inlined function: outer > middle > touch_page (inlined). */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static volatile unsigned long sink;

static inline __attribute__((always_inline)) void touch_page(const volatile unsigned char *page)
{
	sink += *page; /* FAULT LINE */
}

__attribute__((noipa)) static void note(void)
{
	sink++;
}

__attribute__((noinline)) static void middle(const volatile unsigned char *page)
{
	note(); /* a function that calls none keeps no frame pointer */
	touch_page(page);
	sink++;
}

__attribute__((noinline)) static void outer(const volatile unsigned char *page)
{
	middle(page); /* OUTER LINE */
	sink++;
}

int main(int argc, char **argv)
{
	struct stat status;
	char line[64];
	int fd = argc > 1 ? open(argv[1], O_RDONLY) : -1;

	if (fd < 0 || fstat(fd, &status) != 0)
		return 1;
	unsigned char *map = mmap(NULL, status.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || madvise(map, status.st_size, MADV_RANDOM) != 0)
		return 1;
	printf("ready {\"pid\":%d,\"tids\":[%d],\"places\":{}}\n", getpid(), getpid());
	fflush(stdout);
	if (!fgets(line, sizeof line, stdin))
		return 1;
	for (long offset = 0; offset < status.st_size; offset += 4096)
		outer(map + offset);
	printf("done {}\n");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin))
		;
	return 0;
}
