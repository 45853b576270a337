/* Adapters described by their graph file, merged by running it (language.md section 7).
 *
 * A module's arguments come from its tensors; its graph around the one layer says whether
 * the file holds exactly what such a module saves. `output: {weight: v}` gives the new
 * weight itself. Everything else is asked by unit inputs: what a layer answers to them are
 * the columns of its weight, what it answers to zeros is its bias. */
#include "cli/files/adapter_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/files/adapted_node.h"
#include "io/lora_read.h"

enum { SAMPLES = 256 }; /* unit inputs in one run */

struct AdapterFile {
    Arena *arena;
    TensorFile *file;
    Library *library;
    const Doc *doc;
    const Args *args;
    const char **module;
    int n, cap;
    ModelAdapter layers;
};

/* ---- the file's modules ---- */

size_t adapter_module_bytes(const char *key) {
    const char *dot = strchr(key, '.');
    return dot && !strncmp(key, "lora_", 5) ? (size_t)(dot - key) : 0;
}

/* Entries are sorted, and '.' comes before every other letter of a name: those of a module
 * follow each other. Keys without a module belong to all of them. */
static void list_modules(AdapterFile *f) {
    for (int i = 0; i < f->file->n; i++) {
        const char *key = f->file->entry[i].name;
        const size_t n = adapter_module_bytes(key);
        const char *last = f->n ? f->module[f->n - 1] : "";
        if (!n || (strlen(last) == n && !strncmp(last, key, n))) continue;
        PUSH(f->arena, f->module, f->n, f->cap, arena_strndup(f->arena, key, n));
    }
}

