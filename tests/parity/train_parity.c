/* Runs a recorded mini training through the program and compares with the recorded numbers.
 *
 *   train_parity PROGRAM MODEL FOLDER CASE [OPTION...]
 *
 * OPTIONs go to the program as they are (--device cuda).
 * FOLDER/CASE.json and .safetensors as golden/nano's README describes them. Tolerances are
 * the README's for an f32 implementation: loss 1e-5 relative; outputs 1e-5 relative L2;
 * gradients 1e-3 per tensor, 1e-4 at the median; updates 2e-2 per tensor, 1e-3 at the
 * median. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/tensors.h"
#include "tests/check.h"

static Arena *arena;
static Err err;

typedef struct List {
    TensorOut *item;
    int n, cap;
} List;

static void add(List *l, const char *name, Type type, const void *data) {
    TensorOut t = {arena_strdup(arena, name), type, data};
    PUSH(arena, l->item, l->n, l->cap, t);
}

static TensorOut *find(const List *l, const char *name) {
    for (int i = 0; i < l->n; i++)
        if (!strcmp(l->item[i].name, name)) return &l->item[i];
    return NULL;
}

static void must(bool ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "%s: %s\n", what, err.text);
    exit(1);
}

/* ---- the inputs file ---- */
static bool is_input(const char *name) {
    static const char *const fields[] = {".latents", ".noise", ".timesteps",
                                         ".input_ids", ".loss_weights"};
    const char *dot = strchr(name, '.');
    for (size_t i = 0; name[0] == 'm' && dot && i < COUNT(fields); i++)
        if (!strcmp(dot, fields[i])) return true;
    return false;
}

static bool has_module(const json_t *modules, const char *key) {
    const char *dot = strchr(key, '.');
    size_t n = dot ? (size_t)(dot - key) : strlen(key), i;
    json_t *name;
    json_array_foreach(modules, i, name) {
        const char *s = json_string_value(name);
        if (strlen(s) == n && !memcmp(s, key, n)) return true;
    }
    return false;
}

/* Starting weights: the case's own, or those that it took over from another one. */
static void add_start(List *in, const json_t *j, const TensorFile *own,
                      const char *folder) {
    const char *from = json_string_value(json_object_get(j, "init_from"));
    const json_t *modules = json_object_get(j, "module_names");
    const TensorFile *src = own;
    if (from) {
        char *path =
            arena_printf(arena, "%s/%.*s", folder, (int)strcspn(from, " "), from);
        src = safetensors_open(path, &err);
        must(src != NULL, path);
    }
    bool zero_up = from && strstr(from, "set to zero");
    for (int i = 0; i < src->n; i++) {
        const TensorEntry *t = &src->entry[i];
        if (strncmp(t->name, "w0.", 3) || (from && !has_module(modules, t->name + 3)))
            continue;
        bool zero = zero_up && strstr(t->name, ".lora_up.");
        add(in, t->name, t->type,
            zero ? arena_alloc(arena, 1, type_bytes(&t->type)) : t->data);
    }
    const json_t *alphas = json_object_get(j, "alphas");
    for (size_t i = 0; i < json_array_size(alphas); i++) {
        char *key = arena_printf(arena, "w0.%s.alpha",
                                 json_string_value(json_array_get(modules, i)));
        float *x = NEW(arena, float, 1);
        *x = (float)json_number_value(json_array_get(alphas, i));
        if (!find(in, key)) add(in, key, type_scalar(F32), x);
    }
}

/* DyLoRA's first rows: per micro-batch, per module in order. */
static void add_ranks(List *in, const json_t *j) {
    const json_t *modules = json_object_get(j, "module_names");
    size_t i, k;
    json_t *row, *first;
    json_array_foreach(json_object_get(j, "rank_table"), i, row)
        json_array_foreach(row, k, first) {
        const int64_t one = 1;
        int32_t *x = NEW(arena, int32_t, 1);
        *x = (int32_t)json_integer_value(first);
        add(in,
            arena_printf(arena, "m%zu.rank.%s", i,
                         json_string_value(json_array_get(modules, k))),
            type_of(I32, 1, &one), x);
    }
}

/* ---- running ---- */
static void arg(const char ***argv, int *n, int *cap, const char *word) {
    PUSH(arena, *argv, *n, *cap, word);
}

static bool flag(const json_t *j, const char *key) {
    return json_is_true(json_object_get(j, key));
}

static const char *number(const json_t *v) {
    Str s = {0};
    str_double(&s, json_number_value(v));
    const char *text = arena_strdup(arena, s.s);
    str_free(&s);
    return text;
}

