/* Calls functions of shared libraries in a process of another machine, on memory that it shares with the tests.
 *
 * driver FILE ADDRESS SIZE    maps the file there, as the tests have done. Then each line of standard input
 * LIBRARY SYMBOL A B C ...    calls the function with the twelve integers, and
 * forbid - A B 0 ...          makes the B bytes from A on unusable. Each line is answered by one.
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
  long long a[12];
  if (argc != 4) return 2;
  void *place = (void *)strtoull(argv[2], 0, 0);
  size_t size = strtoull(argv[3], 0, 0);
  int file = open(argv[1], O_RDWR);
  if (file < 0 || mmap(place, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) != place) {
    perror("the tests' memory");
    return 1;
  }
  while (scanf("%4095s %255s", library, symbol) == 2) {
    for (int n = 0; n < 12; n++)
      if (scanf("%lld", &a[n]) != 1) return 2;
    if (!strcmp(library, "forbid")) {
      if (mprotect((void *)a[0], a[1], PROT_NONE)) return 1;
      puts("done");
      fflush(stdout);
      continue;
    }
    void *code = dlopen(library, RTLD_NOW);
    void (*function)(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                     int64_t, int64_t) = code ? dlsym(code, symbol) : 0;
    if (!function) {
      fprintf(stderr, "%s\n", dlerror());
      return 1;
    }
    function(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]);
    puts("done");
    fflush(stdout);
  }
  return 0;
}
