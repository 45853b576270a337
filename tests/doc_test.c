/* Documents: the shipped ones load, every wrong one in tests/errors gives its exact message,
 * searching and libraries, binding of arguments, presets; and hostile text never crashes.
 * `doc_test --update` rewrites the expected messages. Runs in the source folder. */
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "graph/lang/schema.h"
#include "tests/check.h"

/* ---- shipped files ---- */
static void test_shipped(void) {
    int n = 0;
    for (const EmbeddedFile *f = embedded_files; f->path; f++) {
        const char *dot = strrchr(f->path, '.');
        if (!dot || strcmp(dot, ".yaml")) continue;
        Arena *a = arena_new();
        Err e = {0};
        Library *lib = library_new(a);
        Doc *d = doc_load(lib, f->path, DOC_KINDS, NULL, loc_none(), &e);
        CHECK(d, "%s", e.text);
        const YNode *doc = d ? yaml_get(d->root, "doc") : NULL;
        CHECK(!d || doc, "%s says not what it is", f->path);
        n++;
        arena_free(a);
    }
    CHECK(n >= 35, "%d files", n);
}

/* ---- wrong files ---- */
static int compare(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static char **wrong_files(Arena *a, int *n) {
    char **list = NULL;
    int cap = 0;
    DIR *dir = opendir("tests/errors");
    for (struct dirent *f; dir && (f = readdir(dir));) {
        size_t len = strlen(f->d_name);
        if (len > 5 && !strcmp(f->d_name + len - 5, ".yaml"))
            PUSH(a, list, *n, cap, arena_strndup(a, f->d_name, len - 5));
    }
    if (dir) closedir(dir);
    if (*n) qsort(list, (size_t)*n, sizeof *list, compare);
    return list;
}

/* Loads, and evaluates what can be evaluated alone. */
static void judge(Arena *a, const char *path, Err *e) {
    Library *lib = library_new(a);
    Doc *d = doc_load(lib, path, DOC_KINDS, NULL, loc_none(), e);
    Preset preset = {0};
    Recipe recipe;
    if (d && d->kind == DOC_PRESET) preset_eval(a, d, &preset, e);
    if (d && d->kind == DOC_RECIPE) recipe_eval(a, lib, d, NULL, &recipe, e);
}

static void test_wrong(bool update) {
    Arena *names = arena_new();
    int n = 0;
    char **file = wrong_files(names, &n);
    for (int i = 0; i < n; i++) {
        Arena *a = arena_new();
        Err e = {0}, none = {0};
        judge(a, arena_printf(a, "tests/errors/%s.yaml", file[i]), &e);
        CHECK(e.set, "%s.yaml is not wrong", file[i]);
        CHECK(e.code == EXIT_MISUSE, "%s.yaml: code %d", file[i], e.code);
        const char *txt = arena_printf(a, "tests/errors/%s.txt", file[i]);
        const char *got = arena_printf(a, "%s\n", e.text);
        FILE *f = update ? fopen(txt, "w") : NULL;
        if (f) {
            fputs(got, f);
            fclose(f);
        }
        Source *want = source_read(a, txt, &none);
        CHECK(want && !strcmp(want->text, got), "%s.txt: got\n%s\nwant\n%s", file[i],
              got, want ? want->text : "(no file)");
        arena_free(a);
    }
    CHECK(n >= 120, "%d wrong files", n);
    arena_free(names);
}

/* ---- searching ---- */
static void write_text(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    CHECK(f, "cannot write %s", path);
    if (!f) return;
    fputs(text, f);
    fclose(f);
}

static const char *loaded_from(Arena *a, const char *name, DocKind want) {
    Err e = {0};
    Doc *d = doc_load(library_new(a), name, want, NULL, loc_none(), &e);
    return d ? d->src->path : arena_strdup(a, e.text);
}

static void test_search(void) {
    Arena *a = arena_new();
    char dir[] = "/tmp/graphrun_doc_XXXXXX";
    CHECK(mkdtemp(dir), "no temporary folder");
    const char *folder = arena_printf(a, "%s/presets", dir);
    const char *path = arena_printf(a, "%s/sine.yaml", folder);
    CHECK(rmdir(dir) == 0, "%s", dir);
    const char *make = arena_printf(a, "mkdir -p %s", folder);
    CHECK(system(make) == 0, "%s", make);
    write_text(path, "preset: sine\nblocks: [A]\nvalues: {lr: 1}\n");
    const char *got = loaded_from(a, "sine", DOC_PRESET);
    CHECK(!strcmp(got, "graphs/presets/sine.yaml"), "%s", got);
    setenv("GRAPHRUN_GRAPHS", dir, 1);
    got = loaded_from(a, "sine", DOC_PRESET);
    CHECK(!strcmp(got, path), "%s", got);
    unsetenv("GRAPHRUN_GRAPHS");
    got = loaded_from(a, path, DOC_KINDS);
    CHECK(!strcmp(got, path), "%s", got);
    got = loaded_from(a, "sien", DOC_PRESET);
    CHECK(!strcmp(got, "error: no preset 'sien'; did you mean 'sine'?"), "%s", got);
    got = loaded_from(a, "no/such.yaml", DOC_PRESET);
    CHECK(!strcmp(got, "error: no file 'no/such.yaml'"), "%s", got);
    got = loaded_from(a, path, DOC_RECIPE);
    CHECK(strstr(got, "is a preset, want a recipe"), "%s", got);
    got = loaded_from(a, "networks/../presets/./sine.yaml", DOC_KINDS);
    CHECK(!strcmp(got, "graphs/presets/sine.yaml"), "%s", got);
    unlink(path);
    rmdir(folder);
    rmdir(dir);
    arena_free(a);
}

/* A shipped file answers to its `also` names, and to any spelling. */
static void test_also(void) {
    static const struct {
        const char *name;
        DocKind kind;
        const char *want;
    } cases[] = {
        {"SGDNesterov", DOC_OPTIMIZER, "graphs/optimizers/sgd-nesterov.yaml"},
        {"PagedAdamW", DOC_OPTIMIZER, "graphs/optimizers/adamw.yaml"},
        {"k_euler_a", DOC_SAMPLER, "graphs/samplers/euler_a.yaml"},
        {"dpmsolver++", DOC_SAMPLER, "graphs/samplers/dpmpp_2m.yaml"},
        {"Lionn", DOC_OPTIMIZER, "error: no optimizer 'Lionn'; did you mean 'lion'?"},
        {"schedule", DOC_SAMPLER,
         "error: no sampler 'schedule' ('graphs/samplers/sched"},
    };
    Arena *a = arena_new();
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *got = loaded_from(a, cases[i].name, cases[i].kind);
        CHECK(starts_with(got, cases[i].want), "%s: got %s", cases[i].name, got);
    }
    arena_free(a);
}

