/* Recipes: the files of `from:` merged, options bound, every section evaluated.
 *
 * Merging, base first: the first file that names an option declares it, the last one sets
 * it; networks, train, data, sample and plan are merged key by key; objective and optimizer
 * too where both use the same document; adapters are replaced as a whole; rules add up.
 * What comes from the command line is stronger than any file. */
#include "graph/lang/schema.h"
#include <ctype.h>
#include <string.h>

typedef struct Reader {
    Arena *arena;
    Library *lib;
    Recipe *r;
    const Doc **doc; /* base first, the recipe itself last */
    int n_doc, cap_doc, cap_rule;
    YNode *options; /* name -> declaration */
    const YNode *
        *set_in_file; /* per option: the expression that overrides it, or NULL */
    const char *what; /* "recipe 'mine'" */
    const Args *set;
    Err *e;
} Reader;

/* ---- merging ---- */
static void flatten(Reader *r, const Doc *d) {
    for (int i = 0; i < r->n_doc; i++)
        if (r->doc[i] == d) return;
    for (int i = 0; i < d->n_from; i++) flatten(r, d->from[i]);
    PUSH(r->arena, r->doc, r->n_doc, r->cap_doc, d);
}

/* With room for `cap` entries. */
static YNode *new_map(Arena *a, Loc loc, int cap) {
    YNode *n = NEW(a, YNode, 1);
    n->kind = Y_MAP;
    n->loc = loc;
    n->key = NEW(a, YNode *, cap + 1);
    n->item = NEW(a, YNode *, cap + 1);
    return n;
}

/* Entries of a section in all files. */
static int count_entries(const Reader *r, const char *name) {
    int n = 0;
    for (int d = 0; d < r->n_doc; d++) {
        const YNode *map = yaml_get(r->doc[d]->root, name);
        if (map) n += map->n;
    }
    return n;
}

static void map_set(YNode *map, YNode *key, YNode *item) {
    int i = 0;
    while (i < map->n && strcmp(map->key[i]->s, key->s)) i++;
    map->key[i] = key;
    map->item[i] = item;
    if (i == map->n) map->n++;
}

/* A section merged key by key; NULL: no file has it. */
static YNode *section(Reader *r, const char *name) {
    YNode *out = NULL;
    for (int d = 0; d < r->n_doc; d++) {
        const YNode *map = yaml_get(r->doc[d]->root, name);
        const YNode *use = yaml_get(map, "use"), *old = yaml_get(out, "use");
        if (!map) continue;
        if (!out || (use && old && strcmp(use->s, old->s)))
            out = new_map(r->arena, map->loc, count_entries(r, name));
        out->loc = map->loc;
        for (int i = 0; i < map->n; i++) map_set(out, map->key[i], map->item[i]);
    }
    return out;
}

static const YNode *last_of(Reader *r, const char *name) {
    for (int d = r->n_doc - 1; d >= 0; d--)
        if (yaml_get(r->doc[d]->root, name)) return yaml_get(r->doc[d]->root, name);
    return NULL;
}

/* Does this file itself refer to $name? */
static bool refers(const Source *src, const char *name) {
    size_t n = strlen(name);
    for (const char *p = src->text; (p = strchr(p, '$')); p++)
        if (!strncmp(p + 1, name, n) && p[n + 1] != '_' &&
            !isalnum((unsigned char)p[n + 1]))
            return true;
    return false;
}

/* A file may declare further options only if it uses them: otherwise it is a misspelling. */
static bool merge_options(Reader *r) {
    int cap = 0, n = 0;
    r->options = new_map(r->arena, r->r->doc->root->loc, count_entries(r, "options"));
    for (int d = 0; d < r->n_doc; d++) {
        const YNode *map = yaml_get(r->doc[d]->root, "options");
        for (int i = 0; map && i < map->n; i++) {
            const char *name = map->key[i]->s;
            int k = 0;
            while (k < r->options->n && strcmp(r->options->key[k]->s, name)) k++;
            if (k < r->options->n) {
                r->set_in_file[k] = map->item[i];
            } else if (d && r->doc[d]->n_from && !refers(r->doc[d]->src, name)) {
                return name_known(r->arena, name, r->options, NULL, "option", r->what,
                                  map->key[i]->loc, r->e);
            } else {
                map_set(r->options, map->key[i], map->item[i]);
                PUSH(r->arena, r->set_in_file, n, cap, NULL);
            }
        }
    }
    return true;
}

