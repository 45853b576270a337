/* Progress on stderr (cli/talk.h). */
#include "cli/talk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static double seconds(void *ctx) {
    (void)ctx;
    return seconds_now();
}

static void put(void *ctx, const char *text) {
    (void)ctx;
    fputs(text, stderr);
    fflush(stderr);
}

static int terminal_columns(void) {
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 ? w.ws_col : 0;
}

Progress *talk_progress(Arena *a, const Common *c, const char *label, int64_t total) {
    const char *term = getenv("TERM");
    bool terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb");
    ProgressOut out = {.seconds = seconds, .put = put};
    out.mode = c->quiet ? PROGRESS_QUIET : terminal ? PROGRESS_BAR : PROGRESS_LINES;
    out.columns = terminal ? terminal_columns() : 0;
    return progress_new(a, &out, label, total);
}

/* Second number of /proc/self/statm: resident pages. */
uint64_t talk_memory_bytes(void) {
    unsigned long long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    int n = fscanf(f, "%llu %llu", &size, &resident);
    fclose(f);
    return n == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}
