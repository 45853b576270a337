/* Modules of files put where their names point (see adapter_use.h): a list of all nodes of
 * the network by kohya's name, one recipe entry per module of a file with the arguments its
 * tensors tell, and the machinery of training from there. */
#include "cli/files/adapter_use.h"

#include <string.h>

#include "runtime/lora_blocks.h"

typedef struct Use {
    Arena *arena;
    const Graph *g;
    Net *net;
    AdapterEntry *entry;
    const AdapterFile **of; /* per entry */
    int n, cap, n_of, cap_of;
    Modules nodes; /* all that the adapter at hand could wrap */
    bool *used;
} Use;

/* Arguments are those of no module yet: only names and paths count. */
static bool list_nodes(Use *u, const AdapterFile *f, Err *e) {
    static const char *const all[] = {"**", NULL};
    AdapterTarget on = {.network = u->net->name, .pattern = all};
    AdapterEntry entry = {.doc = adapter_file_doc(f),
                          .on = &on,
                          .n_on = 1,
                          .args = args_new(u->arena),
                          .loc = loc_none()};
    Recipe r = {.adapter = &entry, .n_adapter = 1};
    u->nodes = (Modules){0};
    return modules_match(u->arena, u->g, &r, u->net, 1, &u->nodes, e);
}

static const Module *node_of(const Use *u, const char *name) {
    for (int i = 0; i < u->nodes.n; i++)
        if (!strcmp(u->nodes.item[i].name, name)) return &u->nodes.item[i];
    return NULL;
}

static double strength(const AdapterUse *use, const char *module) {
    const int slot = use->weight ? lora_block_slot(module, use->n_weight) : -1;
    return slot < 0 ? use->multiplier : use->multiplier * use->weight[slot];
}

static bool add_entry(Use *u, const AdapterUse *use, const char *module,
                      const Module *node, Err *e) {
    Args *args = args_new(u->arena);
    if (!adapter_file_args(use->file, u->arena, module, args, e)) return false;
    args_set(args, "multiplier", val_float(strength(use, module)));
    const char **pattern = NEW(u->arena, const char *, 2);
    pattern[0] = node->path;
    AdapterTarget *on = NEW(u->arena, AdapterTarget, 1);
    *on = (AdapterTarget){.network = u->net->name, .pattern = pattern};
    AdapterEntry entry = {.doc = adapter_file_doc(use->file),
                          .on = on,
                          .n_on = 1,
                          .args = args,
                          .stack = true,
                          .loc = loc_none()};
    PUSH(u->arena, u->entry, u->n, u->cap, entry);
    PUSH(u->arena, u->of, u->n_of, u->cap_of, use->file);
    return true;
}

bool adapters_use(Arena *a, const Graph *g, Net *net, const AdapterUse *use, int n,
                  bool training, bool *used, AdaptersIn *out, Err *e) {
    Use u = {.arena = a, .g = g, .net = net};
    *out = (AdaptersIn){.graph = (Graph *)g};
    int at = 0;
    for (int i = 0; i < n; i++) {
        const ModelAdapter *file = adapter_file_layers(use[i].file);
        if (!list_nodes(&u, use[i].file, e)) return false;
        for (int k = 0; k < file->n; k++, at++) {
            const Module *node = node_of(&u, file->module[k]);
            if (!node) continue;
            if (used) used[at] = true;
            if (!add_entry(&u, &use[i], file->module[k], node, e)) return false;
        }
    }
    if (!u.n) return true;
    Recipe r = {.adapter = u.entry, .n_adapter = u.n};
    if (!modules_match(a, g, &r, net, 1, &out->modules, e)) return false;
    out->graph = adapters_inject(g, &out->modules, training, e);
    out->of = NEW(a, const AdapterFile *, out->modules.n + 1);
    for (int i = 0, k = 0; i < out->modules.n; i++, k++) {
        while (strcmp(u.entry[k].on->pattern[0], out->modules.item[i].path)) k++;
        out->of[i] = u.of[k]; /* entries make one module each, or none */
    }
    return out->graph != NULL;
}

static bool fill_module(Arena *a, const AdaptersIn *in, int i, Exec *x, Err *e) {
    const TensorFile *f = adapter_file_layers(in->of[i])->file;
    SavedTensor *saved;
    int n;
    if (!module_saved(a, &in->modules.item[i], in->graph, "kohya", &saved, &n, e))
        return false;
    for (int k = 0; k < n; k++) {
        if (saved[k].value == NO_ID) continue;
        const char *name = in->graph->value[saved[k].value]->name;
        const TensorEntry *t = tensors_find(f, saved[k].key);
        const int64_t count = type_count(&saved[k].type);
        if (!t || type_count(&t->type) != count)
            return err_fail(e, "'%s': tensor '%s' is %s, want %s for this model",
                            f->path, saved[k].key,
                            t ? type_text(a, &t->type) : "missing",
                            type_text(a, &saved[k].type));
        float *data = NEW(a, float, count);
        convert(data, F32, t->data, t->type.dtype, count);
        if (exec_type(x, name) &&
            !exec_write(x, name, data, (size_t)count * sizeof *data, e))
            return false;
    }
    return true;
}

bool adapters_fill(const AdaptersIn *in, Exec *x, Err *e) {
    bool ok = true;
    for (int i = 0; ok && i < in->modules.n; i++) {
        Arena *a = arena_new();
        ok = fill_module(a, in, i, x, e);
        arena_free(a);
    }
    return ok;
}