const char *const *recipe_options(Arena *a, const Doc *doc) {
    Reader r = {.arena = a};
    const char **list = NULL;
    int n = 0, cap = 0;
    flatten(&r, doc);
    for (int d = 0; d < r.n_doc; d++) {
        const YNode *map = yaml_get(r.doc[d]->root, "options");
        for (int i = 0; map && i < map->n; i++) {
            int k = 0;
            while (k < n && strcmp(list[k], map->key[i]->s)) k++;
            if (k == n) PUSH(a, list, n, cap, map->key[i]->s);
        }
    }
    PUSH(a, list, n, cap, NULL);
    return list;
}

/* ---- the command line ---- */
/* An option's name; `-` and `_` are equal. */
static char *option_name(Arena *a, const char *s) {
    char *name = arena_strdup(a, s);
    for (char *p = name; *p; p++)
        if (*p == '-') *p = '_';
    return name;
}

static bool bind_options(Reader *r) {
    Args *given = args_new(r->arena);
    Loc here = r->r->doc->root->loc;
    for (int i = 0; r->set && i < r->set->n; i++) {
        if (strchr(r->set->name[i], '.')) continue;
        const char *name = option_name(r->arena, r->set->name[i]);
        if (!name_known(r->arena, name, r->options, NULL, "option", r->what,
                        r->set->val[i].loc, r->e))
            return false;
        args_set(given, name, r->set->val[i]);
    }
    Bind b = {.arena = r->arena,
              .what = r->what,
              .noun = "option",
              .text = true,
              .loc = here};
    for (int i = 0; i < r->options->n; i++) {
        const char *name = r->options->key[i]->s;
        if (!bind_one(&b, name, r->options->item[i], r->set_in_file[i],
                      args_get(given, name), r->r->options, r->e)) {
            if (!r->set_in_file[i] && !args_get(given, name))
                err_note(
                    r->e,
                    "note: it is given as --set %s=VALUE (`train`: --%s VALUE), or "
                    "under 'options' in a recipe",
                    name, name);
            return false;
        }
    }
    return true;
}

/* ---- evaluation with $options ---- */
static bool eval_slot(Reader *r, const YNode *n, Val *out) {
    Env env = {.args = r->r->options};
    return slot_eval(r->arena, n, &env, out, r->e);
}

/* Text behind a key; NULL: absent or empty. */
static bool eval_text(Reader *r, const YNode *map, const char *key, const char **out) {
    const YNode *n = yaml_get(map, key);
    Val v;
    *out = NULL;
    if (!n) return true;
    if (!text_eval(r->arena, n, r->r->options, &v, r->e)) return false;
    if (v.word[0]) *out = v.word;
    return true;
}

static bool eval_flag(Reader *r, const YNode *map, const char *key, bool *out) {
    const YNode *n = yaml_get(map, key);
    Val v;
    double f;
    if (!n) return true;
    if (!eval_slot(r, n, &v)) return false;
    if (!val_number(&v, &f))
        return err_at(r->e, n->loc, "'%s' wants true or false", key);
    *out = f != 0;
    return true;
}

static bool eval_number(Reader *r, const YNode *map, const char *key, double *out) {
    const YNode *n = yaml_get(map, key);
    Val v;
    if (!n) return true;
    return eval_slot(r, n, &v) &&
           (val_number(&v, out) || err_at(r->e, n->loc, "'%s' wants a number", key));
}

/* The document behind `use:`. */
static const Doc *eval_use(Reader *r, const YNode *map, DocKind kind) {
    const YNode *n = yaml_get(map, "use");
    Val v;
    if (!text_eval(r->arena, n, r->r->options, &v, r->e)) return NULL;
    return doc_load(r->lib, v.word, kind, doc_of(r->lib, v.loc.src), v.loc, r->e);
}

static bool in_list(const char *s, const char *const *list) {
    for (; list && *list; list++)
        if (!strcmp(s, *list)) return true;
    return false;
}

/* The keys of map that are not in `skip`, evaluated; each an argument of `doc` or in `also`. */
static bool eval_args(Reader *r, const YNode *map, const Doc *doc,
                      const char *const *skip, const char *const *also, Args *out) {
    const YNode *decl = yaml_get(doc->root, "args");
    const char *what =
        arena_printf(r->arena, "%s '%s'", doc_kind_name(doc->kind), doc->name);
    for (int i = 0; map && i < map->n; i++) {
        const YNode *key = map->key[i];
        Val v;
        if (in_list(key->s, skip)) continue;
        if (!name_known(r->arena, key->s, decl, also, "argument", what, key->loc, r->e))
            return false;
        if (!eval_slot(r, map->item[i], &v)) return false;
        args_set(out, key->s, v);
    }
    return true;
}

