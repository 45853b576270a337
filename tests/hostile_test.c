/* A corpus of hostile files: every one is refused with a message that names why, within
 * bounds of memory and time that the kernel enforces, in a process of its own, and nothing
 * is executed. `hostile_test DIR` writes the corpus there, with what each must be called. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "io/file.h"
#include "io/lora_read.h"
#include "tests/hostile/build.h"
#include "tests/hostile/headers.h"
#include "tests/hostile/pickles.h"

enum { MOST_MEMORY = 512 << 20, MOST_SECONDS = 10, MOST_RESIDENT_KB = 300 << 10 };

typedef struct Case {
    const char *name, *want;
    Str bytes;
} Case;
typedef struct Corpus {
    Arena *arena;
    Case *item;
    int n, cap;
} Corpus;

static const float numbers[4] = {1, 2, 3, 4};

static void add(Corpus *c, const char *name, const char *want, Str bytes) {
    Case x = {name, want, bytes};
    PUSH(c->arena, c->item, c->n, c->cap, x);
}

static Str torch_of(const char *pickle, size_t n, Places *at) {
    Str s = {0};
    Places ignored;
    Part part[] = {part_of("a/data.pkl", pickle, n),
                   part_of("a/data/0", numbers, sizeof numbers)};
    zip_of(&s, part, 2, at ? at : &ignored);
    return s;
}

static void add_pickles(Corpus *c) {
    for (size_t i = 0; i < COUNT(bad_pickles); i++)
        add(c, arena_printf(c->arena, "pickle-%s.ckpt", bad_pickles[i].name),
            bad_pickles[i].want,
            torch_of(bad_pickles[i].bytes, bad_pickles[i].n, NULL));
    for (size_t i = 0; i < COUNT(bad_calls); i++) {
        Str p = {0};
        str_addn(&p, BYTES("\200\2}(" TEXT1("w")));
        str_printf(&p, "c%s\n%s\n(", bad_calls[i][0], bad_calls[i][1]);
        str_addn(&p, BYTES("X\26\0\0\0touch hostile-executedtR"));
        str_addn(&p, BYTES(TEXT1("v") SOUND "u."));
        const char *both =
            arena_printf(c->arena, "%s.%s", bad_calls[i][0], bad_calls[i][1]);
        add(c, arena_printf(c->arena, "call-%s.ckpt", both),
            arena_printf(c->arena, "would call '%s'", both), torch_of(p.s, p.n, NULL));
        str_free(&p);
    }
}

static void add_headers(Corpus *c) {
    for (size_t i = 0; i < COUNT(bad_headers); i++) {
        const BadHeader *h = &bad_headers[i];
        Str s = {0};
        put(&s, h->length ? h->length : strlen(h->text), 8);
        str_add(&s, h->text);
        str_addn(&s, (const char *)numbers, sizeof numbers);
        add(c, arena_printf(c->arena, "header-%s.safetensors", h->name), h->want, s);
    }
}

/* ---- pickles that have to be made ---- */
static void add_made_pickles(Corpus *c) {
    Str deep = {0}, many = {0}, name = {0};
    enum { DEEP = 2000, MANY = 3000000, LONG = 10000 };
    str_addn(&deep, "\200\2)", 3);
    for (int i = 0; i < DEEP; i++) str_add(&deep, "\205");
    str_add(&deep, ".");
    add(c, "pickle-deep.ckpt", "nested more than 1000 deep",
        torch_of(deep.s, deep.n, NULL));
    str_addn(&many, "\200\2", 2);
    for (int i = 0; i < MANY; i++) str_add(&many, "N");
    str_add(&many, ".");
    add(c, "pickle-many.ckpt", "more than 2097152 values",
        torch_of(many.s, many.n, NULL));
    for (size_t i = 2; i < many.n; i++) many.s[i] = '(';
    add(c, "pickle-marks.ckpt", "more than 2097152 values",
        torch_of(many.s, many.n, NULL));
    str_addn(&name, "\200\2c", 3);
    for (int i = 0; i < LONG; i++) str_add(&name, "m");
    str_add(&name, "\nn\n.");
    add(c, "pickle-long-name.ckpt", "longer than 512", torch_of(name.s, name.n, NULL));
    str_free(&deep);
    str_free(&many);
    str_free(&name);
}

