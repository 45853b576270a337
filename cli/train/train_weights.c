/* LoRA files that a training starts with: --network_weights and --dim_from_weights give the
 * adapters their numbers and ranks, --base_weights are merged into the base. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/train/train.h"
#include "io/lora_read.h"
#include "runtime/base_merge.h"

/* ---- the file ---- */
typedef struct StartFile { /* a LoRA under any names, or other adapters under kohya's */
    TensorFile *file;
    LoraFile *lora;
} StartFile;

static bool start_open(const char *path, StartFile *s, Err *e) {
    *s = (StartFile){tensors_open(path, e), NULL};
    if (!s->file || !lora_only(s->file)) return s->file != NULL;
    s->lora = lora_from(s->file, e);
    s->file = NULL; /* it is the LoRA's now */
    return s->lora != NULL;
}

static void start_close(StartFile *s) {
    if (s->lora)
        lora_close(s->lora);
    else if (s->file)
        tensors_close(s->file);
}

/* ---- --dim_from_weights ---- */
/* Convolutions larger than 1x1 are adapted by entries that want conv_dim. */
bool train_weights_open(Trainer *t, Args *set, Err *e) {
    const TrainOptions *o = t->o;
    if (o->dim_from_weights && !o->network_weights)
        return err_usage(e, "--dim_from_weights wants --network_weights");
    if (!o->dim_from_weights) return true;
    t->start_lora = lora_open(o->network_weights, e);
    if (!t->start_lora) return false;
    for (int i = 0; i < t->start_lora->n; i++) {
        const LoraModule *m = &t->start_lora->module[i];
        if (m->kernel_h > 1 && !args_get(set, "conv_dim"))
            args_set(set, "conv_dim", val_int(1));
    }
    return true;
}

static void add_rule(Trainer *t, AdapterRule *rule, const char *match, int64_t rank,
                     double alpha, Loc loc) {
    *rule = (AdapterRule){match, args_new(t->arena), loc};
    args_set(rule->args, "rank", val_int(rank));
    if (rank) args_set(rule->args, "alpha", val_float(alpha));
}

/* Has the file modules of this network? */
static bool start_has(const Trainer *t, const StartFile *s, const char *network) {
    const Net *net = job_net(&t->job, network);
    const char *dotted = arena_printf(t->arena, "%s.", network);
    for (int i = 0; s->lora && i < s->lora->n; i++) {
        const char *path = s->lora->module[i].path;
        if (path && !strncmp(path, dotted, strlen(dotted))) return true;
    }
    if (s->lora || !net) return false;
    const char *prefix = scheme_prefix(t->arena, net->doc, net->name, "kohya");
    for (int i = 0; i < s->file->n; i++)
        if (!strncmp(s->file->entry[i].name, prefix, strlen(prefix))) return true;
    return false;
}

/* At a learning rate of 0 nothing of a network is trained, but what the file has of it stays
 * in use and is saved again. */
static bool keep_unlearnt(Trainer *t, Err *e) {
    if (!t->o->network_weights) return true;
    StartFile s;
    bool ok = start_open(t->o->network_weights, &s, e);
    Recipe *r = &t->job.recipe;
    for (int i = 0; ok && i < r->n_adapter; i++)
        for (int k = 0; k < r->adapter[i].n_on; k++)
            if (start_has(t, &s, r->adapter[i].on[k].network))
                r->adapter[i].keep = true;
    start_close(&s);
    return ok;
}

/* Rules, after the recipe's own: no module but the file's, each with its rank and alpha. */
bool train_weights_rules(Trainer *t, Err *e) {
    const LoraFile *f = t->start_lora;
    if (!keep_unlearnt(t, e)) return false;
    if (!f) return true;
    Recipe *r = &t->job.recipe;
    Source *src = NEW(t->arena, Source, 1);
    *src = (Source){t->o->network_weights, "", 0};
    Loc loc = {src, 1, 1, 0};
    AdapterRule *rule = NEW(t->arena, AdapterRule, r->n_rule + f->n + 1);
    if (r->n_rule) memcpy(rule, r->rule, (size_t)r->n_rule * sizeof *rule);
    r->rule = rule;
    add_rule(t, &rule[r->n_rule++], "**", 0, 0, loc);
    for (int i = 0; i < f->n; i++) {
        const LoraModule *m = &f->module[i];
        if (!m->path)
            return err_fail(e, "'%s': module '%s' is none that a base could have",
                            f->file->path, m->name);
        add_rule(t, &rule[r->n_rule++], m->path, m->rank, m->alpha, loc);
    }
    return true;
}

/* ---- --network_weights ---- */
static const TensorEntry *start_find(Arena *a, const StartFile *s, const char *key,
                                     double *alpha) {
    if (!s->lora) return tensors_find(s->file, key);
    const char *dot = strchr(key, '.');
    const LoraModule *m =
        dot ? lora_find(s->lora, arena_strndup(a, key, (size_t)(dot - key))) : NULL;
    if (!m) return NULL;
    *alpha = m->alpha;
    if (ends_with(key, ".lora_down.weight")) return &m->down;
    return ends_with(key, ".lora_up.weight") ? &m->up : NULL;
}

static bool start_fits(const Trainer *t, const LoraTensor *l, const TensorEntry *w,
                       Err *e) {
    return (type_count(&w->type) == type_count(&l->type) &&
            dtype_is_float(w->type.dtype)) ||
           err_fail(e, "--network_weights: '%s' is %s, this run wants %s", l->key,
                    type_text(t->arena, &w->type), type_text(t->arena, &l->type));
}