static const char *const adapter_also[] = {"lr", "multiplier", NULL};

/* ---- networks ---- */
static bool check_variant(Reader *r, const RecipeNetwork *n) {
    const YNode *variants = yaml_get(n->doc->root, "variants");
    const char *what = arena_printf(r->arena, "network '%s'", n->doc->name);
    return !n->variant || name_known(r->arena, n->variant, variants, NULL, "variant",
                                     what, n->loc, r->e);
}

static bool eval_networks(Reader *r) {
    const YNode *map = section(r, "networks");
    Recipe *out = r->r;
    out->network = NEW(r->arena, RecipeNetwork, map ? map->n + 1 : 1);
    for (int i = 0; map && i < map->n; i++) {
        RecipeNetwork *n = &out->network[i];
        const YNode *use = map->item[i];
        n->name = map->key[i]->s;
        n->loc = use->loc;
        n->args = args_new(r->arena);
        n->lr = 1;
        n->doc = eval_use(r, use, DOC_NETWORK);
        if (!n->doc || !eval_text(r, use, "from", &n->weights) ||
            !eval_text(r, use, "variant", &n->variant) || !check_variant(r, n) ||
            !eval_flag(r, use, "train", &n->train) ||
            !eval_number(r, use, "lr", &n->lr) ||
            !eval_args(r, yaml_get(use, "args"), n->doc, NULL, NULL, n->args))
            return false;
        out->n_network++;
    }
    return true;
}

static const RecipeNetwork *network(Reader *r, const char *name, Loc loc) {
    for (int i = 0; i < r->r->n_network; i++)
        if (!strcmp(r->r->network[i].name, name)) return &r->r->network[i];
    const char **names = NEW(r->arena, const char *, r->r->n_network + 1);
    for (int i = 0; i < r->r->n_network; i++) names[i] = r->r->network[i].name;
    err_at(r->e, loc, "%s has no network '%.60s'%s", r->what, name,
           did_you_mean(r->arena, name, names));
    return NULL;
}

/* ---- adapters ---- */
/* Names of targets become their patterns; everything else is a pattern. */
static bool eval_target(Reader *r, const YNode *key, const YNode *list,
                        AdapterTarget *out) {
    const RecipeNetwork *net = network(r, key->s, key->loc);
    const char **pattern = NULL;
    int n = 0, cap = 0;
    if (!net) return false;
    const YNode *targets = yaml_get(net->doc->root, "targets");
    for (int i = 0; i < list->n; i++) {
        Val v;
        if (!text_eval(r->arena, list->item[i], r->r->options, &v, r->e)) return false;
        const YNode *named = yaml_get(targets, v.word);
        if (!named) PUSH(r->arena, pattern, n, cap, v.word);
        for (int k = 0; named && k < named->n; k++)
            PUSH(r->arena, pattern, n, cap, named->item[k]->s);
    }
    if (!n)
        return err_at(r->e, list->loc, "'on' names no target of network '%s'", key->s);
    PUSH(r->arena, pattern, n, cap, NULL);
    out->network = net->name;
    out->pattern = pattern;
    out->loc = list->loc;
    return true;
}

/* A preset's blocks are those of every network (with blocks) that the entry wraps. */
static bool check_blocks(Reader *r, const Preset *p, const AdapterEntry *a,
                         const YNode *at) {
    bool any = false;
    for (int i = 0; i < a->n_on; i++) {
        const RecipeNetwork *net = network(r, a->on[i].network, at->loc);
        const YNode *blocks = net ? yaml_get(net->doc->root, "blocks") : NULL;
        if (!blocks) continue;
        any = true;
        if (blocks->n != p->n_block)
            return err_at(r->e, at->loc,
                          "preset '%s' has %d blocks, network '%s' has %d",
                          p->doc->name, p->n_block, net->name, blocks->n);
        for (int k = 0; k < blocks->n; k++)
            if (strcmp(blocks->item[k]->s, p->block[k]))
                return err_at(r->e, at->loc,
                              "block %d of preset '%s' is %s, of network '%s' it is %s",
                              k, p->doc->name, p->block[k], net->name,
                              blocks->item[k]->s);
    }
    return any || err_at(r->e, at->loc,
                         "network '%s' has no blocks: a preset gives values by block",
                         a->on[0].network);
}

