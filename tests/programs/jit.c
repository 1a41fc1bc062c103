/* Stands in for a JIT: writes a function into memory, names it in /tmp/perf-PID.map, and lets it
 * take the faults. */
#include <string.h>

#include "work.h"

/* A function with a frame that loads one byte from the address it is given. */
#if defined(__x86_64__)
static const unsigned char code[] = {
	0x55,                /* push %rbp */
	0x48, 0x89, 0xe5,    /* mov %rsp,%rbp */
	0x0f, 0xb6, 0x07,    /* movzbl (%rdi),%eax */
	0x5d,                /* pop %rbp */
	0xc3,                /* ret */
};
#elif defined(__aarch64__)
static const unsigned int code[] = {
	0xa9bf7bfd, /* stp x29, x30, [sp, #-16]! */
	0x910003fd, /* mov x29, sp */
	0x39400000, /* ldrb w0, [x0] */
	0xa8c17bfd, /* ldp x29, x30, [sp], #16 */
	0xd65f03c0, /* ret */
};
#else
#error "no machine code for this architecture"
#endif

__attribute__((noinline)) static unsigned call_jit(void *function, const unsigned char *page)
{
	return ((unsigned (*)(const unsigned char *))function)(page) + 1;
}

int main(int argc, char **argv)
{
	char name[64], what[64];
	unsigned sum = 0;
	long size;
	unsigned char *map = map_file(argv[1], &size);
	void *jit = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!map || jit == MAP_FAILED)
		return 1;
	memcpy(jit, code, sizeof code);
	__builtin___clear_cache(jit, (char *)jit + sizeof code);
	snprintf(name, sizeof name, "/tmp/perf-%d.map", getpid());
	FILE *list = fopen(name, "w");
	if (!list)
		return 1;
	fprintf(list, "%lx %zx jit_lookup_key\n", (unsigned long)jit, sizeof code);
	fclose(list);
	if (!ready_then_go())
		return 1;
	for (long offset = 0; offset < size; offset += 4096)
		sum += call_jit(jit, map + offset);
	snprintf(what, sizeof what, "{\"figures\":{\"sum\":%u}}", sum);
	done_then_exit(what);
	unlink(name);
	return 0;
}
