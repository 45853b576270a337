/* `graphrun diff A B`: what differs between two files of one kind. A kind is a row of the
 * table: how it is recognised, and what compares two of them. The first row that both files
 * are of counts. */
#include "cli/files/diff.h"

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