static const YNode *blocks_of(Reader *r, const AdapterEntry *a) {
    for (int i = 0; i < a->n_on; i++) {
        const RecipeNetwork *net = network(r, a->on[i].network, a->loc);
        if (net && yaml_get(net->doc->root, "blocks"))
            return yaml_get(net->doc->root, "blocks");
    }
    return NULL;
}

/* Every argument that a preset sets is one of the adapter. */
static bool check_preset_args(Reader *r, const Preset *p, const Doc *adapter, Loc loc) {
    const char *what = arena_printf(r->arena, "adapter '%s'", adapter->name);
    for (int b = 0; b < p->n_block; b++)
        for (int i = 0; i < p->at[b]->n; i++)
            if (!name_known(r->arena, p->at[b]->name[i],
                            yaml_get(adapter->root, "args"), adapter_also, "argument",
                            what, loc, r->e))
                return false;
    return true;
}

/* `preset:` is a name, or {use: name, argument: list ...}; a list is stronger. */
static bool eval_preset(Reader *r, const YNode *n, AdapterEntry *a) {
    const YNode *name = n && n->kind == Y_MAP ? yaml_get(n, "use") : n;
    Preset *p = NEW(r->arena, Preset, 1);
    Val v = val_word("");
    bool any = false;
    if (!n || (name && !text_eval(r->arena, name, r->r->options, &v, r->e))) return !n;
    if (v.word[0]) {
        const Doc *d = doc_load(r->lib, v.word, DOC_PRESET, doc_of(r->lib, v.loc.src),
                                v.loc, r->e);
        if (!d || !preset_eval(r->arena, d, p, r->e) || !check_blocks(r, p, a, name))
            return false;
    }
    if (!p->at) {
        const YNode *blocks = blocks_of(r, a);
        if (!blocks)
            return n->kind != Y_MAP || err_at(r->e, n->loc,
                                              "network '%s' has no blocks: a preset "
                                              "gives values by block",
                                              a->on[0].network);
        preset_init(r->arena, r->r->doc, blocks, p);
    }
    if (n->kind == Y_MAP &&
        !preset_values(r->arena, n, r->what, r->r->options, p, r->e))
        return false;
    for (int b = 0; b < p->n_block; b++) any = any || p->at[b]->n;
    a->preset = any ? p : NULL;
    return check_preset_args(r, p, a->doc, n->loc);
}

static bool eval_adapter(Reader *r, const YNode *n, AdapterEntry *a, bool *wanted) {
    static const char *const keys[] = {"use", "on", "preset", "when", "stack", NULL};
    const YNode *on = yaml_get(n, "on");
    a->loc = n->loc;
    a->args = args_new(r->arena);
    a->on = NEW(r->arena, AdapterTarget, on->n + 1);
    a->doc = eval_use(r, n, DOC_ADAPTER);
    *wanted = true;
    if (!a->doc || !eval_flag(r, n, "when", wanted)) return false;
    if (!on->n) return err_at(r->e, on->loc, "'on' names no network");
    for (; a->n_on < on->n; a->n_on++)
        if (!eval_target(r, on->key[a->n_on], on->item[a->n_on], &a->on[a->n_on]))
            return false;
    if (!*wanted) return true;
    if (!eval_flag(r, n, "stack", &a->stack) ||
        !eval_args(r, n, a->doc, keys, adapter_also, a->args))
        return false;
    /* an entry without a rate learns at the recipe's own */
    const Val *rate = args_get(r->r->options, "learning_rate");
    if (rate && !args_get(a->args, "lr")) args_set(a->args, "lr", *rate);
    return eval_preset(r, yaml_get(n, "preset"), a);
}

static bool eval_adapters(Reader *r) {
    const YNode *list = last_of(r, "adapters");
    r->r->adapter = NEW(r->arena, AdapterEntry, list ? list->n + 1 : 1);
    for (int i = 0; list && i < list->n; i++) {
        AdapterEntry *a = &r->r->adapter[r->r->n_adapter];
        bool wanted;
        *a = (AdapterEntry){0};
        if (!eval_adapter(r, list->item[i], a, &wanted)) return false;
        r->r->n_adapter += wanted;
    }
    return true;
}

