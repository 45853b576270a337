/* The norm of a module (language.md says `norm:` of an adapter): what the module adds to
 * the wrapped weight, made from its tensors alone, so that a step can bound its length.
 *
 * Only formulas, views and products of the module's own tensors stand here: nothing of the
 * wrapped node, no draw, no tensor of its own. What comes out is linear in each of the
 * tensors under `scale`, so that n of them, each times r^(1/n), make it r times as long. */
#include "graph/lang/build_private.h"

#include <string.h>

static int tensor_of(const Module *m, const char *name) {
    for (int i = 0; i < m->n_tensor; i++)
        if (!strcmp(m->tensor[i].name, name)) return i;
    return -1;
}

bool module_norm(Build *b, const Module *m, const Id *now, ModuleNorm *out, Err *e) {
    const YNode *norm = yaml_get(m->adapter->root, "norm");
    if (!norm)
        return err_at(e, m->loc,
                      "adapter '%s' has no 'norm', which scale_weight_norms limits",
                      m->adapter->name);
    Ctx c = ctx_new(b, m->root);
    Level l = {
        .doc = m->adapter, .scope = scope_new(c.a), .args = m->args, .prefix = "norm."};
    for (int i = 0; i < m->n_tensor; i++) scope_set(l.scope, m->tensor[i].name, now[i]);
    const YNode *nodes = yaml_get(norm, "nodes"), *of = yaml_get(norm, "of");
    const YNode *scale = yaml_get(norm, "scale");
    *out = (ModuleNorm){.scale = NEW(c.a, int, scale->n + 1)};
    b->g->at.path = full_path(&c, "norm");
    b->g->at.loc = of->loc;
    if ((nodes && !run_nodes(&c, &l, nodes, e)) || !stacks_empty(&c, norm->loc, e) ||
        !formula_eval(&c, &l, of, &out->of, e))
        return false;
    for (int i = 0; i < scale->n; i++) {
        int at = tensor_of(m, scale->item[i]->s);
        if (at >= 0) out->scale[out->n_scale++] = at;
    }
    return out->n_scale > 0 || err_at(e, scale->loc,
                                      "module '%s' has none of the tensors that "
                                      "'scale' names",
                                      m->root);
}