static const char **command(const json_t *j, const char *program, const char *model,
                            const char *in, const char *out, const char *folder,
                            char *const *more) {
    const char **v = NULL;
    int n = 0, cap = 0;
    const char *steps =
        arena_printf(arena, "%zu", json_array_size(json_object_get(j, "steps")));
    const char *network = json_string_value(json_object_get(j, "network"));
    const char *fixed[] = {program,
                           "train",
                           "--pretrained_model_name_or_path",
                           model,
                           "--network_module",
                           arena_printf(arena, "networks.%s", network),
                           "--network_dim",
                           number(json_object_get(j, "dim")),
                           "--network_alpha",
                           number(json_object_get(j, "alpha")),
                           "--learning_rate",
                           "0.001",
                           "--unet_lr",
                           "0.001",
                           "--text_encoder_lr",
                           "0.0005",
                           "--max_train_steps",
                           steps,
                           "--inputs",
                           in,
                           "--record",
                           out,
                           "--output_dir",
                           folder,
                           "--output_name",
                           "out"};
    for (size_t i = 0; i < COUNT(fixed); i++) arg(&v, &n, &cap, fixed[i]);
    size_t i;
    json_t *word, *extra = json_object_get(j, "network_args");
    json_array_foreach(json_object_get(j, "argv"), i, word)
        arg(&v, &n, &cap, json_string_value(word));
    const char *key;
    if (json_object_size(extra)) arg(&v, &n, &cap, "--network_args");
    json_object_foreach(extra, key, word) {
        const char *text =
            json_is_string(word) ? json_string_value(word) : number(word);
        arg(&v, &n, &cap, arena_printf(arena, "%s=%s", key, text));
    }
    if (!strcmp(network, "dylora")) {
        arg(&v, &n, &cap, "--compat");
        arg(&v, &n, &cap, "sd-scripts");
    }
    if (!flag(j, "train_text_encoder")) arg(&v, &n, &cap, "--network_train_unet_only");
    if (!flag(j, "train_unet")) arg(&v, &n, &cap, "--network_train_text_encoder_only");
    while (*more) arg(&v, &n, &cap, *more++);
    arg(&v, &n, &cap, NULL);
    return v;
}