/* ---- rules ---- */
/* An argument of a rule belongs to at least one adapter of the recipe. */
static bool rule_key(Reader *r, const char *key, Loc loc) {
    const char **names = NULL;
    int n = 0, cap = 0;
    if (in_list(key, adapter_also)) return true;
    for (int i = 0; i < r->r->n_adapter; i++)
        if (yaml_get(yaml_get(r->r->adapter[i].doc->root, "args"), key)) return true;
    for (int i = 0; adapter_also[i]; i++)
        PUSH(r->arena, names, n, cap, adapter_also[i]);
    for (int i = 0; i < r->r->n_adapter; i++) {
        const YNode *args = yaml_get(r->r->adapter[i].doc->root, "args");
        for (int k = 0; args && k < args->n; k++)
            PUSH(r->arena, names, n, cap, args->key[k]->s);
    }
    PUSH(r->arena, names, n, cap, NULL);
    return err_at(r->e, loc, "no adapter of %s has an argument '%.60s'%s", r->what, key,
                  did_you_mean(r->arena, key, names));
}

static AdapterRule *add_rule(Reader *r, const char *match, Loc loc) {
    AdapterRule rule = {match, args_new(r->arena), loc};
    PUSH(r->arena, r->r->rule, r->r->n_rule, r->cap_rule, rule);
    return &r->r->rule[r->r->n_rule - 1];
}

static bool eval_rules(Reader *r) {
    for (int d = 0; d < r->n_doc; d++) {
        const YNode *list = yaml_get(r->doc[d]->root, "rules");
        for (int i = 0; list && i < list->n; i++) {
            const YNode *n = list->item[i];
            const char *match;
            if (!eval_text(r, n, "match", &match)) return false;
            AdapterRule *rule = add_rule(r, match ? match : "", n->loc);
            for (int k = 0; k < n->n; k++) {
                Val v;
                if (!strcmp(n->key[k]->s, "match")) continue;
                if (!rule_key(r, n->key[k]->s, n->key[k]->loc) ||
                    !eval_slot(r, n->item[k], &v))
                    return false;
                args_set(rule->args, n->key[k]->s, v);
            }
        }
    }
    return true;
}

/* ---- sections of train, data, sample, plan ---- */
static bool is_text(const Key *k) {
    return k->slot->scalar == TEXT;
}

static bool set_section(Reader *r, const char *name, const Key *keys, Args *out) {
    for (const Key *k = keys; k->name; k++) {
        const char *full = arena_printf(r->arena, "%s.%s", name, k->name);
        const Val *given = args_get(r->set, full);
        if (!given) continue;
        Val v = *given;
        if (!is_text(k) && v.kind == VAL_WORD) v = typed_value(r->arena, v.word);
        if (is_text(k) && !val_to_text(r->arena, &v))
            return err_at(r->e, v.loc, "'%s' wants text, got a list", full);
        args_set(out, k->name, v);
    }
    return true;
}

static bool eval_section(Reader *r, const char *name, Args **out) {
    const Key *keys = key_find(doc_keys[DOC_RECIPE], name)->slot->keys;
    const YNode *map = section(r, name);
    *out = args_new(r->arena);
    for (int i = 0; map && i < map->n; i++) {
        const Key *k = key_find(keys, map->key[i]->s);
        Val v;
        if (!(is_text(k) ? text_eval(r->arena, map->item[i], r->r->options, &v, r->e)
                         : eval_slot(r, map->item[i], &v)))
            return false;
        args_set(*out, k->name, v);
    }
    return set_section(r, name, keys, *out);
}

/* ---- objective and optimizer ---- */
static bool eval_part(Reader *r, const char *name, DocKind kind, const Doc **doc,
                      Args **out) {
    static const char *const skip[] = {"use", "when", NULL};
    const YNode *map = section(r, name);
    Args *given = args_new(r->arena);
    *out = args_new(r->arena);
    if (!map)
        return err_at(r->e, r->r->doc->root->loc, "%s has no '%s'", r->what, name);
    *doc = eval_use(r, map, kind);
    if (!*doc || !eval_args(r, map, *doc, skip, NULL, given)) return false;
    for (int i = 0; r->set && i < r->set->n; i++) {
        size_t n = strlen(name);
        const char *key = r->set->name[i];
        if (!strncmp(key, name, n) && key[n] == '.')
            args_set(given, key + n + 1, r->set->val[i]);
    }
    const char *what = arena_printf(r->arena, "%s '%s'", name, (*doc)->name);
    return args_bind(r->arena, yaml_get((*doc)->root, "args"), given, what, map->loc,
                     *out, r->e);
}