int adapter_file_first(const TensorFile *f, const char *module) {
    const size_t n = strlen(module);
    int low = 0, high = f->n;
    while (low < high) {
        const int mid = low + (high - low) / 2;
        const char *key = f->entry[mid].name;
        const int d = strncmp(key, module, n);
        if (d < 0 || (!d && key[n] < '.'))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

bool adapter_file_of(const TensorFile *f, int i, const char *module) {
    const size_t n = strlen(module);
    return i < f->n && adapter_module_bytes(f->entry[i].name) == n &&
           !strncmp(f->entry[i].name, module, n);
}

/* What there is of one module. */
static StoredTensor *stored(const AdapterFile *f, Arena *a, const char *module,
                            int *n) {
    StoredTensor *out = NULL;
    int cap = 0;
    *n = 0;
    for (int i = adapter_file_first(f->file, module);
         adapter_file_of(f->file, i, module); i++) {
        const TensorEntry *x = &f->file->entry[i];
        StoredTensor t = {.key = x->name + strlen(module) + 1, .type = x->type};
        if (type_count(&x->type) == 1)
            convert(&t.number, F64, x->data, x->type.dtype, 1);
        PUSH(a, out, *n, cap, t);
    }
    return out;
}

/* ---- one module in its graph ---- */

typedef struct Probe {
    Arena *arena;
    AdaptedNode node;
    Args *dims;
    const char *module;
    SavedTensor *saved;
    int n_saved;
    const AdaptedLayer *layer;
} Probe;

static const char *real_key(Arena *a, const char *module, const char *key) {
    return strncmp(key, "node.", 5) ? key : arena_printf(a, "%s.%s", module, key + 5);
}

/* Does the file hold what such a module saves, and nothing else of it? */
static bool holds(const AdapterFile *f, Probe *p, const StoredTensor *t, int n,
                  Err *e) {
    const YNode *absent = yaml_get(f->doc->root, "absent");
    int used = 0;
    for (int i = 0; i < p->n_saved; i++) {
        const SavedTensor *s = &p->saved[i];
        const char *key = real_key(p->arena, p->module, s->key);
        const TensorEntry *x = tensors_find(f->file, key);
        const bool may_lack = s->value == NO_ID && absent &&
                              !strncmp(s->key, "node.", 5) &&
                              yaml_get(absent, s->key + 5);
        if (!x && !may_lack)
            return err_fail(e, "'%s': adapter '%s' wants a tensor '%s'", f->file->path,
                            f->doc->name, key);
        if (x && (!dtype_is_float(x->type.dtype) && type_count(&x->type) != 1))
            return err_fail(e, "'%s': '%s' is %s, want floating-point numbers",
                            f->file->path, key, type_text(p->arena, &x->type));
        if (x && type_count(&x->type) != type_count(&s->type))
            return err_fail(e, "'%s': '%s' is %s, want %s of adapter '%s'",
                            f->file->path, key, type_text(p->arena, &x->type),
                            type_text(p->arena, &s->type), f->doc->name);
        used += x && adapter_module_bytes(key);
    }
    for (int i = 0; i < n && used < n; i++) {
        bool known = false;
        for (int k = 0; k < p->n_saved && !known; k++)
            known = !strncmp(p->saved[k].key, "node.", 5) &&
                    !strcmp(p->saved[k].key + 5, t[i].key);
        if (!known)
            return err_fail(e, "'%s': '%s.%s' is no tensor of adapter '%s'",
                            f->file->path, p->module, t[i].key, f->doc->name);
    }
    return true;
}

bool adapter_file_args(const AdapterFile *f, Arena *a, const char *module, Args *out,
                       Err *e) {
    int n;
    const StoredTensor *t = stored(f, a, module, &n);
    for (int i = 0; f->args && i < f->args->n; i++)
        args_set(out, f->args->name[i], f->args->val[i]);
    return module_args_read(a, f->doc, "kohya", t, n, out, e);
}

static bool probe_build(const AdapterFile *f, Probe *p, int64_t samples, Err *e) {
    int n;
    const StoredTensor *t = stored(f, p->arena, p->module, &n);
    Args *args = args_new(p->arena);
    if (!adapter_file_args(f, p->arena, p->module, args, e)) return false;
    const Type *w = &p->layer->weight;
    p->node = (AdaptedNode){.arena = p->arena,
                            .library = f->library,
                            .adapter = f->doc,
                            .args = args,
                            .weight = *w,
                            .points = true,
                            .stride = 1};
    if (p->layer->b) p->node.bias = type_of(F32, 1, w->dim);
    p->dims = args_new(p->arena);
    args_set(p->dims, "B", val_int(samples));
    args_set(p->dims, "C", val_int(w->dim[1]));
    if (adapted_node_is_conv(&p->node)) {
        args_set(p->dims, "H", val_int(w->dim[2]));
        args_set(p->dims, "W", val_int(w->dim[3]));
    } else {
        args_set(p->dims, "N", val_int(1));
    }
    if (!adapted_node_build(&p->node, p->dims, NULL, e)) return false;
    if (!p->node.modules.n)
        return err_fail(e, "adapter '%s' makes no module of '%s'", f->doc->name,
                        p->module);
    return module_saved(p->arena, &p->node.modules.item[0], p->node.graph, "kohya",
                        &p->saved, &p->n_saved, e) &&
           holds(f, p, t, n, e);
}

/* ---- running it ---- */

static bool find_weight(void *ctx, const char *name, Tensor *out) {
    Probe *p = ctx;
    const bool weight = !strcmp(name, "node.node.weight");
    if (!weight && strcmp(name, "node.node.bias")) return false;
    *out = (Tensor){weight ? p->layer->w : p->layer->b,
                    weight ? &p->node.weight : &p->node.bias};
    return true;
}

static bool write_tensors(const AdapterFile *f, Probe *p, Exec *x, Err *e) {
    for (int i = 0; i < p->n_saved; i++) {
        const SavedTensor *s = &p->saved[i];
        if (s->value == NO_ID) continue;
        const char *name = p->node.graph->value[s->value]->name;
        const TensorEntry *t =
            tensors_find(f->file, real_key(p->arena, p->module, s->key));
        const int64_t n = type_count(&t->type);
        float *data = NEW(p->arena, float, n);
        convert(data, F32, t->data, t->type.dtype, n);
        if (exec_type(x, name) && /* else nothing depends on it */
            !exec_write(x, name, data, (size_t)n * sizeof *data, e))
            return false;
    }
    return true;
}

/* The layer's output and its weight in the graph; NO_ID: the adapter gives no weight. */
static Id new_weight(const AdapterFile *f, const Graph *g) {
    const YNode *out = yaml_get(f->doc->root, "output");
    if (!out || !out->n || strcmp(out->key[0]->s, "weight")) return NO_ID;
    const Value *y = g->value[graph_output_find(g, "y")];
    const Node *n = y->node == NO_ID ? NULL : g->node[y->node];
    for (int i = 0; n && n->op->in[i].name; i++)
        if (!strcmp(n->op->in[i].name, "weight")) return n->in[i];
    return NO_ID;
}

typedef struct Run {
    Store *store;
    Exec *exec;
} Run;

static void run_close(Run *r) {
    if (r->exec) exec_close(r->exec);
    if (r->store) store_close(r->store);
}

static bool run_open(const AdapterFile *f, Probe *p, Device *dev, Run *r, Err *e) {
    Options opt = {.net = &p->node.net, .n_net = 1, .dims = p->dims};
    WeightSource source = {p, find_weight};
    Graph *g = passes_run(p->node.graph, &opt, "infer-shapes", e);
    Plan *plan = g ? plan_lower(g, &opt, e) : NULL;
    if (!plan) return false;
    r->store = store_open(dev, &source, 0);
    r->exec = exec_open(r->store, plan, e);
    return r->exec && write_tensors(f, p, r->exec, e);
}

static void mix(float *old, const float *now, double ratio, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        old[i] =
            ratio == 1 ? now[i] : (float)(old[i] + ratio * ((double)now[i] - old[i]));
}

/* output: {weight: v}: the bias stays */
static bool take_weight(const AdapterFile *f, Probe *p, Id weight, double ratio,
                        AdaptedLayer *l, Device *dev, Err *e) {
    Graph *g = p->node.graph;
    g->n_output = 0;
    graph_output(g, "weight", weight);
    const int64_t n = type_count(&l->weight);
    float *now = NEW(p->arena, float, n);
    Run r = {0};
    bool ok = run_open(f, p, dev, &r, e);
    if (ok) exec_run(r.exec);
    ok = ok && exec_read(r.exec, "weight", now, (size_t)n * sizeof *now, e);
    if (ok) mix(l->w, now, ratio, n);
    run_close(&r);
    return ok;
}

/* ---- asking by unit inputs ---- */

typedef struct Asked {
    Run run;
    NodeAsk node;
    int64_t in, taps; /* node.row = in * taps */
    float *zero;      /* [out]: the answer to zeros */
} Asked;

static bool affine(Asked *q, const AdapterFile *f, const char *module, Err *e) {
    double off, size;
    return node_affine(&q->node, q->zero, &off, &size, e) &&
           (node_is_affine(off, size) ||
            err_fail(
                e,
                "'%s': adapter '%s' is not affine in its input on '%s' (off by %.3g "
                "of %.3g): no weight can stand for it",
                f->file->path, f->doc->name, module, off, size));
}

/* Columns of the new weight: input j of [in, taps] in the file's order is at `taps` in
 * channels-last. */
static bool ask_columns(Asked *q, float *w, Err *e) {
    NodeAsk *node = &q->node;
    const int64_t row = node->row, out = node->out;
    for (int64_t at = 0; at < row; at += SAMPLES) {
        const int64_t n = row - at < SAMPLES ? row - at : SAMPLES;
        memset(node->x, 0, sizeof *node->x * (size_t)(SAMPLES * row));
        for (int64_t j = 0; j < n; j++) {
            const int64_t c = (at + j) / q->taps, tap = (at + j) % q->taps;
            node->x[j * row + tap * q->in + c] = 1;
        }
        if (!node_ask(node, e)) return false;
        for (int64_t j = 0; j < n; j++)
            for (int64_t o = 0; o < out; o++)
                w[o * row + at + j] = node->y[j * out + o] - q->zero[o];
    }
    return true;
}

static bool take_answers(const AdapterFile *f, Probe *p, double ratio, bool bias_only,
                         AdaptedLayer *l, Device *dev, Err *e) {
    const int64_t out = l->weight.dim[0], row = type_count(&l->weight) / out;
    Asked q = {.in = l->weight.dim[1], .taps = row / l->weight.dim[1]};
    q.zero = NEW(p->arena, float, out);
    float *w = bias_only ? NULL : NEW(p->arena, float, out *row);
    bool ok = run_open(f, p, dev, &q.run, e);
    if (ok) q.node = node_ask_new(p->arena, q.run.exec, &l->weight, SAMPLES);
    ok = ok && affine(&q, f, p->module, e) && (bias_only || ask_columns(&q, w, e));
    for (int64_t o = 0; ok && !l->b && o < out; o++)
        if (q.zero[o] != 0)
            ok = err_fail(e,
                          "'%s': adapter '%s' wants a bias in '%s', and that layer has "
                          "none",
                          f->file->path, f->doc->name, p->module);
    run_close(&q.run);
    if (ok && w) mix(l->w, w, ratio, out * row);
    if (ok && l->b) mix(l->b, q.zero, ratio, out);
    return ok;
}

static bool apply(void *ctx, const char *module, double ratio, bool bias_only,
                  AdaptedLayer *l, Device *dev, Err *e) {
    const AdapterFile *f = ctx;
    Probe p = {.arena = arena_new(), .module = module, .layer = l};
    bool ok = probe_build(f, &p, SAMPLES, e);
    const Id weight = ok ? new_weight(f, p.node.graph) : NO_ID;
    if (ok && weight == NO_ID)
        ok = take_answers(f, &p, ratio, bias_only, l, dev, e);
    else if (ok && !bias_only)
        ok = take_weight(f, &p, weight, ratio, l, dev, e);
    if (!ok) err_note(e, "note: module '%s' of '%s'", module, f->file->path);
    arena_free(p.arena);
    return ok;
}

/* ---- which adapter ---- */

static bool fits_all(AdapterFile *f, const Doc *d) {
    bool ok = true;
    for (int i = 0; ok && i < f->n; i++) {
        Arena *a = arena_new();
        int n;
        const StoredTensor *t = stored(f, a, f->module[i], &n);
        ok = module_keys_fit(d, "kohya", t, n);
        arena_free(a);
    }
    return ok;
}

/* The shipped adapter that the keys fit; NULL with names of none or several. */
static const Doc *fitting(AdapterFile *f, Str *names, Err *e) {
    const Doc *found = NULL;
    int n = 0;
    for (const char *const *s = doc_shipped(f->arena, DOC_ADAPTER); *s; s++) {
        const Doc *d = doc_load(f->library, *s, DOC_ADAPTER, NULL, loc_none(), e);
        if (!d) return NULL;
        if (!fits_all(f, d)) continue;
        str_printf(names, "%s%s", n++ ? ", " : "", d->name);
        found = d;
    }
    return n == 1 ? found : NULL;
}

static const Doc *told_by_keys(AdapterFile *f, Err *e) {
    Str names = {0};
    const Doc *found = fitting(f, &names, e);
    if (!found && !e->set && !names.n)
        err_fail(e,
                 "'%s': its tensors ('%s', ...) fit no adapter that is known here: "
                 "--adapter FILE names its graph file",
                 f->file->path, f->file->n ? f->file->entry[0].name : "");
    else if (!found && !e->set)
        err_fail(e, "'%s' may be of several adapters, %s: --adapter says which",
                 f->file->path, names.s);
    str_free(&names);
    return found;
}

static AdapterFile *adapter_file_new(TensorFile *file, const Args *args) {
    Arena *a = arena_new();
    AdapterFile *f = NEW(a, AdapterFile, 1);
    *f = (AdapterFile){
        .arena = a, .file = file, .library = library_new(a), .args = args};
    list_modules(f);
    f->layers = (ModelAdapter){file, f->module, f->n, f, apply};
    return f;
}

const char *adapter_word(const WordList *words, int i) {
    if (!words->n) return NULL;
    const char *word = words->word[words->n > 1 ? i : 0];
    return strcmp(word, "auto") ? word : NULL;
}

AdapterFile *adapter_file_open(TensorFile *file, const char *adapter, const Args *args,
                               Err *e) {
    AdapterFile *f = adapter_file_new(file, args);
    if (!adapter && lora_only(file)) adapter = "lora";
    if (!f->n)
        err_fail(e,
                 "'%s' holds no modules of an adapter by kohya's names (lora_unet_..., "
                 "lora_te_...)%s%s%s",
                 file->path, file->n ? "; its first tensor is '" : "",
                 file->n ? file->entry[0].name : "", file->n ? "'" : "");
    else
        f->doc = adapter
                     ? doc_load(f->library, adapter, DOC_ADAPTER, NULL, loc_none(), e)
                     : told_by_keys(f, e);
    if (f->doc) return f;
    adapter_file_close(f);
    return NULL;
}

AdapterFile *adapter_file_at(const char *path, const char *adapter, const Args *args,
                             Err *e) {
    TensorFile *t = tensors_open(path, e);
    return t ? adapter_file_open(t, adapter, args, e) : NULL;
}

AdapterFile *adapter_file_show(TensorFile *file, const char **fits, Err *e) {
    AdapterFile *f = adapter_file_new(file, NULL);
    Str names = {0};
    f->doc = fitting(f, &names, e);
    *fits = arena_strdup(f->arena, names.n ? names.s : "");
    str_free(&names);
    if (!e->set) return f;
    adapter_file_close(f);
    return NULL;
}

bool adapter_file_is(const TensorFile *f) {
    for (int i = 0; i < f->n; i++)
        if (adapter_module_bytes(f->entry[i].name) && !lora_is_part(f->entry[i].name))
            return true;
    return false;
}

void adapter_file_close(AdapterFile *f) {
    if (!f) return;
    tensors_close(f->file);
    arena_free(f->arena);
}

const ModelAdapter *adapter_file_layers(const AdapterFile *f) {
    return &f->layers;
}

const Doc *adapter_file_doc(const AdapterFile *f) {
    return f->doc;
}
