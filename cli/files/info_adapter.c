/* `graphrun info` of an adapter that is no plain LoRA: a table by block, or every module as
 * JSON. Which adapter it is, and which arguments its tensors tell, its graph file says;
 * nothing here knows any.
 *
 * The norm of a module is that of its tensors (single numbers, as alpha, left out). With a
 * model it is what the module changes there, weight and bias. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/files/adapter_delta.h"
#include "cli/files/file_tool.h"
#include "cli/files/info.h"
#include "runtime/exec.h"

typedef struct Shown {
    Arena *arena;
    const TensorFile *file;
    AdapterFile *adapter;
    const char *fits, *base;
    const char *const *module;
    int n;
    Args **args;    /* of each module, as its tensors tell them */
    double *square; /* of each norm */
    int64_t *parameters;
    const char **tensors; /* JSON of each module's tensors */
    int tensors_of_all;   /* that no module's name is in front of */
    int64_t parameters_of_all;
} Shown;

typedef struct Row {
    int modules;
    int64_t parameters;
    double square;
} Row;

/* ---- looking ---- */

static void look_at_tensors(Shown *s, int i) {
    Str json = {0};
    for (int k = adapter_file_first(s->file, s->module[i]);
         adapter_file_of(s->file, k, s->module[i]); k++) {
        const TensorEntry *x = &s->file->entry[k];
        const int64_t n = type_count(&x->type);
        s->parameters[i] += n == 1 ? 0 : n;
        if (n != 1 && !s->base) s->square[i] += tensor_squares(x, NULL).a;
        str_add(&json, json.n ? ", " : "");
        str_json(&json, x->name + strlen(s->module[i]) + 1);
        str_add(&json, ": ");
        str_json(&json, type_text(s->arena, &x->type));
    }
    s->tensors[i] = arena_strdup(s->arena, json.n ? json.s : "");
    str_free(&json);
}

static bool look(Shown *s, Err *e) {
    const bool known = adapter_file_doc(s->adapter) != NULL;
    for (int i = 0; i < s->n; i++) {
        s->args[i] = args_new(s->arena);
        if (known &&
            !adapter_file_args(s->adapter, s->arena, s->module[i], s->args[i], e))
            return false;
        look_at_tensors(s, i);
    }
    for (int k = 0; k < s->file->n; k++) {
        if (adapter_module_bytes(s->file->entry[k].name)) continue;
        s->tensors_of_all++;
        s->parameters_of_all += type_count(&s->file->entry[k].type);
    }
    return true;
}

static bool ask_model(Shown *s, const Common *c, Err *e) {
    BaseLayers *base = base_layers_open(s->base, e);
    Device *dev = base ? tool_device(c, NULL, e) : NULL;
    bool ok = dev != NULL;
    for (int i = 0; ok && i < s->n; i++) {
        LayerDelta d;
        ok = layer_delta(base, s->adapter, s->module[i], dev, &d, e);
        if (!ok) break;
        s->square[i] = delta_square(&d);
        free(d.x);
    }
    cpu_close(dev);
    base_layers_close(base);
    return ok;
}

/* ---- text ---- */

/* Arguments that any module of the row has, with their least and largest values. */
static void put_arguments(Str *out, const Shown *s, int row) {
    for (int a = 0; s->n && a < s->args[0]->n; a++) {
        const char *name = s->args[0]->name[a];
        double low = INFINITY, high = -INFINITY;
        for (int i = 0; i < s->n; i++) {
            double x;
            const Val *v = args_get(s->args[i], name);
            if (info_row(s->module[i]) != row || !v || !val_number(v, &x)) continue;
            low = fmin(low, x), high = fmax(high, x);
        }
        if (low > high) continue;
        str_printf(out, "%s%s", out->n ? ", " : "", name);
        info_range(out, low, high, 0);
    }
}

static void put_rows(Str *out, const Shown *s) {
    Row row[INFO_ROWS] = {0};
    double largest = 0;
    for (int i = 0; i < s->n; i++) {
        Row *r = &row[info_row(s->module[i])];
        r->modules++;
        r->parameters += s->parameters[i];
        r->square += s->square[i];
        largest = fmax(largest, sqrt(r->square));
    }
    str_printf(out, "%-6s %7s %10s %-24s %s\n", "block", "modules", "parameters",
               "arguments", s->base ? "norm of the change" : "norm of the tensors");
    for (int i = 0; i < INFO_ROWS; i++) {
        const int k = info_row_at(i);
        if (!row[k].modules) continue;
        Str arguments = {0};
        put_arguments(&arguments, s, k);
        str_printf(out, "%-6s %7d %10lld %-24s %-10.4g ", info_row_name(s->arena, k),
                   row[k].modules, (long long)row[k].parameters,
                   arguments.n ? arguments.s : "", sqrt(row[k].square));
        info_bar(out, sqrt(row[k].square), largest);
        str_add(out, "\n");
        str_free(&arguments);
    }
}

