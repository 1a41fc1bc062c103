/* Faults in a known line of an inlined function: outer > middle > touch_page (inlined). */
#include "work.h"

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
	long size;
	unsigned char *map = map_file(argv[1], &size);

	if (!map || !ready_then_go())
		return 1;
	for (long offset = 0; offset < size; offset += 4096)
		outer(map + offset);
	done_then_exit("{}");
	return 0;
}