/* Many views of one storage, each of which would have to be copied. */
static void add_views(Corpus *c) {
    enum { VIEWS = 2000 };
    Str p = {0};
    str_addn(&p, BYTES("\200\2}("));
    for (int i = 0; i < VIEWS; i++) {
        str_addn(&p, BYTES("X\4\0\0\0"));
        str_printf(&p, "%04d", i);
        str_addn(&p, BYTES("ctorch._utils\n_rebuild_tensor_v2\n("));
        str_addn(&p, BYTES(STORAGE("FloatStorage", "M\0\100") "K\0M\200\0M\200\0\206"
                                                              "K\1M\200\0\206" REST));
    }
    str_add(&p, "u.");
    static float big[16384];
    Str s = {0};
    Places at;
    Part part[] = {part_of("a/data.pkl", p.s, p.n),
                   part_of("a/data/0", big, sizeof big)};
    zip_of(&s, part, 2, &at);
    add(c, "views.ckpt", "more views than the file has bytes", s);
    str_free(&p);
}

/* ---- zips ---- */
static const char sound[] = DICT(SOUND);

typedef struct Patch {
    const char *name, *want;
    char where; /* l local header, c central record, e end record; of entry `entry` */
    int entry;
    size_t offset;
    uint64_t value;
    int bytes;
} Patch;

static const Patch patches[] = {
    {"count-too-large", "do not fit in a directory", 'e', 0, 8, 0xFFF0FFF0, 4},
    {"several-disks", "several disks", 'e', 0, 4, 1, 2},
    {"directory-outside", "is outside the file", 'e', 0, 16, 0x7FFFFFFF, 4},
    {"directory-too-long", "is outside the file", 'e', 0, 12, 0x7FFFFFFF, 4},
    {"directory-moved", "the zip directory ends after 0", 'e', 0, 16, 1, 4},
    {"comment-lies", "end record of a zip is missing", 'e', 0, 20, 7, 2},
    {"encrypted", "is encrypted", 'c', 1, 8, 1, 2},
    {"method-lzma", "compression method 14", 'c', 1, 10, 14, 2},
    {"methods-differ", "another compression method", 'c', 1, 10, 8, 2},
    {"local-outside", "no local header at", 'c', 1, 42, 0x7FFFFFFF, 4},
    {"local-elsewhere", "no local header at", 'c', 1, 42, 3, 4},
    {"local-of-another", "another name", 'c', 1, 42, 0, 4},
    {"size-outside", "are outside the file's data", 'c', 1, 20, 0x7FFFFFFF, 4},
    {"sizes-differ", "has two sizes", 'c', 1, 24, 0x7FFFFFFF, 4},
    {"size-zip64-missing", "outside the file's data", 'c', 1, 20, 0xFFFFFFFF, 4},
    {"entry-overlaps", "overlap", 'c', 0, 20, 0, 0},
    {"name-beyond", "ends inside entry", 'c', 1, 28, 0xFFFF, 2},
    {"extra-beyond", "ends inside entry", 'c', 1, 30, 0xFFFF, 2},
    {"local-extra-beyond", "outside the file's data", 'l', 1, 28, 0xFFFF, 2},
    {"local-name-longer", "another name", 'l', 1, 26, 100, 2},
    {"storage-shorter", "the file 8", 'c', 1, 0, 0, 0},
};

static void add_patches(Corpus *c) {
    for (size_t i = 0; i < COUNT(patches); i++) {
        const Patch *p = &patches[i];
        Places at;
        Str s = torch_of(sound, sizeof sound - 1, &at);
        size_t base = p->where == 'l'   ? at.local[p->entry]
                      : p->where == 'c' ? at.central[p->entry]
                                        : at.end;
        if (p->bytes) patch(&s, base + p->offset, p->value, p->bytes);
        if (!strcmp(p->name, "entry-overlaps")) { /* data.pkl goes on into data/0 */
            patch(&s, base + 20, at.data[1] + 4 - at.data[0], 4);
            patch(&s, base + 24, at.data[1] + 4 - at.data[0], 4);
        }
        if (!strcmp(p->name, "storage-shorter")) {
            patch(&s, base + 20, 8, 4);
            patch(&s, base + 24, 8, 4);
        }
        add(c, arena_printf(c->arena, "zip-%s.ckpt", p->name), p->want, s);
    }
}

