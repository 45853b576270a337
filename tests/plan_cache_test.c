/* The cache of plans: what counts as the same key, that what was not used for longest goes
 * first, that a wrong file is removed and never returned. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/tensors.h"
#include "passes/passes.h"
#include "runtime/plan_cache.h"
#include "tests/check.h"

static Plan *small_plan(Arena *a, uint8_t key) {
    static const char text[] =
        "graph g {\n"
        "  input @x : f32[4]\n"
        "  %0 = pointwise @x {f=\"x0 + 1\", dtype=f32} : f32[4]\n"
        "  output y = %0\n"
        "}\n";
    Source *src = NEW(a, Source, 1);
    *src = (Source){"test", text, sizeof text - 1};
    Err e = {0};
    Options opt = {0};
    Graph *g = graph_parse(a, src, &e);
    Plan *p = g ? plan_lower(g, &opt, &e) : NULL;
    CHECK(p, "%s", e.text);
    if (p) memset(p->key, key, sizeof p->key);
    return p;
}

static bool kept(const PlanCache *c, uint8_t byte) {
    Arena *a = arena_new();
    uint8_t key[16];
    Str note = {0};
    memset(key, byte, sizeof key);
    bool found = plan_cache_get(c, a, key, &note) != NULL;
    CHECK(!note.n, "%s", note.s);
    arena_free(a);
    return found;
}

static const char *path_of(Arena *a, const PlanCache *c, const char *hex2) {
    char hex[33] = {0};
    for (int i = 0; i < 16; i++) memcpy(hex + 2 * i, hex2, 2);
    return arena_printf(a, "%s/%s.plan", c->folder, hex);
}

/* Times of last use are set by hand: a file system's clock may be coarse. */
static void used_at(const char *path, time_t when) {
    struct timespec t[2] = {{.tv_sec = when}, {.tv_sec = when}};
    CHECK(!utimensat(AT_FDCWD, path, t, 0), "no file %s", path);
}

static void oldest_goes(Arena *a, const char *folder) {
    PlanCache c = {folder, UINT64_C(1) << 30};
    Str note = {0};
    CHECK(!kept(&c, 0x11), "an empty cache has a plan");
    plan_cache_put(&c, small_plan(a, 0x11), &note);
    plan_cache_put(&c, small_plan(a, 0x22), &note);
    CHECK(kept(&c, 0x11) && kept(&c, 0x22), "a plan was not kept");
    struct stat st;
    CHECK(!stat(path_of(a, &c, "11"), &st), "no file");
    used_at(path_of(a, &c, "11"), 1000);
    used_at(path_of(a, &c, "22"), 2000);
    CHECK(kept(&c, 0x11), "lost"); /* and so it was used later than the other */
    c.most_bytes = 2 * (uint64_t)st.st_size;
    plan_cache_put(&c, small_plan(a, 0x33), &note);
    CHECK(kept(&c, 0x11), "the plan that was used last went");
    CHECK(!kept(&c, 0x22), "the plan that was not used for longest stayed");
    CHECK(kept(&c, 0x33), "the new plan was not kept");
    c.most_bytes = 10;
    plan_cache_put(&c, small_plan(a, 0x44), &note);
    CHECK(!kept(&c, 0x44), "a plan larger than the cache was kept");
    CHECK(!note.n, "%s", note.s);
}

static void wrong_files(Arena *a, const char *folder) {
    PlanCache c = {folder, UINT64_C(1) << 30};
    Err e = {0};
    void *map;
    size_t n;
    CHECK(file_map(path_of(a, &c, "11"), &map, &n, &e), "%s", e.text);
    CHECK(file_write(path_of(a, &c, "55"), map, n, &e), "%s",
          e.text); /* another key's */
    CHECK(file_write(path_of(a, &c, "66"), map, n / 2, &e), "%s", e.text);
    file_unmap(map, n);
    for (int i = 0; i < 2; i++) {
        uint8_t key[16];
        Str note = {0};
        memset(key, i ? 0x66 : 0x55, sizeof key);
        CHECK(!plan_cache_get(&c, a, key, &note), "a wrong file was taken");
        CHECK(note.s && strstr(note.s, "is compiled again"), "nothing was said");
        CHECK(!file_exists(path_of(a, &c, i ? "66" : "55")), "a wrong file stayed");
        str_free(&note);
    }
}

static void keys(Arena *a) {
    static const struct {
        const char *name[2], *data[2];
    } made[] = {{{"a", "b"}, {"xy", "z"}},
                {{"a", "b"}, {"x", "yz"}}, /* lengths count */
                {{"b", "a"}, {"xy", "z"}},
                {{"ab", ""}, {"xy", "z"}}};
    uint8_t key[COUNT(made)][16];
    const PlanPart *part[COUNT(made)];
    uint32_t n[COUNT(made)];
    for (size_t i = 0; i < COUNT(made); i++) {
        PlanKey *k = plan_key_new(a);
        for (int j = 0; j < 2; j++)
            plan_key_add(k, made[i].name[j], made[i].data[j], strlen(made[i].data[j]));
        plan_key_end(k, key[i], &part[i], &n[i]);
        for (size_t j = 0; j < i; j++)
            CHECK(memcmp(key[i], key[j], 16), "keys %zu and %zu are equal", i, j);
    }
    const char *diff = plan_key_diff(a, part[0], n[0], part[1], n[1]);
    CHECK(!strcmp(diff, "a, b"), "'%s'", diff);
    CHECK(!*plan_key_diff(a, part[0], n[0], part[0], n[0]),
          "a key differs from itself");
    diff = plan_key_diff(a, part[0], n[0], part[3], n[3]);
    CHECK(!strcmp(diff, "a, b, ab, "), "'%s'", diff);
}

int main(void) {
    char folder[] = "/tmp/graphrun-plan-cache-XXXXXX";
    Arena *a = arena_new();
    if (!mkdtemp(folder)) return 1;
    oldest_goes(a, folder);
    wrong_files(a, folder);
    keys(a);
    const char *names[] = {"11", "33"};
    for (size_t i = 0; i < COUNT(names); i++)
        unlink(path_of(a, &(PlanCache){folder, 0}, names[i]));
    CHECK(!rmdir(folder), "files left in %s", folder);
    arena_free(a);
    return check_done("plan_cache");
}
