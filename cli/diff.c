/* `graphrun diff A B`: what differs between two files of one kind. A kind is a row of the
 * table: how it is recognised, and what compares two of them. The first row that both files
 * are of counts. */
#include "cli/diff.h"

#include <math.h>
#include <string.h>

static const DiffKind kinds[] = {
    {"a plan", diff_is_plan, diff_plan},
    {"a LoRA file", diff_is_lora, diff_lora},
    {"a file of tensors", diff_is_tensors, diff_tensors},
};

static const DiffKind *kind_of(const char *path) {
    for (size_t i = 0; i < COUNT(kinds); i++)
        if (kinds[i].is(path)) return &kinds[i];
    return NULL;
}

static bool compare(const Common *c, const DiffFiles *f, Err *e) {
    for (size_t i = 0; i < COUNT(kinds); i++)
        if (kinds[i].is(f->a) && kinds[i].is(f->b)) return kinds[i].diff(c, f, e);
    const DiffKind *x = kind_of(f->a), *y = kind_of(f->b);
    if (x && y)
        return err_fail(e, "'%s' is %s, '%s' is %s: want two of one kind", f->a,
                        x->what, f->b, y->what);
    /* the reason why it cannot be read at all */
    TensorFile *t = tensors_open(x ? f->b : f->a, e);
    tensors_close(t);
    return t && err_fail(e, "'%s' is nothing that can be compared", x ? f->b : f->a);
}

/* ---- what comparisons have in common ---- */

bool diff_same_bytes(const TensorEntry *x, const TensorEntry *y) {
    return type_equal(&x->type, &y->type) &&
           !memcmp(x->data, y->data, type_bytes(&x->type));
}

double diff_relative(double square, double of) {
    return square == 0 ? 0 : of > 0 ? sqrt(square / of) : INFINITY;
}

void diff_ratio(Str *s, double x) {
    if (isfinite(x))
        str_double(s, x);
    else
        str_add(s, "null");
}

typedef void PutMeta(Str *s, const char *key, const char *a, const char *b);

static void each_meta(Str *s, const TensorFile *a, const TensorFile *b, PutMeta *put) {
    for (int i = 0; i < a->n_meta; i++) {
        const char *other = tensors_meta(b, a->meta_key[i]);
        if (!other || strcmp(other, a->meta_value[i]))
            put(s, a->meta_key[i], a->meta_value[i], other);
    }
    for (int i = 0; i < b->n_meta; i++)
        if (!tensors_meta(a, b->meta_key[i]))
            put(s, b->meta_key[i], NULL, b->meta_value[i]);
}

static void put_shown(Str *s, const char *value) {
    enum { MOST_SHOWN = 60 };
    str_printf(s, "%.*s%s", MOST_SHOWN, value ? value : "(not there)",
               value && strlen(value) > MOST_SHOWN ? "..." : "");
}

static void meta_line(Str *s, const char *key, const char *a, const char *b) {
    str_printf(s, "  %s: ", key);
    put_shown(s, a);
    str_add(s, " | ");
    put_shown(s, b);
    str_add(s, "\n");
}

static void meta_key(Str *s, const char *key, const char *a, const char *b) {
    (void)a, (void)b;
    str_add(s, s->n ? ", " : "");
    str_json(s, key);
}

void diff_meta_text(Str *s, const TensorFile *a, const TensorFile *b) {
    Str lines = {0};
    each_meta(&lines, a, b, meta_line);
    if (lines.n) str_printf(s, "metadata\n%s", lines.s);
    str_free(&lines);
}

void diff_meta_json(Str *s, const TensorFile *a, const TensorFile *b) {
    Str keys = {0};
    each_meta(&keys, a, b, meta_key);
    str_printf(s, "\"metadata\": [%s]", keys.n ? keys.s : "");
    str_free(&keys);
}

/* ---- the command ---- */

typedef struct Diff {
    const char *adapter, *sd_model;
} Diff;

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)given;
    const Diff *o = opts;
    const DiffFiles f = {words->word[0], words->word[1], o->adapter, o->sd_model};
    bool ok = f.adapter && !f.base ? err_usage(e, "--adapter wants a model, --sd_model")
              : f.base             ? diff_adapters(c, &f, e)
                                   : compare(c, &f, e);
    return ok ? EXIT_DONE : e->code;
}

static const Diff defaults = {NULL, NULL};
static const Opt options[] = {
    OPT(Diff, TEXT, sd_model, "FILE",
        "compare two adapters of any kind by what they change in this model's weights"),
    OPT(Diff, TEXT, adapter, "GRAPH",
        "with --sd_model: the adapters' graph file; without it their keys tell"),
    OPT_END,
};

const Command cmd_diff = {
    .name = "diff",
    .args = "A B",
    .doc = "Show what differs between two LoRA files, files of tensors, or plans.",
    .options = options,
    .size = sizeof(Diff),
    .defaults = &defaults,
    .min_words = 2,
    .max_words = 2,
    .run = run,
};
