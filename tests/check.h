/* CHECK prints the place and goes on; check_done gives the exit status and the last line. */
#ifndef GRAPHRUN_CHECK_H
#define GRAPHRUN_CHECK_H
#include <stdio.h>

static int check_failed, check_passed;
#define CHECK(cond, ...)                                                               \
    do {                                                                               \
        if (cond) {                                                                    \
            check_passed++;                                                            \
        } else {                                                                       \
            check_failed++;                                                            \
            fprintf(stderr, "%s:%d: CHECK(%s) failed: ", __FILE__, __LINE__, #cond);   \
            fprintf(stderr, __VA_ARGS__);                                              \
            fputc('\n', stderr);                                                       \
        }                                                                              \
    } while (0)

static inline int check_done(const char *name) {
    printf("%s: %d passed, %d failed\n", name, check_passed, check_failed);
    return check_failed || !check_passed;
}
#endif