static bool start_tensor(Trainer *t, Exec *x, const LoraTensor *l, const TensorEntry *w,
                         Err *e) {
    if (!start_fits(t, l, w, e)) return false;
    const Type *own = exec_type(x, l->value);
    Arena *a = arena_new();
    void *data = arena_alloc(a, 1, type_bytes(own));
    convert(data, own->dtype, w->data, w->type.dtype, type_count(&l->type));
    bool ok = exec_write(x, l->value, data, type_bytes(own), e);
    arena_free(a);
    return ok;
}

/* Before pictures are encoded: is there anything in the file, and does it fit? */
bool train_weights_judge(Trainer *t, Err *e) {
    if (!t->o->network_weights) return true;
    StartFile s;
    int found = 0;
    bool ok = start_open(t->o->network_weights, &s, e);
    for (int i = 0; ok && i < t->lora.n; i++) {
        double alpha;
        const LoraTensor *l = &t->lora.item[i];
        const TensorEntry *w =
            l->value ? start_find(t->arena, &s, l->key, &alpha) : NULL;
        found += w != NULL;
        ok = !w || start_fits(t, l, w, e);
    }
    start_close(&s);
    return ok && (found || err_fail(e,
                                    "--network_weights: '%s' has none of this run's "
                                    "tensors",
                                    t->o->network_weights));
}

/* Modules of the file that this run does not make, as with --network_train_unet_only. */
static int left_out(const Trainer *t, const LoraFile *f) {
    int n = 0;
    for (int i = 0; f && i < f->n; i++) {
        const char *key =
            arena_printf(t->arena, "%s.lora_down.weight", f->module[i].name);
        n += !lora_tensor_find(&t->lora, key);
    }
    return n;
}

static void tell_start(Trainer *t, const StartFile *s, int found, int wanted,
                       int other_scale) {
    const char *path = t->o->network_weights;
    const int without = left_out(t, s->lora);
    progress_say(t->progress,
                 arena_printf(t->arena, "starts from '%s': %d of %d tensors", path,
                              found, wanted));
    if (without)
        progress_say(t->progress,
                     arena_printf(t->arena,
                                  "warning: %d modules of the file are none of this "
                                  "run; they are not saved",
                                  without));
    if (other_scale)
        progress_say(t->progress,
                     arena_printf(t->arena,
                                  "warning: %d modules have another alpha in the file; "
                                  "that of the options counts",
                                  other_scale));
}

bool train_weights_start(Trainer *t, Exec *x, Err *e) {
    if (!t->o->network_weights) return true;
    StartFile s;
    int found = 0, wanted = 0, other_scale = 0;
    bool ok = start_open(t->o->network_weights, &s, e);
    for (int i = 0; ok && i < t->lora.n; i++) {
        const LoraTensor *l = &t->lora.item[i];
        double alpha = NAN;
        const TensorEntry *w = start_find(t->arena, &s, l->key, &alpha);
        if (!l->value) {
            other_scale += !isnan(alpha) && (float)alpha != (float)l->number;
            continue;
        }
        wanted++;
        if (!w) continue;
        found++;
        ok = start_tensor(t, x, l, w, e);
    }
    if (ok) tell_start(t, &s, found, wanted, other_scale);
    start_close(&s);
    return ok;
}

/* ---- --base_weights ---- */
bool train_base_ratio(const TrainOptions *o, int i, double *ratio, Err *e) {
    *ratio = 1;
    if (i >= o->base_weights_multiplier.n) return true;
    const char *text = o->base_weights_multiplier.word[i];
    char *end;
    *ratio = strtod(text, &end);
    return (*text && !*end && isfinite(*ratio)) ||
           err_usage(e, "--base_weights_multiplier: got '%s', want a number", text);
}

static bool into_bases(Trainer *t, const BaseLora *in, int n, Err *e) {
    Checkpoint *unet = job_checkpoint(&t->job, "unet");
    if (!unet) return err_usage(e, "--base_weights: the recipe has no base model");
    Device *host = cpu_open((int)t->common->threads); /* whatever the steps run on */
    if (!host) return err_fail(e, "no memory for the device's threads");
    bool ok = base_merge(t->arena, unet, in, n, host, e);
    cpu_close(host);
    return ok;
}

bool train_base_weights(Trainer *t, Err *e) {
    const WordList *files = &t->o->base_weights;
    if (t->o->base_weights_multiplier.n > files->n)
        return err_usage(e, "--base_weights_multiplier: got %d numbers for %d files",
                         t->o->base_weights_multiplier.n, files->n);
    BaseLora *in = NEW(t->arena, BaseLora, files->n);
    bool ok = true;
    int opened = 0;
    for (int i = 0; ok && i < files->n; i++) {
        LoraFile *f = NULL;
        ok = train_base_ratio(t->o, i, &in[i].ratio, e) &&
             (f = lora_open(files->word[i], e));
        in[i].file = f;
        opened += f != NULL;
    }
    if (ok && files->n) ok = into_bases(t, in, files->n, e);
    for (int i = 0; i < files->n && ok; i++)
        str_printf(&t->job.note, "merged into the base: '%s' x %g, %d modules\n",
                   files->word[i], in[i].ratio, in[i].file->n);
    for (int i = 0; i < opened; i++) lora_close((LoraFile *)in[i].file);
    return ok;
}
