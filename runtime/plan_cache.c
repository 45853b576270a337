/* The folder of plans: one file per key, KEY.plan. The time of last use is the file's
 * modification time, which a hit renews. */
#include "runtime/plan_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY /* the size of a state, which lies in the key's arena */
#include <xxhash.h>

#include "io/file.h"
#include "io/tensors.h"

enum { MOST_FILE_BYTES = 1 << 28 };

/* ---- keys ---- */
struct PlanKey {
    Arena *arena;
    XXH3_state_t *all;
    PlanPart *part;
    uint32_t n, cap;
};

PlanKey *plan_key_new(Arena *a) {
    enum { LINE = 64 }; /* bytes that a state is aligned to */
    PlanKey *k = NEW(a, PlanKey, 1);
    char *room = NEW(a, char, sizeof *k->all + LINE);
    k->arena = a;
    k->all = (XXH3_state_t *)(room + (LINE - (uintptr_t)room % LINE));
    XXH3_128bits_reset(k->all);
    return k;
}

static void add_piece(PlanKey *k, const void *data, size_t n) {
    uint8_t length[8];
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)n >> 8 * i);
    XXH3_128bits_update(k->all, length, sizeof length);
    XXH3_128bits_update(k->all, n ? data : "", n);
}

void plan_key_add(PlanKey *k, const char *name, const void *data, size_t n) {
    add_piece(k, name, strlen(name));
    add_piece(k, data, n);
    PlanPart p = {arena_strdup(k->arena, name), XXH3_64bits(n ? data : "", n)};
    PUSH(k->arena, k->part, k->n, k->cap, p);
}

void plan_key_end(PlanKey *k, uint8_t key[16], const PlanPart **part, uint32_t *n) {
    XXH128_canonical_t out;
    XXH128_canonicalFromHash(&out, XXH3_128bits_digest(k->all));
    memcpy(key, out.digest, 16);
    *part = k->part;
    *n = k->n;
}

static const PlanPart *part_find(const PlanPart *p, uint32_t n, const char *name) {
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(p[i].name, name)) return &p[i];
    return NULL;
}

const char *plan_key_diff(Arena *a, const PlanPart *x, uint32_t nx, const PlanPart *y,
                          uint32_t ny) {
    const char *all = "";
    for (uint32_t i = 0; i < nx; i++) {
        const PlanPart *other = part_find(y, ny, x[i].name);
        if (other && other->hash == x[i].hash) continue;
        all = arena_printf(a, "%s%s%s", all, *all ? ", " : "", x[i].name);
    }
    for (uint32_t i = 0; i < ny; i++)
        if (!part_find(x, nx, y[i].name))
            all = arena_printf(a, "%s%s%s", all, *all ? ", " : "", y[i].name);
    return all;
}

/* ---- the folder ---- */
PlanCache plan_cache_default(Arena *a) {
    const char *own = getenv("GRAPHRUN_CACHE"), *xdg = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    PlanCache c = {.most_bytes = UINT64_C(256) << 20};
    if (own)
        c.folder = *own ? arena_printf(a, "%s/plans", own) : NULL;
    else if (xdg && *xdg == '/')
        c.folder = arena_printf(a, "%s/graphrun/plans", xdg);
    else if (home && *home == '/')
        c.folder = arena_printf(a, "%s/.cache/graphrun/plans", home);
    return c;
}

static const char *path_of(const PlanCache *c, Arena *a, const uint8_t key[16]) {
    char hex[33];
    for (int i = 0; i < 16; i++) {
        hex[2 * i] = "0123456789abcdef"[key[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[key[i] & 15];
    }
    hex[32] = 0;
    return arena_printf(a, "%s/%s.plan", c->folder, hex);
}

static void used_now(const char *path) {
    utimensat(AT_FDCWD, path, NULL, 0);
}

/* Of what stands at the path; `why` if it cannot be used. */
static Plan *read_file(Arena *a, const char *path, const uint8_t key[16], Err *why) {
    void *map;
    size_t n;
    if (!file_map(path, &map, &n, why)) return NULL;
    bool old;
    Plan *p = n <= MOST_FILE_BYTES ? plan_read(a, map, n, &old, why) : NULL;
    file_unmap(map, n);
    if (p && memcmp(p->key, key, sizeof p->key)) {
        err_fail(why, "it belongs to another key");
        p = NULL;
    }
    return p;
}

Plan *plan_cache_get(const PlanCache *c, Arena *a, const uint8_t key[16], Str *note) {
    if (!c->folder) return NULL;
    const char *path = path_of(c, a, key);
    if (!file_exists(path)) return NULL;
    Err why = {0};
    Plan *p = read_file(a, path, key, &why);
    if (p) {
        used_now(path);
        return p;
    }
    str_printf(note, "warning: the cached plan '%s' is compiled again: %s\n", path,
               err_said(&why));
    unlink(path);
    return NULL;
}

/* ---- room ---- */
typedef struct Kept {
    const char *path;
    uint64_t bytes;
    struct timespec used;
} Kept;

static int by_use(const void *a, const void *b) {
    const Kept *x = a, *y = b;
    if (x->used.tv_sec != y->used.tv_sec)
        return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
    if (x->used.tv_nsec != y->used.tv_nsec)
        return x->used.tv_nsec < y->used.tv_nsec ? -1 : 1;
    return strcmp(x->path, y->path);
}

static bool is_plan(const char *name) {
    size_t n = strlen(name);
    return n == 37 && strspn(name, "0123456789abcdef") == 32 &&
           !strcmp(name + 32, ".plan");
}

/* Removes what was not used for longest until `room` more bytes fit. */
static void make_room(const PlanCache *c, uint64_t room) {
    DIR *d = opendir(c->folder);
    if (!d) return;
    Arena *a = arena_new();
    Kept *kept = NULL;
    int n = 0, cap = 0;
    uint64_t total = room;
    for (struct dirent *x; (x = readdir(d));) {
        struct stat st;
        const char *path = arena_printf(a, "%s/%s", c->folder, x->d_name);
        if (!is_plan(x->d_name) || stat(path, &st) || !S_ISREG(st.st_mode)) continue;
        Kept k = {path, (uint64_t)st.st_size, st.st_mtim};
        total += k.bytes;
        PUSH(a, kept, n, cap, k);
    }
    closedir(d);
    if (n) qsort(kept, (size_t)n, sizeof *kept, by_use);
    for (int i = 0; i < n && total > c->most_bytes; i++) {
        unlink(kept[i].path);
        total -= kept[i].bytes;
    }
    arena_free(a);
}

void plan_cache_put(const PlanCache *c, const Plan *p, Str *note) {
    if (!c->folder) return;
    Arena *a = arena_new();
    Str bytes = {0};
    Err e = {0};
    plan_write(&bytes, p);
    if (bytes.n <= c->most_bytes && folder_make(c->folder, &e)) {
        make_room(c, bytes.n);
        file_write(path_of(c, a, p->key), bytes.s, bytes.n, &e);
    }
    if (e.set) str_printf(note, "warning: the plan is not cached: %s\n", e.text);
    str_free(&bytes);
    arena_free(a);
}
