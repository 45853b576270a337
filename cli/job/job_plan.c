/* Plans of a job, by way of the cache (job_plan.h). */
#include "cli/job/job_plan.h"

#include <math.h>
#include <string.h>

#include "io/file.h"

const char *const job_absent_inputs[] = {"mask", "token_weight", NULL};

bool job_wants_pixels(const Job *j) {
    return yaml_get(yaml_get(j->recipe.objective->root, "inputs"), "image") != NULL;
}

Args *job_dims(const Job *j, const Shape *s) {
    enum { FACTOR = 8 }; /* pixels per latent side */
    const int64_t side = job_wants_pixels(j) ? FACTOR : 1;
    Args *dims = args_new(j->arena);
    args_set(dims, "B", val_int(s->batch));
    args_set(dims, "H", val_int(s->h * side));
    args_set(dims, "W", val_int(s->w * side));
    args_set(dims, "N", val_int(s->chunks));
    return dims;
}

bool job_number(const Job *j, const Args *section, const char *key, double otherwise,
                double *out, Err *e) {
    const Val *v = args_get(section, key);
    *out = otherwise;
    if (!v || val_number(v, out)) return true;
    return err_at(e, v->loc, "'%s' of recipe '%s' is not a number", key,
                  j->recipe.doc->name);
}

static bool side_of(const Job *j, const Val *v, int *out, Err *e) {
    double x;
    bool fine = val_number(v, &x) && x >= 8 && x <= 16384 && x == (int)x;
    *out = fine ? (int)x / 8 : 0;
    return fine ||
           err_at(e, v->loc, "'resolution' of recipe '%s': want numbers of 8 … 16384",
                  j->recipe.doc->name);
}

bool job_shape(const Job *j, Shape *s, Err *e) {
    double batch, chunks;
    const Args *data = j->recipe.data;
    if (!job_number(j, data, "batch", 1, &batch, e) ||
        !job_number(j, data, "chunks", 1, &chunks, e))
        return false;
    if (!(batch >= 1 && batch <= 4096 && chunks >= 1 && chunks <= 3))
        return err_usage(e, "batch %g and chunks %g: want 1 … 4096 and 1 … 3", batch,
                         chunks);
    *s = (Shape){(int)batch, 64, 64, (int)chunks};
    const Val *v = args_get(data, "resolution");
    if (!v) return true;
    if (v->kind != VAL_LIST) return side_of(j, v, &s->w, e) && side_of(j, v, &s->h, e);
    if (v->list.n != 2)
        return err_at(e, v->loc, "'resolution' of recipe '%s': got %d numbers, want 2",
                      j->recipe.doc->name, v->list.n);
    return side_of(j, &v->list.item[0], &s->w, e) &&
           side_of(j, &v->list.item[1], &s->h, e);
}

bool job_step_options(const Job *j, Options *opt, Err *e) {
    Shape s;
    *opt = (Options){.recipe = &j->recipe,
                     .net = j->net,
                     .n_net = j->n_net,
                     .absent = job_absent_inputs,
                     .train = true};
    if (!job_shape(j, &s, e)) return false;
    opt->dims = job_dims(j, &s);
    return true;
}

/* ---- what people want to know of a plan's adapters ---- */
static uint64_t parameters(const LoraTensors *t, const Module *m) {
    uint64_t n = 0;
    for (int i = 0; i < t->n; i++)
        if (t->item[i].module == m && t->item[i].value)
            n += (uint64_t)type_count(&t->item[i].type);
    return n;
}

/* alpha as it is saved, which rsLoRA makes another one than its argument; the branch is
 * scaled by alpha / rank in every reader of LoRA files. */
