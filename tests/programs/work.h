/* What a program of the tests has in common with the others: a file that it maps, and the lines by which it and
 * the tests wait for each other. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* All of a file, without readahead; NULL if it cannot be mapped. */
static inline unsigned char *map_file(const char *path, long *size)
{
	struct stat status;
	int fd = path ? open(path, O_RDONLY) : -1;

	if (fd < 0 || fstat(fd, &status) != 0)
		return NULL;
	unsigned char *map = mmap(NULL, status.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || madvise(map, status.st_size, MADV_RANDOM) != 0)
		return NULL;
	*size = status.st_size;
	return map;
}

/* Whether to go on. */
static inline int ready_then_go(void)
{
	char line[64];

	printf("ready {\"pid\":%d,\"tids\":[%d],\"places\":{}}\n", getpid(), getpid());
	fflush(stdout);
	return fgets(line, sizeof line, stdin) != NULL;
}

/* Says what the work came to (JSON), and waits until the input ends. */
static inline void done_then_exit(const char *what)
{
	char line[64];

	printf("done %s\n", what);
	fflush(stdout);
	while (fgets(line, sizeof line, stdin))
		;
}