static void add_zips(Corpus *c) {
    enum { BOMB = 200 << 20 };
    Places at;
    char *zeros = calloc(1, BOMB);
    Str s = {0}, twice = {0}, none = {0}, lies = {0}, damaged = {0}, crc = {0},
        two = {0};
    Part bomb[] = {part_of("a/data.pkl", sound, sizeof sound - 1),
                   {"a/data/0", zeros, zeros ? BOMB : 0, true}};
    zip_of(&s, bomb, 2, &at);
    add(c, "zip-bomb.ckpt", "zip bomb", s);
    Part pickle_bomb[] = {{"a/data.pkl", zeros, zeros ? BOMB : 0, true}};
    zip_of(&two, pickle_bomb, 1, &at);
    add(c, "zip-bomb-pickle.ckpt", "data.pkl has 209715200 bytes", two);
    free(zeros);

    Part same[] = {part_of("a/data.pkl", sound, sizeof sound - 1),
                   part_of("a/data.pkl", sound, sizeof sound - 1)};
    zip_of(&twice, same, 2, &at);
    add(c, "zip-name-twice.ckpt", "two entries are called 'a/data.pkl'", twice);
    Part other[] = {part_of("readme", "x", 1)};
    zip_of(&none, other, 1, &at);
    add(c, "zip-without-pickle.ckpt", "a zip without data.pkl", none);

    Part packed[] = {{"a/data.pkl", sound, sizeof sound - 1, true},
                     part_of("a/data/0", numbers, sizeof numbers)};
    zip_of(&lies, packed, 2, &at);
    patch(&lies, at.central[0] + 24, 1 << 20, 4);
    add(c, "zip-deflate-lies.ckpt", "cannot unpack to", lies);
    zip_of(&damaged, packed, 2, &at);
    patch(&damaged, at.data[0], 0xFFFFFFFF, 4);
    add(c, "zip-deflate-damaged.ckpt", "deflated data is damaged", damaged);
    zip_of(&crc, packed, 2, &at);
    patch(&crc, at.central[0] + 16, 0, 4);
    add(c, "zip-deflate-crc.ckpt", "its CRC is wrong", crc);
}

/* ---- truncations, other forms ---- */
static void add_rest(Corpus *c) {
    Str s = torch_of(sound, sizeof sound - 1, NULL), t = {0}, u = {0}, v = {0};
    Str big = {0}, empty = {0}, tar = {0}, old = {0}, old2 = {0}, short8 = {0};
    str_addn(&t, s.s, s.n / 2);
    add(c, "cut-in-half.ckpt", "end record of a zip is missing", t);
    str_addn(&u, s.s, s.n - 1);
    add(c, "cut-by-one.ckpt", "end record of a zip is missing", u);
    str_addn(&v, s.s + 4, s.n - 4);
    add(c, "cut-in-front.ckpt", "'", v);
    Part part[] = {part_of("a/data.pkl", sound, sizeof sound - 1),
                   part_of("a/byteorder", "big", 3)};
    Places at;
    zip_of(&big, part, 2, &at);
    add(c, "big-endian.ckpt", "not little-endian", big);
    str_addn(&empty, "x", 0);
    add(c, "empty.safetensors", "too short", empty);
    str_addn(&short8, "\10\0\0\0\0\0\0", 7);
    add(c, "seven-bytes.safetensors", "too short", short8);
    for (int i = 0; i < 512; i++) str_addn(&tar, "\0", 1);
    memcpy(tar.s + 257, "ustar", 5);
    add(c, "tar.pt", "tar form", tar);
    static const char head[] = "\200\2\212\12l\374\234F\371 j\250P\31.\200\2M\351\3.";
    str_addn(&old, head, sizeof head - 1);
    add(c, "legacy-cut.pt", "is cut off", old);
    str_addn(&old2, head, sizeof head - 1);
    str_addn(&old2, BYTES("\200\2}." DICT(SOUND) "\200\2](" TEXT1("0") "e."));
    put(&old2, UINT64_C(1) << 62, 8);
    add(c, "legacy-storage-giant.pt", "it is cut off: storage '0'", old2);
    Str bare = {0}, call = {0};
    str_addn(&bare, BYTES("\200\2cos\nsystem\nX\4\0\0\0true\205R."));
    add(c, "bare.pkl", "no file of torch.save", bare);
    str_addn(&call, head, sizeof head - 1);
    str_addn(&call, BYTES("\200\2}.\200\2cos\nsystem\nX\4\0\0\0true\205R."));
    add(c, "legacy-call.pt", "would call 'os.system'", call);
    str_free(&s);
}

