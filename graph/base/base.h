/* Ground floor: arenas, places in files, failures as values, growing strings.
 *
 * Ownership: what an arena gave lives as long as the arena; nothing of it is freed alone.
 * Failure: a function that can fail returns bool (or NULL), takes `Err *e` last and
 * returns at once. Err keeps the first failure. Library code never prints or exits;
 * one exception: when host memory is out, the arena ends the program with status 1. */
#ifndef GRAPHRUN_BASE_H
#define GRAPHRUN_BASE_H
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define PRINTF(fmt, args)
#endif

/* Of a clock that only goes forward; for measuring, never for deciding. */
double seconds_now(void);

/* ---- arena ---- */
typedef struct Arena Arena;
Arena *arena_new(void);
void arena_free(Arena *a); /* NULL is allowed */
/* Zeroed memory for n objects of the given size, 16-byte aligned; n * size is checked. */
void *arena_alloc(Arena *a, size_t n, size_t size);
/* A copy of `old` (old_n objects) with room for new_n; the rest is zeroed. */
void *arena_grow(Arena *a, const void *old, size_t old_n, size_t new_n, size_t size);
char *arena_strndup(Arena *a, const char *s, size_t n);
char *arena_strdup(Arena *a, const char *s);
char *arena_printf(Arena *a, const char *fmt, ...) PRINTF(2, 3);

#define NEW(a, T, n) ((T *)arena_alloc((a), (size_t)(n), sizeof(T)))
/* Appends x to the list `ptr` with length n and capacity cap (both lvalues). */
#define PUSH(a, ptr, n, cap, x)                                                        \
    do {                                                                               \
        if ((size_t)(n) == (size_t)(cap)) {                                            \
            size_t cap_ = (cap) ? 2 * (size_t)(cap) : 8;                               \
            (ptr) = arena_grow((a), (ptr), (size_t)(n), cap_, sizeof *(ptr));          \
            (cap) = (__typeof__(cap))cap_;                                             \
        }                                                                              \
        (ptr)[(n)++] = (x);                                                            \
    } while (0)

/* ---- growing text (malloc; str_free) ---- */
typedef struct Str {
    char *s; /* always NUL-terminated once something was added; may be NULL before */
    size_t n, cap;
} Str;
void str_add(Str *s, const char *text);
void str_addn(Str *s, const char *text, size_t n);
void str_printf(Str *s, const char *fmt, ...) PRINTF(2, 3);
/* Shortest decimal text that reads back to the same double ("0.1", "1e-05", "3"). */
void str_double(Str *s, double x);
void str_json_number(Str *s, double x); /* the same; null where x is not finite */
/* Shortest decimal text that reads back to the same float. */
void str_float(Str *s, float x);
/* JSON string with quotes and escapes. */
void str_json(Str *s, const char *text);
void str_free(Str *s);

/* ---- places ---- */
typedef struct Source {
    const char *path; /* as shown in messages */
    const char *text; /* NUL-terminated */
    size_t len;
} Source;
/* 1-based line and column (columns count characters, not bytes); len 0: caret only.
 * src NULL: no place. */
typedef struct Loc {
    const Source *src;
    uint32_t line, col, len;
} Loc;
Loc loc_none(void);

/* ---- failures ---- */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_MISUSE = 2 };
typedef struct Err {
    bool set;
    int code; /* EXIT_FAILED or EXIT_MISUSE */
    /* complete message: "file:line:col: error: ..." with line and caret */
    char text[3072];
} Err;
/* Text of graph, recipe, preset, TOML, JSON files and the command line: exit code 2. */
bool err_at(Err *e, Loc loc, const char *fmt, ...) PRINTF(3, 4);
bool err_usage(Err *e, const char *fmt, ...) PRINTF(2, 3);
/* Weights, images, disk, memory, device, not-a-number: exit code 1. */
bool err_fail(Err *e, const char *fmt, ...) PRINTF(2, 3);
/* The message without its "error: " in front, to become part of another one. */
const char *err_said(const Err *e);
/* Appends a further line to the message ("note: ..."); nothing if no failure is set. */
void err_note(Err *e, const char *fmt, ...) PRINTF(2, 3);

/* ---- words ---- */
bool starts_with(const char *s, const char *start);
bool ends_with(const char *s, const char *end);

/* ---- nearest names ---- */
/* The name closest to `word` (edit distance at most a third of its length, at least 1;
 * ties: the first), or NULL. names ends with NULL. */
const char *nearest(const char *word, const char *const *names);
/* "; did you mean 'x'?" for the same, or "" */
const char *did_you_mean(Arena *a, const char *word, const char *const *names);
/* The same, or "; there are x, y, z" */
const char *nearest_or_all(Arena *a, const char *word, const char *const *names);

/* ---- checked sizes ---- */
static inline bool mul_u64(uint64_t a, uint64_t b, uint64_t *r) {
    return !__builtin_mul_overflow(a, b, r);
}
static inline bool add_u64(uint64_t a, uint64_t b, uint64_t *r) {
    return !__builtin_add_overflow(a, b, r);
}
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#endif