static int run(const char **argv) {
    pid_t child = fork();
    if (!child) {
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- comparing ---- */
static double at(const TensorEntry *t, int64_t i) {
    float f;
    uint16_t h;
    if (t->type.dtype == F16) {
        memcpy(&h, (const char *)t->data + 2 * i, 2);
        return (double)half_to_float(h);
    }
    memcpy(&f, (const char *)t->data + 4 * i, 4);
    return (double)f;
}

static double norm(const TensorEntry *t) {
    double s = 0;
    for (int64_t i = 0; i < type_count(&t->type); i++) s += at(t, i) * at(t, i);
    return sqrt(s);
}

/* |a - b| / |b - base|; base NULL: 0 */
static double distance(const TensorEntry *a, const TensorEntry *b,
                       const TensorOut *base) {
    double d = 0, s = 0;
    TensorEntry start = {0};
    if (base) start = (TensorEntry){base->name, base->type, base->data};
    for (int64_t i = 0; i < type_count(&b->type); i++) {
        double x = at(a, i) - at(b, i), y = at(b, i) - (base ? at(&start, i) : 0);
        d += x * x;
        s += y * y;
    }
    return sqrt(d) / fmax(sqrt(s), 1e-30);
}

static const TensorEntry *need(const TensorFile *f, const char *key, int64_t count) {
    const TensorEntry *t = tensors_find(f, key);
    CHECK(t && type_count(&t->type) == count, "'%s' is missing or of another size",
          key);
    return t && type_count(&t->type) == count ? t : NULL;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void judge(const char *what, double *d, int n, double most, double median) {
    if (!n) return;
    qsort(d, (size_t)n, sizeof *d, ascending);
    CHECK(d[n - 1] <= most, "%s: largest %.3g, want at most %.3g", what, d[n - 1],
          most);
    CHECK(d[n / 2] <= median, "%s: median %.3g, want at most %.3g", what, d[n / 2],
          median);
    printf("  %s: largest %.2g, median %.2g of %d tensors\n", what, d[n - 1], d[n / 2],
           n);
}

static void compare_losses(const json_t *j, const TensorFile *out) {
    size_t s, m;
    json_t *step, *micro;
    int i = 0;
    double worst = 0;
    json_array_foreach(json_object_get(j, "steps"), s, step)
        json_array_foreach(json_object_get(step, "micro"), m, micro) {
        double want = json_number_value(json_object_get(micro, "loss"));
        const TensorEntry *t = need(out, arena_printf(arena, "m%d.loss", i++), 1);
        if (t) worst = fmax(worst, fabs(at(t, 0) - want) / fabs(want));
    }
    CHECK(i > 0 && worst <= 1e-5, "loss is off by %.3g, want at most 1e-5", worst);
    printf("  loss: %.2g over %d micro-batches\n", worst, i);
}

static void compare_outputs(const TensorFile *gold, const TensorFile *out) {
    static const char *const names[] = {"m0.unet_output", "m0.encoder_hidden_states"};
    for (size_t i = 0; i < COUNT(names); i++) {
        const TensorEntry *b = tensors_find(gold, names[i]);
        const TensorEntry *a = b ? need(out, names[i], type_count(&b->type)) : NULL;
        if (!a) continue;
        double d = distance(a, b, NULL);
        CHECK(d <= 1e-5, "%s is off by %.3g, want at most 1e-5", names[i], d);
        printf("  %s: %.2g\n", names[i], d);
    }
}

/* Where the true gradient is zero (a shift in front of a group norm with one channel per
 * group) the record holds rounding noise: tensors below 1e-6 of the whole are left out. */
static bool is_noise(const TensorFile *gold, const char *key, double total) {
    const TensorEntry *g = tensors_find(gold, arena_printf(arena, "g1.%s", key));
    double x = g ? norm(g) : 1;
    return g && x < 1e-6 * total;
}

static void compare_tensors(const TensorFile *gold, const TensorFile *out,
                            const List *in, size_t steps) {
    double total = 0, *g = NEW(arena, double, gold->n),
           *w = NEW(arena, double, gold->n);
    int n_g = 0, n_w = 0;
    const char *last = arena_printf(arena, "w%zu.", steps);
    for (int i = 0; i < gold->n; i++)
        if (!strncmp(gold->entry[i].name, "g1.", 3))
            total += pow(norm(&gold->entry[i]), 2);
    total = sqrt(total);
    for (int i = 0; i < gold->n; i++) {
        const TensorEntry *b = &gold->entry[i];
        bool gradient = !strncmp(b->name, "g1.", 3),
             weight = !strncmp(b->name, last, strlen(last));
        const char *key = strchr(b->name, '.') + 1;
        if ((!gradient && !weight) || !strstr(key, ".weight") ||
            is_noise(gold, key, total))
            continue;
        const TensorEntry *a = need(out, b->name, type_count(&b->type));
        TensorOut *start = find(in, arena_printf(arena, "w0.%s", key));
        if (a && gradient) g[n_g++] = distance(a, b, NULL);
        if (a && weight && start) w[n_w++] = distance(a, b, start);
    }
    CHECK(n_g && n_w, "%d gradients and %d weights to compare", n_g, n_w);
    judge("gradients", g, n_g, 1e-3, 1e-4);
    judge("updates", w, n_w, 2e-2, 1e-3);
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: train_parity PROGRAM MODEL FOLDER CASE [OPTION...]\n");
        return 2;
    }
    arena = arena_new();
    char folder[] = "/tmp/graphrun-parity-XXXXXX";
    if (!mkdtemp(folder)) return 1;
    json_error_t why;
    json_t *j =
        json_load_file(arena_printf(arena, "%s/%s.json", argv[3], argv[4]), 0, &why);
    char *path = arena_printf(arena, "%s/%s.safetensors", argv[3], argv[4]);
    TensorFile *gold = safetensors_open(path, &err);
    must(j && gold, argv[4]);
    List in = {0};
    for (int i = 0; i < gold->n; i++)
        if (is_input(gold->entry[i].name))
            add(&in, gold->entry[i].name, gold->entry[i].type, gold->entry[i].data);
    add_start(&in, j, gold, argv[3]);
    add_ranks(&in, j);
    char *in_path = arena_printf(arena, "%s/in.safetensors", folder);
    char *out_path = arena_printf(arena, "%s/record.safetensors", folder);
    must(safetensors_write(in_path, in.item, in.n, NULL, 0, &err), in_path);
    int code = run(command(j, argv[1], argv[2], in_path, out_path, folder, argv + 5));
    CHECK(code == 0, "the program ended with %d", code);
    TensorFile *out = code ? NULL : safetensors_open(out_path, &err);
    if (out) {
        compare_losses(j, out);
        compare_outputs(gold, out);
        compare_tensors(gold, out, &in, json_array_size(json_object_get(j, "steps")));
        CHECK(access(arena_printf(arena, "%s/out.safetensors", folder), R_OK) == 0,
              "no LoRA file");
        tensors_close(out);
    }
    char *clean = arena_printf(arena, "rm -r '%s'", folder);
    CHECK(system(clean) == 0, "cannot remove %s", folder);
    json_decref(j);
    tensors_close(gold);
    int status = check_done(argv[4]);
    arena_free(arena);
    return status;
}
