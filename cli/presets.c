/* `graphrun presets list | show NAME | plot NAME`: values by block, and what they come to
 * on a model: modules, parameters, rank, effective scale and learning rate of every block.
 *
 * NAME is a preset file, or a list of numbers as merge's weights by block have it: 12, 17,
 * 20, 25 or 26 of them, for which the mapping to blocks is shown. */
#include "cli/presets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/job/setting.h"
#include "cli/train/train_options.h"
#include "io/file.h"
#include "runtime/lora_blocks.h"

typedef struct PresetsOptions {
    const char *o, *recipe;
    int64_t network_dim;
    double network_alpha, learning_rate;
    WordList network_args, set;
} PresetsOptions;

/* ---- modules by block ---- */
static void widen_range(double range[2], double x) {
    if (isnan(x)) return;
    if (isnan(range[0]) || x < range[0]) range[0] = x;
    if (isnan(range[1]) || x > range[1]) range[1] = x;
}

static int64_t trained(const Module *m, const Graph *g) {
    int64_t n = 0;
    for (int i = 0; i < m->n_tensor; i++) {
        Id id = graph_find(g, m->tensor_name[i]);
        if (id != NO_ID && g->value[id]->role == ROLE_TRAIN)
            n += type_count(&g->value[id]->type);
    }
    return n;
}

static PresetRow empty_row(int slot, const char *name) {
    return (PresetRow){.slot = slot,
                       .name = name,
                       .rank = {NAN, NAN},
                       .scale = {NAN, NAN},
                       .lr = {NAN, NAN}};
}

static void add_module(PresetRow *r, const Module *m, const Graph *g) {
    double rank = args_number(m->args, "rank"), alpha = args_number(m->args, "alpha");
    r->modules++;
    r->parameters += trained(m, g);
    widen_range(r->rank, rank);
    widen_range(r->scale, alpha == 0 ? 1 : alpha / rank);
    widen_range(r->lr, m->lr);
}

bool preset_table(Job *j, const char *title, PresetTable *out, Err *e) {
    Options opt;
    if (!job_step_options(j, &opt, e) || !job_modules(j, &opt, e)) return false;
    const Net *net = job_net(j, "unet");
    const YNode *blocks = net ? yaml_get(net->doc->root, "blocks") : NULL;
    int n = blocks ? blocks->n : 0;
    *out = (PresetTable){title, NEW(j->arena, PresetRow, n + 1), n + 1};
    out->row[0] = empty_row(-1, "TEXT");
    for (int i = 0; i < n; i++) out->row[i + 1] = empty_row(i, blocks->item[i]->s);
    for (int i = 0; i < opt.modules->n; i++) {
        const Module *m = &opt.modules->item[i];
        int row = m->block >= 0 && m->block < n ? m->block + 1 : 0;
        add_module(&out->row[row], m, opt.adapted);
    }
    return true;
}

/* The job of a training with these options, without a checkpoint. */
static bool open_job(Job *j, const PresetsOptions *o, const Args *given,
                     const char *preset, Err *e) {
    if (!job_load(j, o->recipe ? o->recipe : "sd15-lora", e)) return false;
    static const char *const numbers[] = {"network_dim", "network_alpha",
                                          "learning_rate"};
    Args *set = args_new(j->arena);
    if (preset) args_set(set, "preset", val_word(preset));
    for (size_t i = 0; i < COUNT(numbers); i++)
        if (args_get(given, numbers[i]))
            args_set(set, numbers[i], *args_get(given, numbers[i]));
    return train_network_args(j->arena, &o->network_args, set, NULL, e) &&
           settings(j->arena, &o->set, "--set", set, e) && job_open(j, set, e);
}

/* ---- text and JSON ---- */
static const char *range_text(Arena *a, const double r[2]) {
    if (isnan(r[0])) return "-";
    return r[0] == r[1] ? arena_printf(a, "%g", r[0])
                        : arena_printf(a, "%g-%g", r[0], r[1]);
}

static void print_table(Arena *a, const PresetTable *t) {
    int64_t modules = 0, parameters = 0;
    printf("%s\n%4s  %-6s %8s %11s %8s %10s %12s\n", t->title, "slot", "block",
           "modules", "parameters", "rank", "scale", "lr");
    for (int i = 0; i < t->n; i++) {
        const PresetRow *r = &t->row[i];
        const char *slot = r->slot < 0 ? "-" : arena_printf(a, "%d", r->slot);
        printf("%4s  %-6s %8d %11lld %8s %10s %12s\n", slot, r->name, r->modules,
               (long long)r->parameters, range_text(a, r->rank),
               range_text(a, r->scale), range_text(a, r->lr));
        modules += r->modules;
        parameters += r->parameters;
    }
    printf("%4s  %-6s %8lld %11lld\n", "", "all", (long long)modules,
           (long long)parameters);
}

static void json_range(Str *s, const char *name, const double r[2]) {
    str_printf(s, ", \"%s\": ", name);
    if (isnan(r[0])) {
        str_add(s, "null");
        return;
    }
    str_add(s, "[");
    str_double(s, r[0]);
    str_add(s, ", ");
    str_double(s, r[1]);
    str_add(s, "]");
}

static void print_json(const PresetTable *t) {
    Str s = {0};
    str_add(&s, "[");
    for (int i = 0; i < t->n; i++) {
        const PresetRow *r = &t->row[i];
        str_printf(&s,
                   "%s{\"slot\": %d, \"block\": \"%s\", \"modules\": %d, "
                   "\"parameters\": %lld",
                   i ? ",\n " : "", r->slot, r->name, r->modules,
                   (long long)r->parameters);
        json_range(&s, "rank", r->rank);
        json_range(&s, "scale", r->scale);
        json_range(&s, "lr", r->lr);
        str_add(&s, "}");
    }
    str_add(&s, "]\n");
    fputs(s.s, stdout);
    str_free(&s);
}

