/* libFuzzer entry: any bytes as a graph file. Places lie in the text that was given; a
 * document that was taken is evaluated as far as it can be alone (presets, recipes), and
 * every failure has a message and the code of misuse. */
#include <string.h>

#include "graph/lang/doc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_place(const Source *src, const Loc *l) {
    if (l->src != src || !l->line || !l->col || l->line > src->len + 1 ||
        l->col > src->len + 1)
        __builtin_trap();
}

/* Every node's place, and of scalars every character's. */
static void check_tree(const Source *src, const YNode *n) {
    check_place(src, &n->loc);
    if (n->at > src->len) __builtin_trap();
    if (n->kind == Y_SCALAR) {
        YPlace walk = yaml_place(n);
        size_t len = strlen(n->s);
        for (size_t i = 0; i <= len; i++) {
            Loc at = yaml_place_at(&walk, i, 1);
            check_place(src, &at);
        }
    }
    for (int i = 0; i < n->n; i++) {
        if (n->kind == Y_MAP) {
            check_tree(src, n->key[i]);
            if (yaml_get(n, n->key[i]->s) != n->item[i]) __builtin_trap();
        }
        check_tree(src, n->item[i]);
    }
}

static void evaluate(Arena *a, const Source *src) {
    Library *lib = library_new(a);
    Err e = {0};
    Preset preset = {0};
    Recipe recipe;
    const Doc *d = doc_parse(lib, src, &e);
    bool ok = d != NULL;
    if (ok && d->kind == DOC_PRESET) ok = preset_eval(a, d, &preset, &e);
    if (ok && d->kind == DOC_RECIPE) ok = recipe_eval(a, lib, d, NULL, &recipe, &e);
    if (ok == e.set || (!ok && e.code != EXIT_MISUSE)) __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Arena *a = arena_new();
    const Source *src = source_text(a, "fuzz.yaml", (const char *)data, n);
    Err e = {0};
    const YNode *root = yaml_parse(a, src, &e);
    if (root) check_tree(src, root);
    if (!root && (!e.set || e.code != EXIT_MISUSE)) __builtin_trap();
    if (root) evaluate(a, src);
    arena_free(a);
    return 0;
}