static bool add_adapters(Arena *a, const Options *opt, Plan *p, Err *e) {
    LoraTensors t;
    const Modules *all = opt->modules;
    if (!all || !all->n) return true;
    if (!lora_tensors(a, all, opt->adapted, "kohya", &t, e)) return false;
    PlanAdapter *out = NEW(a, PlanAdapter, all->n);
    for (int i = 0; i < all->n; i++) {
        const Module *m = &all->item[i];
        double rank = args_number(m->args, "rank"), alpha = lora_alpha(a, &t, m);
        out[i] = (PlanAdapter){.name = m->root,
                               .kind = m->adapter->name,
                               .path = arena_printf(a, "%s.%s", m->network, m->path),
                               .block = m->block,
                               .rank = rank,
                               .alpha = alpha,
                               .scale = alpha / rank,
                               .parameters = parameters(&t, m)};
    }
    p->adapter = out;
    p->n_adapter = (uint32_t)all->n;
    return true;
}

/* ---- compiling ---- */
static Plan *compiled(Job *j, Options *opt, Err *e) {
    Str own = {0};
    Str *report = opt->report ? opt->report : &own;
    size_t from = report->n;
    opt->report = report;
    Plan *p = compile(j->arena, opt, e);
    if (p) p->report = arena_strdup(j->arena, report->s ? report->s + from : "");
    opt->report = report == &own ? NULL : report;
    str_free(&own);
    return p && add_adapters(j->arena, opt, p, e) ? p : NULL;
}

/* The passes behind inject-adapters are left out. */
bool job_modules(Job *j, Options *opt, Err *e) {
    enum { MOST_PASSES = 64 };
    const char *later[MOST_PASSES] = {0};
    int n = 0;
    bool behind = false;
    if (opt->modules) return true;
    for (const Pass *p = pipeline; p->name && n + 1 < MOST_PASSES; p++) {
        if (behind) later[n++] = p->name;
        behind |= !strcmp(p->name, "inject-adapters");
    }
    Options first = *opt;
    first.disable = later;
    first.report = NULL;
    first.dump = NULL;
    Graph *g = graph_new(j->arena, j->recipe.doc->name);
    if (!passes_run(g, &first, NULL, e)) return false;
    opt->modules = first.modules;
    opt->adapted = first.adapted;
    return true;
}

/* ---- plans from files: modules and learning rates ---- */

static double rate_of_tensor(const Graph *adapted, const char *name) {
    const Id id = graph_find(adapted, name);
    if (id == NO_ID || adapted->value[id]->role != ROLE_TRAIN) return NAN;
    const Param *of = adapted->value[id]->param;
    return of ? of->lr : 1;
}

typedef struct Rates {
    Plan *p;
    const Graph *adapted;
    uint32_t
        *from; /* the rate that a value is made of, UINT32_MAX: of none, or several */
    double *rate; /* of a scalar, NAN: not known yet */
} Rates;

/* A step that reads what is made of one rate, and trainables that all have one, says whose
 * rate it is; what sums over parameters, as Prodigy's step size does, says nothing. */
static bool rate_of_step(Rates *r, const PlanStep *t) {
    uint32_t from = UINT32_MAX;
    double lr = NAN;
    bool several = false, mixed = false;
    for (int i = 0; i < t->n_in; i++) {
        if (t->in[i] == UINT32_MAX) continue;
        const PlanValue *v = &r->p->value[t->in[i]];
        const uint32_t own = r->from[t->in[i]];
        if (own != UINT32_MAX) {
            several |= from != UINT32_MAX && from != own;
            from = own;
        }
        if (v->role != ROLE_TRAIN) continue;
        const double its = rate_of_tensor(r->adapted, v->name);
        if (isnan(its)) return false;
        mixed |= !isnan(lr) && lr != its;
        lr = its;
    }
    for (int o = 0; o < t->n_out; o++) r->from[t->out[o]] = several ? UINT32_MAX : from;
    if (from == UINT32_MAX || several || mixed || isnan(lr)) return true;
    double *known = &r->rate[from];
    const bool same = isnan(*known) || *known == lr;
    *known = lr;
    return same;
}

