/* Files of textual inversion (Gal et al. 2022; see generate.h): vectors that stand for a word
 * of their own in prompts. The word is the file's name without ending, as in sd-scripts.
 * Forms: "emb_params" or a name in angle brackets in safetensors, what AUTOMATIC1111 and
 * Diffusers pickle; in all of them one tensor, [vectors, width] or [width]. */
#include <string.h>

#include "cli/files/file_tool.h"
#include "cli/generate/generate.h"

enum { MOST_VECTORS = 75 }; /* more do not fit into a chunk of a prompt */

static bool vectors(Generate *g, const TensorFile *t, DrawWord *out, Err *e) {
    const TensorEntry *x = t->entry;
    if (t->n != 1)
        return err_fail(e, "'%s': %d tensors, want one, textual inversion's", t->path,
                        t->n);
    const int64_t n = x->type.rank == 2 ? x->type.dim[0] : 1;
    if (x->type.rank < 1 || x->type.rank > 2 || n < 1 || n > MOST_VECTORS)
        return err_fail(e, "'%s': '%s' is %s, want 1 to %d vectors", t->path, x->name,
                        type_text(g->arena, &x->type), MOST_VECTORS);
    float *row = NEW(g->arena, float, type_count(&x->type));
    convert(row, F32, x->data, x->type.dtype, type_count(&x->type));
    *out = (DrawWord){.text = meta_base_name(g->arena, t->path),
                      .path = arena_strdup(g->arena, t->path),
                      .row = row,
                      .n = n,
                      .width = type_count(&x->type) / n};
    return true;
}

bool generate_words(Generate *g, DrawWord **out, Err *e) {
    const WordList *files = &g->o->textual_inversion_embeddings;
    *out = NEW(g->arena, DrawWord, files->n + 1);
    for (int i = 0; i < files->n; i++) {
        TensorFile *t = tensors_open(files->word[i], e);
        const bool ok = t && vectors(g, t, &(*out)[i], e);
        if (t) tensors_close(t);
        if (!ok) return false;
    }
    return true;
}