static void test_once(void) {
    Arena *a = arena_new();
    Err e = {0};
    Library *lib = library_new(a);
    Doc *one =
        doc_load(lib, "graphs/networks/unet.yaml", DOC_NETWORK, NULL, loc_none(), &e);
    Doc *two = doc_load(lib, "./graphs/../graphs/networks/unet.yaml", DOC_NETWORK, NULL,
                        loc_none(), &e);
    CHECK(one && one == two, "a file is read once: %s", e.text);
    const Doc *owner;
    Doc *vae = doc_load(lib, "vae_encoder", DOC_NETWORK, NULL, loc_none(), &e);
    YNode *mid = vae ? doc_template(vae, "mid", &owner) : NULL;
    CHECK(mid && owner != vae && owner == vae->from[0], "%s", e.text);
    CHECK(vae && !doc_template(vae, "up2", &owner), "no such template");
    const char *const *names = doc_template_names(a, vae);
    CHECK(names && names[0] && !strcmp(names[0], "resnet"), "names");
    arena_free(a);
}

/* ---- arguments ---- */
typedef struct Case {
    const char *decl, *name;
    Val given;
    const char *want; /* printed value, or the message */
} Case;

static void bind_case(const Case *t) {
    Arena *a = arena_new();
    Err e = {0};
    Str s = {0};
    Source *src = source_text(a, "args.yaml", t->decl, strlen(t->decl));
    YNode *decl = yaml_parse(a, src, &e);
    Args *given = args_new(a), *out = args_new(a);
    if (t->given.kind != VAL_NONE) args_set(given, t->name, t->given);
    if (decl && args_bind(a, decl, given, "adapter 'lora'", loc_none(), out, &e))
        val_print(&s, args_get(out, t->name));
    const char *got = e.set ? e.text : s.s;
    CHECK(got && !strcmp(got, t->want), "%s %s: got %s, want %s", t->decl, t->name, got,
          t->want);
    str_free(&s);
    arena_free(a);
}