/* The running mean, if `when` says so. It must keep what is saved: a state `average`. */
static bool eval_average(Reader *r) {
    const YNode *map = section(r, "average");
    bool when = true;
    if (!map) return true;
    if (!eval_flag(r, map, "when", &when) || !when) return !r->e->set;
    if (!eval_part(r, "average", DOC_OPTIMIZER, &r->r->average, &r->r->average_args))
        return false;
    const YNode *states = yaml_get(r->r->average->root, "state");
    return yaml_get(states, "average") != NULL ||
           err_at(r->e, map->loc, "optimizer '%s' has no state 'average'",
                  r->r->average->name);
}

static bool check_objective(Reader *r) {
    const Doc *d = r->r->objective;
    const YNode *need = yaml_get(d->root, "networks");
    for (int i = 0; need && i < need->n; i++) {
        const char *name = need->item[i]->s;
        bool has = false;
        for (int k = 0; k < r->r->n_network; k++)
            has = has || !strcmp(r->r->network[k].name, name);
        if (!has)
            return err_at(
                r->e, section(r, "networks")->loc,
                "objective '%s' needs the network '%s': %s has none of that name",
                d->name, name, r->what);
    }
    return true;
}

/* ---- --set SECTION.key and PATTERN.key ---- */
/* The value of a rule, as the first adapter with this argument declares it. */
static bool set_rule(Reader *r, AdapterRule *rule, const char *key, const Val *given) {
    for (int i = 0; i < r->r->n_adapter; i++) {
        const Doc *d = r->r->adapter[i].doc;
        const YNode *decl = yaml_get(yaml_get(d->root, "args"), key);
        const char *what = arena_printf(r->arena, "adapter '%s'", d->name);
        Bind b = {
            .arena = r->arena, .what = what, .noun = "argument", .loc = given->loc};
        if (decl) return bind_one(&b, key, decl, NULL, given, rule->args, r->e);
    }
    Val v = given->kind == VAL_WORD ? typed_value(r->arena, given->word) : *given;
    double f;
    if (!val_number(&v, &f)) return err_at(r->e, v.loc, "'%s' wants a number", key);
    args_set(rule->args, key, v);
    return true;
}

static bool set_one(Reader *r, const char *name, const Val *given) {
    static const char *const parts[] = {"objective", "optimizer", "average", NULL};
    static const char *const sections[] = {"train", "data", "sample", "plan", NULL};
    const char *first = strchr(name, '.'), *last = strrchr(name, '.');
    if (!first) return true; /* an option */
    const char *head = arena_strndup(r->arena, name, (size_t)(first - name));
    if (in_list(head, parts)) return true; /* args_bind took it */
    if (in_list(head, sections)) {
        const Key *keys = key_find(doc_keys[DOC_RECIPE], head)->slot->keys;
        if (key_find(keys, first + 1)) return true; /* set_section took it */
        return err_at(r->e, given->loc, "'%s' has no key '%.60s'%s", head, first + 1,
                      did_you_mean(r->arena, first + 1, key_names(r->arena, keys)));
    }
    if (!rule_key(r, last + 1, given->loc)) return false;
    const char *match = arena_strndup(r->arena, name, (size_t)(last - name));
    return set_rule(r, add_rule(r, match, given->loc), last + 1, given);
}

static bool set_rules(Reader *r) {
    for (int i = 0; r->set && i < r->set->n; i++)
        if (!set_one(r, r->set->name[i], &r->set->val[i])) return false;
    return true;
}

bool recipe_eval(Arena *a, Library *lib, const Doc *doc, const Args *set, Recipe *out,
                 Err *e) {
    Reader r = {.arena = a, .lib = lib, .r = out, .set = set, .e = e};
    *out = (Recipe){.doc = doc, .options = args_new(a)};
    r.what = arena_printf(a, "recipe '%s'", doc->name);
    flatten(&r, doc);
    if (!merge_options(&r) || !bind_options(&r)) return false;
    if (!last_of(&r, "networks"))
        return err_at(e, doc->root->loc, "%s has no 'networks'", r.what);
    return eval_networks(&r) && eval_adapters(&r) && eval_rules(&r) &&
           eval_part(&r, "objective", DOC_OBJECTIVE, &out->objective,
                     &out->objective_args) &&
           check_objective(&r) &&
           eval_part(&r, "optimizer", DOC_OPTIMIZER, &out->optimizer,
                     &out->optimizer_args) &&
           eval_average(&r) && eval_section(&r, "train", &out->train) &&
           eval_section(&r, "data", &out->data) &&
           eval_section(&r, "sample", &out->sample) &&
           eval_section(&r, "plan", &out->plan) && set_rules(&r);
}