static void build(Corpus *c) {
    add_headers(c);
    add_pickles(c);
    add_made_pickles(c);
    add_views(c);
    add_patches(c);
    add_zips(c);
    add_rest(c);
}

/* ---- running ---- */
typedef struct Outcome {
    int status;
    long resident_kb;
    char text[1024];
} Outcome;

static void child(const char *path, int out) {
#ifndef __SANITIZE_ADDRESS__ /* which reserves terabytes */
    setrlimit(RLIMIT_AS, &(struct rlimit){MOST_MEMORY, MOST_MEMORY});
#endif
    setrlimit(RLIMIT_CPU, &(struct rlimit){MOST_SECONDS, MOST_SECONDS});
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    static Err e;
    TensorFile *f = tensors_open(path, &e);
    const char *text = f ? "accepted" : e.text;
    size_t n = strlen(text);
    if (write(out, text, n) != (ssize_t)n) _exit(9);
    tensors_close(f);
    _exit(f ? 7 : 0);
}

static Outcome open_apart(const char *path) {
    Outcome r = {.status = -1};
    int ends[2];
    if (pipe(ends)) return r;
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) child(path, ends[1]);
    close(ends[1]);
    size_t n = 0;
    for (ssize_t k; (k = read(ends[0], r.text + n, sizeof r.text - 1 - n)) > 0;)
        n += (size_t)k;
    close(ends[0]);
    struct rusage use = {0};
    while (pid > 0 && wait4(pid, &r.status, 0, &use) < 0 && errno == EINTR) continue;
    r.resident_kb = use.ru_maxrss;
    return r;
}

static void check_case(const Case *x, const char *path) {
    Outcome r = open_apart(path);
    CHECK(WIFEXITED(r.status), "%s: ended by signal %d", x->name, WTERMSIG(r.status));
    CHECK(WIFEXITED(r.status) && WEXITSTATUS(r.status) == 0, "%s: exit %d, '%s'",
          x->name, WEXITSTATUS(r.status), r.text);
    CHECK(strstr(r.text, x->want), "%s: got '%s', want '%s'", x->name, r.text, x->want);
#ifndef __SANITIZE_ADDRESS__
    CHECK(r.resident_kb < MOST_RESIDENT_KB, "%s: %ld kB", x->name, r.resident_kb);
#endif
}

static void write_list(const Corpus *c, const char *folder) {
    Str s = {0};
    for (int i = 0; i < c->n; i++)
        str_printf(&s, "%s\t%s\n", c->item[i].name, c->item[i].want);
    Err e = {0};
    CHECK(file_write(arena_printf(c->arena, "%s/list.tsv", folder), s.s, s.n, &e), "%s",
          e.text);
    str_free(&s);
}

int main(int argc, char **argv) {
    char made[] = "/tmp/graphrun-hostile-XXXXXX";
    const char *folder = argc > 1 ? argv[1] : mkdtemp(made);
    Err e = {0};
    if (!folder || !folder_make(folder, &e)) return 1;
    Corpus c = {.arena = arena_new()};
    build(&c);
    CHECK(c.n >= 100, "%d files, want at least 100", c.n);
    for (int i = 0; i < c.n; i++) {
        Case *x = &c.item[i];
        const char *path = arena_printf(c.arena, "%s/%s", folder, x->name);
        CHECK(file_write(path, x->bytes.s, x->bytes.n, &e), "%s", e.text);
        str_free(&x->bytes);
        if (argc < 2) check_case(x, path);
    }
    CHECK(access("hostile-executed", F_OK), "something was executed");
    if (argc > 1) write_list(&c, folder);
    /* the file that the others are damaged copies of is fine */
    const char *path = arena_printf(c.arena, "%s/sound.ckpt", folder);
    Str s = torch_of(sound, sizeof sound - 1, NULL);
    CHECK(file_write(path, s.s, s.n, &e), "%s", e.text);
    TensorFile *f = tensors_open(path, &e);
    CHECK(f && f->n == 1 && !memcmp(f->entry->data, numbers, sizeof numbers), "%s",
          e.text);
    tensors_close(f);
    str_free(&s);
    if (argc < 2)
        CHECK(!system(arena_printf(c.arena, "rm -r %s", folder)), "cannot remove %s",
              folder);
    printf("%d hostile files\n", c.n);
    arena_free(c.arena);
    return check_done("hostile");
}
