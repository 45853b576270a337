/* `graphrun diff A B`: what differs between two files of one kind. A kind is a row of the
 * table: how it is recognised, and what compares two of them. */

#include "cli/diff.h"
#include "io/tensors.h"

static const DiffKind kinds[] = {
    {"a LoRA file", diff_is_lora, diff_lora},
    {"a plan", diff_is_plan, diff_plan},
};

static const DiffKind *kind_of(const char *path) {
    for (size_t i = 0; i < COUNT(kinds); i++)
        if (kinds[i].is(path)) return &kinds[i];
    return NULL;
}

static bool compare(const Common *c, const char *a, const char *b, Err *e) {
    const DiffKind *x = kind_of(a), *y = kind_of(b);
    if (x && x == y) return x->diff(c, a, b, e);
    if (x && y)
        return err_fail(e, "'%s' is %s, '%s' is %s: want two of one kind", a, x->what,
                        b, y->what);
    const char *odd = x ? b : a;
    TensorFile *f =
        tensors_open(odd, e); /* the reason, where it cannot be read at all */
    if (!f) return false;
    tensors_close(f);
    Str known = {0};
    for (size_t i = 0; i < COUNT(kinds); i++)
        str_printf(&known, "%s%s", i ? " or " : "", kinds[i].what);
    err_fail(e, "'%s' is not %s: these can be compared", odd, known.s);
    str_free(&known);
    return false;
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)opts;
    (void)given;
    return compare(c, words->word[0], words->word[1], e) ? EXIT_DONE : e->code;
}

typedef struct Diff {
    bool none;
} Diff;
static const Diff defaults = {false};
static const Opt options[] = {OPT_END};

const Command cmd_diff = {
    .name = "diff",
    .args = "A B",
    .doc = "Show what differs between two LoRA files or two plans.",
    .options = options,
    .size = sizeof(Diff),
    .defaults = &defaults,
    .min_words = 2,
    .max_words = 2,
    .run = run,
};