static void put_text(Str *out, const Shown *s, const InfoHashes *h) {
    const Doc *d = adapter_file_doc(s->adapter);
    int64_t all = s->parameters_of_all;
    for (int i = 0; i < s->n; i++) all += s->parameters[i];
    str_printf(out, "%s: an adapter, ", s->file->path);
    if (d)
        str_printf(out, "%s\n", d->name);
    else if (*s->fits)
        str_printf(out, "one of %s\n", s->fits);
    else
        str_add(out, "of a kind that is not known here\n");
    str_printf(out, "%d modules, %lld parameters\n", s->n, (long long)all);
    if (s->tensors_of_all)
        str_printf(out, "%d tensors, %lld parameters, belong to no single module\n",
                   s->tensors_of_all, (long long)s->parameters_of_all);
    put_rows(out, s);
    info_hashes_text(out, h);
    info_meta(out, s->file);
}

/* ---- JSON ---- */

static void put_module(Str *out, const Shown *s, int i) {
    str_add(out, "{\"name\": ");
    str_json(out, s->module[i]);
    str_add(out, ", \"block\": ");
    str_json(out, info_row_name(s->arena, info_row(s->module[i])));
    str_printf(out, ", \"parameters\": %lld, \"tensors\": {%s}, \"arguments\": {",
               (long long)s->parameters[i], s->tensors[i]);
    for (int a = 0; a < s->args[i]->n; a++) {
        double x;
        if (a) str_add(out, ", ");
        str_json(out, s->args[i]->name[a]);
        str_add(out, ": ");
        str_json_number(out, val_number(&s->args[i]->val[a], &x) ? x : NAN);
    }
    str_add(out, "}, \"norm\": ");
    str_json_number(out, sqrt(s->square[i]));
    str_add(out, "}");
}

static void put_json(Str *out, const Shown *s, const InfoHashes *h) {
    const Doc *d = adapter_file_doc(s->adapter);
    str_add(out, "{\"file\": ");
    str_json(out, s->file->path);
    str_add(out, ", \"kind\": \"adapter\", \"adapter\": ");
    if (d)
        str_json(out, d->name);
    else
        str_add(out, "null");
    str_printf(out, ", \"norms_of\": \"%s\", \"modules\": [",
               s->base ? "change" : "tensors");
    for (int i = 0; i < s->n; i++) {
        str_add(out, i ? ", " : "");
        put_module(out, s, i);
    }
    str_printf(out, "], \"tensors_of_all\": %d, \"parameters_of_all\": %lld",
               s->tensors_of_all, (long long)s->parameters_of_all);
    info_hashes_json(out, h);
    str_add(out, ", ");
    info_meta_json(out, s->file);
    str_add(out, "}\n");
}

static bool show(Shown *s, const Common *c, Err *e) {
    InfoHashes h;
    Str out = {0};
    if (!look(s, e) || (s->base && !ask_model(s, c, e)) || !info_hashes(s->file, &h, e))
        return false;
    if (c->json)
        put_json(&out, s, &h);
    else
        put_text(&out, s, &h);
    fputs(out.s, stdout);
    str_free(&out);
    return true;
}

bool info_adapter(const Common *c, TensorFile *f, const InfoAdapter *o, Err *e) {
    Shown s = {.arena = arena_new(), .file = f, .base = o->base, .fits = ""};
    s.adapter = o->base || o->adapter ? adapter_file_open(f, o->adapter, NULL, e)
                                      : adapter_file_show(f, &s.fits, e);
    if (s.adapter) {
        const ModelAdapter *m = adapter_file_layers(s.adapter);
        s.module = m->module, s.n = m->n;
        s.args = NEW(s.arena, Args *, s.n);
        s.square = NEW(s.arena, double, s.n);
        s.parameters = NEW(s.arena, int64_t, s.n);
        s.tensors = NEW(s.arena, const char *, s.n);
    }
    bool ok = s.adapter && show(&s, c, e);
    adapter_file_close(s.adapter);
    arena_free(s.arena);
    return ok;
}