static void test_args(void) {
    static const Case cases[] = {
        {"{rank: 4, alpha: $rank}", "alpha", {0}, "4"},
        {"{rank: 4, alpha: $rank * 1.5}", "rank", {.kind = VAL_INT, .i = 7}, "7"},
        {"{rank: 4}", "rank", {.kind = VAL_WORD, .word = "8"}, "8"},
        {"{rank: 4}", "rank", {.kind = VAL_FLOAT, .f = 0.5}, "0.5"},
        {"{rank: int}", "rank", {.kind = VAL_FLOAT, .f = 8}, "8"},
        {"{rank: int}",
         "rank",
         {.kind = VAL_FLOAT, .f = 0.5},
         "error: argument 'rank' of adapter 'lora' wants an integer, got 0.5"},
        {"{rank: int}",
         "rank",
         {0},
         "error: argument 'rank' of adapter 'lora' is missing"},
        {"{rank: 4}",
         "rnak",
         {.kind = VAL_INT, .i = 7},
         "error: adapter 'lora' has no argument 'rnak'; did you mean 'rank'?"},
        {"{rank: 4}",
         "rank",
         {.kind = VAL_WORD, .word = "four"},
         "error: argument 'rank' of adapter 'lora' wants a number, got four"},
        {"{on: false}", "on", {.kind = VAL_WORD, .word = "true"}, "true"},
        {"{on: false}",
         "on",
         {.kind = VAL_INT, .i = 1},
         "error: argument 'on' of adapter 'lora' wants true or false, got 1"},
        {"{how: word}", "how", {.kind = VAL_WORD, .word = "a-b"}, "a-b"},
        {"{how: plain}", "how", {.kind = VAL_INT, .i = 3}, "3"},
        {"{file: path}", "file", {.kind = VAL_WORD, .word = "/a/$b.x"}, "/a/$b.x"},
        {"{dims: [int]}", "dims", {.kind = VAL_WORD, .word = "1,2, 3"}, "[1, 2, 3]"},
        {"{dims: [int]}", "dims", {.kind = VAL_WORD, .word = "[4, 5]"}, "[4, 5]"},
        {"{dims: [int]}",
         "dims",
         {.kind = VAL_WORD, .word = "[4, 5.5]"},
         "error: argument 'dims' of adapter 'lora' wants a list of integers, got [4, "
         "5.5]"},
        {"{dims: []}", "dims", {.kind = VAL_INT, .i = 3}, "[3]"},
        {"{x: yes}", "x", {0}, "yes"},
        {"{x: 010}", "x", {0}, "10"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) bind_case(&cases[i]);
}

/* ---- presets ---- */
static double block_number(const Preset *p, int block, const char *name) {
    double x = NAN;
    const Val *v = args_get(p->at[block], name);
    if (v) val_number(v, &x);
    return x;
}

static void test_presets(void) {
    Arena *a = arena_new();
    Err e = {0};
    Preset p = {0};
    Doc *d = doc_load(library_new(a), "uneven", DOC_PRESET, NULL, loc_none(), &e);
    CHECK(d && preset_eval(a, d, &p, &e), "%s", e.text);
    if (!d || e.set) return;
    CHECK(p.n_block == 25 && !strcmp(p.block[12], "M00"), "%d blocks", p.n_block);
    CHECK(block_number(&p, 9, "rank") == 4, "rank of IN09");
    CHECK(block_number(&p, 16, "alpha") == 1.5, "alpha of OUT03");
    CHECK(block_number(&p, 2, "lr") == 0.5 && block_number(&p, 12, "lr") == 2, "lr");
    double want = sin(1.5707963267948966 * 8 / 11) + 0.25; /* OUT03: i = 3 */
    CHECK(block_number(&p, 16, "lr") == want, "got %.17g, want %.17g",
          block_number(&p, 16, "lr"), want);
    CHECK(isnan(block_number(&p, 0, "dropout")), "a preset sets only what it names");
    arena_free(a);
}

/* ---- hostile text ---- */
static void parse_text(const char *text, size_t len) {
    Arena *a = arena_new();
    Err e = {0};
    Library *lib = library_new(a);
    Doc *d = doc_parse(lib, source_text(a, "tests/errors/fuzz.yaml", text, len), &e);
    Preset p = {0};
    Recipe r;
    if (d && d->kind == DOC_PRESET) preset_eval(a, d, &p, &e);
    if (d && d->kind == DOC_RECIPE) recipe_eval(a, lib, d, NULL, &r, &e);
    CHECK(e.set ? e.text[0] && e.code : d != NULL, "a failure without a message");
    arena_free(a);
}

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* One to four bytes replaced, removed, inserted or copied from elsewhere. */
static size_t mutate(char *text, size_t len, size_t room, uint64_t *random) {
    static const char bytes[] = "{}[]():,$*&!%#-+^.'\"|> \n\t0129ax_\x80\xff";
    int edits = 1 + (int)(next_random(random) % 4);
    while (edits--) {
        uint64_t r = next_random(random);
        size_t at = (size_t)(r >> 8) % len;
        char c = bytes[(r >> 40) % (sizeof bytes - 1)];
        if (r % 4 == 0) text[at] = c;
        if (r % 4 == 1 && len > 2) memmove(text + at, text + at + 1, --len - at);
        if (r % 4 == 2 && len + 1 < room) {
            memmove(text + at + 1, text + at, len++ - at);
            text[at] = c;
        }
        if (r % 4 == 3) text[at] = text[next_random(random) % len];
    }
    return len;
}

/* $GRAPHRUN_FUZZ: how many mutations, for long runs by hand. */
static void test_hostile(void) {
    static const char *const files[] = {
        "graphs/networks/unet.yaml",   "graphs/adapters/lokr.yaml",
        "graphs/presets/uneven.yaml",  "graphs/recipes/lora.yaml",
        "graphs/objectives/ddpm.yaml", "graphs/optimizers/adamw.yaml",
        "graphs/samplers/unipc.yaml"};
    Arena *a = arena_new();
    Err e = {0};
    uint64_t random = 1;
    const char *wish = getenv("GRAPHRUN_FUZZ");
    long rounds = wish ? atol(wish) : 2000;
    for (size_t i = 0; i < COUNT(files); i++) {
        Source *src = source_read(a, files[i], &e);
        CHECK(src, "%s", e.text);
        if (!src) continue;
        size_t step = wish ? 1 : i ? 97 : 7;
        for (size_t n = 0; n <= src->len; n += step) parse_text(src->text, n);
        char *text = NEW(a, char, src->len + 16);
        for (long k = 0; k < rounds / (long)COUNT(files) + 1; k++) {
            memcpy(text, src->text, src->len);
            parse_text(text, mutate(text, src->len, src->len + 16, &random));
        }
    }
    arena_free(a);
}

/* The JSON Schema is JSON, and has every kind of document and every op that files may use. */
static void test_schema(void) {
    Str s = {0};
    json_error_t error;
    schema_print(&s);
    json_t *root = json_loads(s.s, JSON_REJECT_DUPLICATES, &error);
    CHECK(root, "line %d: %s", error.line, error.text);
    json_t *defs = json_object_get(root, "$defs");
    for (DocKind k = 0; k < DOC_KINDS; k++)
        CHECK(json_object_get(defs, doc_kind_name(k)), "no definition of %s",
              doc_kind_name(k));
    for (int i = 0; ops[i]; i++) {
        char name[80];
        snprintf(name, sizeof name, "op_%s", ops[i]->name);
        CHECK(!json_object_get(defs, name) == !op_in_yaml(ops[i]), "%s", name);
    }
    json_decref(root);
    str_free(&s);
}

int main(int argc, char **argv) {
    unsetenv("GRAPHRUN_GRAPHS");
    test_shipped();
    test_wrong(argc > 1 && !strcmp(argv[1], "--update"));
    test_search();
    test_also();
    test_once();
    test_args();
    test_presets();
    test_schema();
    test_hostile();
    return check_done("doc");
}
