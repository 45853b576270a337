/* What `train --dry-run` prints: modules, learning-rate groups, buckets and steps, memory.
 * Nothing is written and nothing trained. */
#include <stdio.h>
#include <string.h>

#include "cli/inspect/inspect.h"
#include "cli/train/train.h"

static const char *block_name(const Trainer *t, const Module *m) {
    const Net *net = job_net(&t->job, m->network);
    const YNode *blocks = net ? yaml_get(net->doc->root, "blocks") : NULL;
    return blocks && m->block >= 0 && m->block < blocks->n ? blocks->item[m->block]->s
                                                           : NULL;
}

/* ---- JSON ---- */
static void json_number(Str *s, double x) {
    if (isnan(x))
        str_add(s, "null");
    else
        str_double(s, x);
}

static void json_module(const Trainer *t, Str *s, const Module *m) {
    double rank = args_number(m->args, "rank"),
           alpha = lora_alpha(t->arena, &t->lora, m);
    str_add(s, "{\"name\": ");
    str_json(s, m->name);
    str_printf(s, ", \"network\": \"%s\", \"path\": ", m->network);
    str_json(s, m->path);
    str_printf(s, ", \"adapter\": \"%s\", \"dim\": ", m->adapter->name);
    json_number(s, rank);
    str_add(s, ", \"alpha\": ");
    json_number(s, alpha);
    str_add(s, ", \"scale\": ");
    json_number(s, alpha / rank);
    str_printf(s, ", \"block\": %d, \"lr\": ", m->block);
    json_number(s, m->lr);
    str_add(s, ", \"tensors\": {");
    size_t skip = strlen(m->name) + 1;
    bool first = true;
    for (int i = 0; i < t->lora.n; i++) {
        const LoraTensor *l = &t->lora.item[i];
        if (l->module != m) continue;
        str_printf(s, "%s\"%s\": [", first ? "" : ", ", l->key + skip);
        for (int d = 0; d < l->type.rank; d++)
            str_printf(s, "%s%lld", d ? ", " : "", (long long)l->type.dim[d]);
        str_add(s, "]");
        first = false;
    }
    str_add(s, "}}");
}

typedef struct Group {
    double lr;
    const char *network;
    const Module *last; /* counted last: tensors of a module stand together */
    int64_t modules, parameters;
} Group;

/* Tensors of one network with one learning rate. */
static int groups(const Trainer *t, Group *g) {
    int n = 0;
    for (int i = 0; i < t->lora.n; i++) {
        const LoraTensor *l = &t->lora.item[i];
        if (!l->value) continue;
        int k = 0;
        while (k < n && (g[k].lr != l->lr || strcmp(g[k].network, l->module->network)))
            k++;
        if (k == n) g[n++] = (Group){l->lr, l->module->network, NULL, 0, 0};
        g[k].modules += g[k].last != l->module;
        g[k].last = l->module;
        g[k].parameters += type_count(&l->type);
    }
    return n;
}

static bool json_report(Trainer *t, Str *s, Err *e) {
    Group *g = NEW(t->arena, Group, t->lora.n + 1);
    int n = groups(t, g);
    str_add(s, "{\"modules\": [\n");
    for (int i = 0; i < t->modules->n; i++) {
        json_module(t, s, &t->modules->item[i]);
        str_add(s, i + 1 < t->modules->n ? ",\n" : "\n");
    }
    str_add(s, "],\n\"groups\": [");
    for (int i = 0; i < n; i++) {
        str_printf(s, "%s{\"network\": \"%s\", \"lr\": ", i ? ", " : "", g[i].network);
        json_number(s, g[i].lr);
        str_printf(s, ", \"modules\": %lld, \"parameters\": %lld}",
                   (long long)g[i].modules, (long long)g[i].parameters);
    }
    str_add(s, "],\n\"buckets\": [");
    for (int i = 0; i < t->n_shape; i++)
        str_printf(s, "%s{\"width\": %d, \"height\": %d, \"batch\": %d}", i ? ", " : "",
                   t->shape[i].w * LATENT_FACTOR, t->shape[i].h * LATENT_FACTOR,
                   t->shape[i].batch);
    const Plan *p = train_largest(t)->plan;
    str_add(s, "],\n");
    if (t->data)
        str_printf(s, "\"captions_found\": %d, \"captions_missing\": %d,\n",
                   t->data->captions_found, t->data->captions_missing);
    str_printf(s, "\"steps\": %lld, \"epochs\": %lld, \"batches_per_epoch\": %lld,\n",
               (long long)t->steps, (long long)t->epochs,
               (long long)t->steps_per_epoch);
    inspect_json_totals(s, p, "");
    str_add(s, ",\n");
    if (!train_fit_json(t, s, e)) return false;
    str_add(s, "}\n");
    return true;
}

/* ---- text ---- */
static double mib(uint64_t bytes) {
    return (double)bytes / 1048576;
}

static bool text_report(Trainer *t, Str *s, Err *e) {
    Group *g = NEW(t->arena, Group, t->lora.n + 1);
    int n = groups(t, g);
    str_printf(s, "%-70s %6s %6s %8s %-5s %8s\n", "module", "dim", "alpha", "scale",
               "block", "lr");
    for (int i = 0; i < t->modules->n; i++) {
        const Module *m = &t->modules->item[i];
        double rank = args_number(m->args, "rank"),
               alpha = lora_alpha(t->arena, &t->lora, m);
        const char *block = block_name(t, m);
        str_printf(s, "%-70s %6g %6g %8g %-5s %8g\n", m->name, rank, alpha,
                   alpha / rank, block ? block : "-", m->lr);
    }
    for (int i = 0; i < n; i++)
        str_printf(s, "group: %s, lr %g: %lld modules, %lld parameters\n", g[i].network,
                   g[i].lr, (long long)g[i].modules, (long long)g[i].parameters);
    for (int i = 0; i < t->n_shape; i++)
        str_printf(s, "bucket: %s\n", train_shape_text(t->arena, &t->shape[i]));
    if (t->data)
        str_printf(s, "captions: %d found, %d missing\n", t->data->captions_found,
                   t->data->captions_missing);
    const Plan *p = train_largest(t)->plan;
    PlanTotals m = plan_totals(p);
    str_printf(s, "steps: %lld in %lld epochs of %lld batches\n", (long long)t->steps,
               (long long)t->epochs, (long long)t->steps_per_epoch);
    str_printf(
        s,
        "memory: %.1f MiB = weights %.1f (mapped) + adapters and optimizer %.1f + "
        "activations %.1f + other %.1f\n",
        mib(m.total), mib(m.weights), mib(m.state), mib(m.arena),
        mib(m.other + m.work));
    str_printf(s, "work: %.2f GFLOP a step in %u plan steps\n", (double)m.flops / 1e9,
               p->n_step);
    return train_fit_text(t, s, e);
}

bool train_report(Trainer *t, Err *e) {
    for (int i = 0; i < t->n_shape; i++)
        if (!train_plan(t, &t->shape[i], e)) return false;
    Str s = {0};
    bool ok = (t->common->json ? json_report : text_report)(t, &s, e);
    if (ok && !t->common->quiet && t->job.note.n) fputs(t->job.note.s, stderr);
    if (ok) fputs(s.s, stdout);
    str_free(&s);
    return ok;
}