/* ---- lists of numbers ---- */
/* "1,0.5,…": how many numbers, or 0 if the text is none. */
static int numbers(Arena *a, const char *text, double **out) {
    int n = 0, cap = 0;
    *out = NULL;
    for (const char *at = text;; at++) {
        char *end;
        double x = strtod(at, &end);
        if (end == at) return 0;
        PUSH(a, *out, n, cap, x);
        at = end;
        if (!*at) return n;
        if (*at != ',') return 0;
    }
}

/* Slot by slot: the block it means, and how many of the model's modules follow it. */
static bool show_list(const Modules *m, const double *value, int n, Err *e) {
    if (!lora_blocks_known(n))
        return err_usage(e, "got %d numbers, want 12, 17, 20, 25 or 26", n);
    int rest = 0;
    printf("%d numbers, slot by slot\n%4s  %-6s %10s %8s\n", n, "slot", "block",
           "value", "modules");
    for (int k = 0; k < n; k++) {
        int modules = 0;
        for (int i = 0; i < m->n; i++)
            modules += lora_block_slot(m->item[i].name, n) == k;
        printf("%4d  %-6s %10g %8d\n", k, lora_slot_name(n, k), value[k], modules);
    }
    for (int i = 0; i < m->n; i++) rest += lora_block_slot(m->item[i].name, n) < 0;
    printf("%d modules have no slot and keep their whole weight\n", rest);
    return true;
}

/* ---- the commands ---- */
static bool list(Err *e) {
    static const int sizes[] = {12, 17, 20, 25, 26};
    Arena *a = arena_new();
    Library *lib = library_new(a);
    for (const char *const *p = doc_shipped(a, DOC_PRESET); *p; p++) {
        const Doc *d = doc_load(lib, *p, DOC_PRESET, NULL, loc_none(), e);
        if (!d) break;
        const YNode *doc = yaml_get(d->root, "doc");
        printf("%-16s %d blocks; %s\n", *p, yaml_get(d->root, "blocks")->n,
               doc ? doc->s : "");
    }
    for (size_t i = 0; !e->set && i < COUNT(sizes); i++) {
        printf("%d numbers:", sizes[i]);
        for (int k = 0; k < sizes[i]; k++) printf(" %s", lora_slot_name(sizes[i], k));
        printf("\n");
    }
    arena_free(a);
    return !e->set;
}

static bool plot(const PresetsOptions *o, const PresetTable *t, Err *e) {
    Str s = {0};
    preset_plot(&s, t);
    bool ok = true;
    if (o->o)
        ok = file_write(o->o, s.s, s.n, e);
    else
        fputs(s.s, stdout);
    str_free(&s);
    return ok;
}

static bool show(const Common *c, const PresetsOptions *o, const Args *given,
                 const char *name, bool picture, Err *e) {
    Job j = {0};
    Arena *a = arena_new();
    double *value = NULL;
    int n = name ? numbers(a, name, &value) : 0;
    bool ok = open_job(&j, o, given, n ? NULL : name, e);
    if (ok && n && picture) {
        ok = err_usage(e, "plot wants a preset, or --network_args and no NAME");
    } else if (ok && n) {
        Options opt;
        ok = job_step_options(&j, &opt, e) && job_modules(&j, &opt, e) &&
             show_list(opt.modules, value, n, e);
    } else if (ok) {
        PresetTable t;
        ok = preset_table(&j, name ? name : j.doc->name, &t, e);
        if (ok && picture)
            ok = plot(o, &t, e);
        else if (ok && c->json)
            print_json(&t);
        else if (ok)
            print_table(a, &t);
    }
    if (j.arena) job_close(&j);
    arena_free(a);
    return ok;
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    const char *what = words->word[0], *name = words->n > 1 ? words->word[1] : NULL;
    bool ok;
    if (!strcmp(what, "list"))
        ok = name ? err_usage(e, "presets list takes no '%s'", name) : list(e);
    else if (!strcmp(what, "show") || !strcmp(what, "plot"))
        ok = show(c, opts, given, name, !strcmp(what, "plot"), e);
    else
        ok = err_usage(e, "presets: got '%s', want list, show or plot", what);
    return ok ? EXIT_DONE : e->code;
}

static const PresetsOptions defaults = {
    .network_dim = 4, .network_alpha = 1, .learning_rate = 1e-4};
static const Opt options[] = {
    OPT(PresetsOptions, TEXT, o, "FILE", "plot: the SVG file; stdout if not given"),
    OPT(PresetsOptions, TEXT, recipe, "RECIPE",
        "whose adapters; sd15-lora if not given"),
    OPT(PresetsOptions, INT, network_dim, "N", "as of train", .min = 1, .max = 4096),
    OPT(PresetsOptions, FLOAT, network_alpha, "X", "as of train"),
    OPT(PresetsOptions, FLOAT, learning_rate, "X", "as of train"),
    OPT(PresetsOptions, LIST, network_args, "K=V…",
        "as of train: block_dims, down_lr_weight …; with or without a preset"),
    OPT(PresetsOptions, EACH, set, "KEY=VALUE", "an option of the recipe"),
    OPT_END,
};
const Command cmd_presets = {
    .name = "presets",
    .args = "list | show [NAME] | plot [NAME]",
    .doc = "Values by block: the presets there are, and what they come to on a model.",
    .options = options,
    .size = sizeof(PresetsOptions),
    .defaults = &defaults,
    .min_words = 1,
    .max_words = 2,
    .run = run,
};
