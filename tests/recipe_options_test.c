/* The shipped recipe and the option table say the same: every option of the recipe is one
 * of `graphrun train` that is honoured, with the same default, so that help tells the truth. */
#include <stdlib.h>
#include <string.h>

#include "cli/train/train_options.h"
#include "graph/lang/doc.h"
#include "tests/check.h"

static const Command train = {.name = "train", .args = "", .options = train_options};
const Command *const commands[] = {&train, NULL};

static void same_default(const Opt *o, const YNode *value) {
    Str s = {0};
    if (!opt_default(&s, o, &train_defaults) || value->s[0] == '$') {
        str_free(&s);
        return;
    }
    double want = strtod(value->s, NULL), got = strtod(s.s, NULL);
    CHECK(!strcmp(s.s, value->s) || want == got, "--%s: help says %s, the recipe %s",
          o->name, s.s, value->s);
    str_free(&s);
}

/* Options of --network_args, and those that only --set and recipes reach. */
static bool by_other_ways(Arena *a, const char *name) {
    static const char *const names[] = {
        "preset",     "block_lr_weight",    "lr_step_rules",
        "unet_up_lr", "text_encoder_up_lr", "weighted_captions_mean"};
    for (size_t i = 0; i < COUNT(names); i++)
        if (!strcmp(name, names[i])) return true;
    const char *word = arena_printf(a, "%s=1", name);
    static Err e;
    e = (Err){0};
    return train_network_args(a, &(WordList){&word, 1}, args_new(a), NULL, &e) ||
           !strstr(e.text, "unknown key");
}

int main(void) {
    Arena *a = arena_new();
    static Err e;
    const Doc *d = doc_load(library_new(a), "lora", DOC_RECIPE, NULL, loc_none(), &e);
    CHECK(d != NULL, "%s", e.text);
    const YNode *options = d ? yaml_get(d->root, "options") : NULL;
    CHECK(options && options->n > 10, "the recipe has options");
    for (int i = 0; options && i < options->n; i++) {
        const char *name = options->key[i]->s;
        if (by_other_ways(a, name)) continue;
        const Opt *o = opt_find(&train, name);
        CHECK(o != NULL, "the recipe's option '%s' is none of train's", name);
        if (!o) continue;
        CHECK(!o->ignored && !o->refused && !o->later, "--%s is not honoured", name);
        same_default(o, options->item[i]);
    }
    arena_free(a);
    return check_done("recipe_options");
}