static bool is_rate(const PlanValue *v) {
    return v->role == ROLE_SCALAR && !strncmp(v->name, "lr.", 3);
}

bool job_rates(Plan *p, const Graph *adapted) {
    Rates r = {p, adapted, NEW(p->arena, uint32_t, p->n_value + 1),
               NEW(p->arena, double, p->n_value + 1)};
    for (uint32_t i = 0; i < p->n_value; i++) {
        r.rate[i] = NAN;
        r.from[i] = is_rate(&p->value[i]) ? i : UINT32_MAX;
    }
    for (uint32_t k = 0; k < p->n_step; k++)
        if (!rate_of_step(&r, &p->step[k])) return false;
    for (uint32_t i = 0; i < p->n_value; i++) {
        PlanValue *v = &p->value[i];
        if (!is_rate(v)) continue;
        Param *own = param_new(p->arena);
        own->lr = r.rate[i];
        v->param = own;
        if (isnan(own->lr)) return false;
    }
    return true;
}

/* ---- both ---- */
/* What of a plan from a file is not in the file. */
static bool ready(Job *j, Options *opt, Plan *p, const PlanWish *w, Err *e) {
    if (!w->to_run) return true;
    return job_modules(j, opt, e) && job_rates(p, opt->adapted);
}

/* A given plan is taken for what it was made from, or not at all. */
static Plan *given_plan(Job *j, const PlanWish *w, const uint8_t key[16],
                        const PlanPart *part, uint32_t n, Str *note) {
    Plan *p = w->given;
    if (!p || !memcmp(p->key, key, sizeof p->key)) return p;
    const char *diff = plan_key_diff(j->arena, p->part, p->n_part, part, n);
    str_printf(note, "warning: the given plan was made from something else: %s\n",
               *diff ? diff : "it has no key");
    return NULL;
}

Plan *job_plan(Job *j, Options *opt, const PlanWish *w, PlanOrigin *from, Err *e) {
    uint8_t key[16];
    const PlanPart *part;
    uint32_t n;
    *from = (PlanOrigin){0};
    job_key(j, opt, key, &part, &n);
    Plan *p = given_plan(j, w, key, part, n, &from->note);
    if (!p && w->cache) p = plan_cache_get(w->cache, j->arena, key, &from->note);
    if (p && ready(j, opt, p, w, e)) {
        from->cached = true;
        if (opt->report && p->report) str_add(opt->report, p->report);
        return p;
    }
    if (e->set) return NULL;
    p = compiled(j, opt, e);
    if (!p) return NULL;
    memcpy(p->key, key, sizeof key);
    p->part = part;
    p->n_part = n;
    if (w->cache) plan_cache_put(w->cache, p, &from->note);
    return p;
}

Plan *job_network_plan_kept(Job *j, const Net *net, const Args *dims,
                            const Options *like, const PlanCache *cache, Str *note,
                            Err *e) {
    Options opt = *like;
    uint8_t key[16];
    const PlanPart *part;
    uint32_t n;
    opt.net = (Net *)net;
    opt.n_net = 1;
    opt.dims = dims;
    job_key(j, &opt, key, &part, &n);
    Plan *p = plan_cache_get(cache, j->arena, key, note);
    if (p) return p;
    p = job_network_plan(j, net, dims, like, e);
    if (!p) return NULL;
    memcpy(p->key, key, sizeof key);
    p->part = part;
    p->n_part = n;
    plan_cache_put(cache, p, note);
    return p;
}

Plan *job_plan_read(Arena *a, const char *path, bool *old, Err *e) {
    void *map;
    size_t n;
    *old = false;
    if (!file_map(path, &map, &n, e)) return NULL;
    Err why = {0};
    Plan *p = plan_read(a, map, n, old, &why);
    file_unmap(map, n);
    if (!p) err_fail(e, "'%s': %s", path, err_said(&why));
    return p;
}
