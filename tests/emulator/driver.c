/* Calls functions of shared libraries in a process of another machine, on memory that it shares with the tests.
 *
 * driver FILE ADDRESS SIZE    maps the file there, as the tests have done. Then each line of standard input
 * LIBRARY SYMBOL A B C        calls the function with three integers, and
 * forbid - A B 0              makes the B bytes from A on unusable. Each line is answered by one.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int main(int argc, char **argv) {
  char library[4096], symbol[256];
  long long a, b, c;
  if (argc != 4) return 2;
  void *place = (void *)strtoull(argv[2], 0, 0);
  size_t size = strtoull(argv[3], 0, 0);
  int file = open(argv[1], O_RDWR);
  if (file < 0 || mmap(place, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) != place) {
    perror("the tests' memory");
    return 1;
  }
  while (scanf("%4095s %255s %lld %lld %lld", library, symbol, &a, &b, &c) == 5) {
    if (!strcmp(library, "forbid")) {
      if (mprotect((void *)a, b, PROT_NONE)) return 1;
      puts("done");
      fflush(stdout);
      continue;
    }
    void *code = dlopen(library, RTLD_NOW);
    void (*function)(int64_t, int64_t, int64_t) = code ? dlsym(code, symbol) : 0;
    if (!function) {
      fprintf(stderr, "%s\n", dlerror());
      return 1;
    }
    function(a, b, c);
    puts("done");
    fflush(stdout);
  }
  return 0;
}
