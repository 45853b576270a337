/* The tables of the closed schema, and the walk that checks a document against them.
 *
 * A Slot says what may stand behind a key; a Key names it. Nothing else in the program
 * lists keys of documents: the JSON Schema is printed from the same tables, and keys of an
 * op come from the op table. The walk recurses as deep as YAML may nest (64). */
#include "graph/lang/schema.h"
#include <string.h>

/* ---- small slots ---- */
static const Slot text = {.what = "text", .scalar = TEXT};
static const Slot name = {.what = "a name", .scalar = NAME};
static const Slot path = {.what = "a name", .scalar = PATH};
static const Slot expr = {.what = "an expression", .scalar = EXPR};
static const Slot texts = {.what = "a list of texts", .item = &text};
static const Slot names = {.what = "a list of names", .item = &name};
static const Slot blocks = {
    .what = "a list of names", .item = &name, .rule = check_count};
static const Slot tensors = {
    .what = "a list of tensors", .item = &path, .rule = check_count};
static const Slot files = {
    .what = "a list of files", .item = &text, .rule = check_from};
static const Slot dtype = {
    .what = "a type of elements", .scalar = NAME, .words = node_dtypes};

static const Slot args = {.what = "a mapping of arguments",
                          .value = &slot_value,
                          .name = NAME,
                          .rule = check_count};
static const Slot exprs = {.what = "a mapping of expressions",
                           .value = &slot_value,
                           .name = NAME,
                           .rule = check_count};
static const Slot formulas = {.what = "a mapping of formulas",
                              .value = &slot_formula,
                              .name = NAME,
                              .rule = check_inputs};
static const Slot outputs = {.what = "a mapping of formulas",
                             .value = &slot_formula,
                             .name = NAME,
                             .rule = check_count};
static const Slot texts_by_name = {
    .what = "a mapping of texts", .value = &text, .name = NAME, .rule = check_count};
static const Slot lists_by_name = {.what = "a mapping of lists of patterns",
                                   .value = &texts,
                                   .name = NAME,
                                   .rule = check_count};

const char *const state_codes[] = {"signed", "unsigned", NULL};
const char *const node_dtypes[] = {"f32", "f16", "bf16", "i32", NULL};
const Slot slot_formula = {.what = "a formula", .scalar = FORMULA};
const Slot slot_value = {
    .what = "an expression or a list", .scalar = EXPR, .item = &expr};

/* ---- nodes and templates ---- */
const Slot slot_node = {
    .what = "a formula or a mapping", .scalar = FORMULA, .rule = check_node};
static const Slot nodes = {.what = "a mapping of nodes",
                           .value = &slot_node,
                           .name = PATH,
                           .rule = check_value_names};

/* clang-format off */
const Key node_kinds[] = {
    { "op",   &name,    false, "a row of the op table" },
    { "use",  &name,    false, "a template" },
    { "call", &name,    false, "a network" },
    { "is",   &slot_formula, false, "a formula, where when, else or dtype are needed" },
    { "push", &name,    false, "puts x on the stack of this name" },
    { "pop",  &name,    false, "takes the top of the stack of this name" },
    { "peek", &name,    false, "looks at the top of the stack of this name" },
    { "total", &slot_formula, false, "optimizer: sum over all elements of all parameters" },
    { 0 }
};
const Key node_keys[] = {
    { "when",   &expr,    false, "false: the node is left out; its value is `else`, or x" },
    { "else",   &slot_formula, false, "the value when the node is left out" },
    { "block",  &expr,    false, "index into the network's blocks, for all inside" },
    { "dtype",  &dtype,   false, "the value keeps this type" },
    { "repeat", &expr,    false, "that many instances NAME.0, NAME.1 ...; $i is the index" },
    { "chain",  &name,    false, "input that is the output of the instance before" },
    { 0 }
};
static const Key init_keys[] = {
    { "value", &slot_formula, true, "computed once, when training starts" },
    { 0 }
};
static const Slot init = { .what = "an initialiser", .scalar = EXPR, .keys = init_keys };
static const Key active_keys[] = {
    { "axis",  &expr,    true, "dimension that is cut into slices" },
    { "size",  &expr,    true, "width of a slice" },
    { "index", &slot_formula, true, "the slice that learns in this step" },
    { 0 }
};
static const Slot active = { .what = "a mapping", .keys = active_keys };
const Key param_keys[] = {
    { "init",   &init,   false, "zeros ones constant(v) uniform(b) normal(s) kaiming_uniform, or {value: node}" },
    { "train",  &expr,   false, "false: stays as it was drawn" },
    { "lr",     &expr,   false, "factor of the learning rate" },
    { "shared", &expr,   false, "one tensor for all modules with this name and shape" },
    { "active", &active, false, "only one slice learns in a step" },
    { 0 }
};
static const Key template_keys[] = {
    { "args",   &args,  false, "arguments: a type means required, anything else is the default" },
    { "inputs", &names, false, "names of the values it is given" },
    { "nodes",  &nodes, true,  "what it computes, in order" },
    { "output", &path,  true,  "the node that is its value" },
    { "checkpoint", &expr, false, "true: a use of it is one segment of gradient checkpointing" },
    { "doc",    &text,  false, "what it is" },
    { 0 }
};
static const Slot template = { .what = "a template", .keys = template_keys, .rule = check_template };
static const Slot templates = { .what = "a mapping of templates", .value = &template, .name = NAME,
                                .rule = check_count };

static const Slot shape = { .what = "a list of dimensions", .item = &expr };
static const Key input_keys[] = {
    { "shape",   &shape, true,  "integers, expressions or symbols; B is the batch" },
    { "dtype",   &dtype, false, "type of elements, f32 if not given" },
    { "default", &expr,  false, "the number it is when the batch does not have it" },
    { 0 }
};
static const Slot input = { .what = "an input", .keys = input_keys };
static const Slot inputs = { .what = "a mapping of inputs", .value = &input, .name = NAME,
                             .rule = check_inputs };

/* ---- adapters ---- */
static const Key output_keys[] = {
    { "add",     &slot_formula, false, "new output = output + value" },
    { "replace", &slot_formula, false, "new output = value" },
    { "weight",  &slot_formula, false, "the op with this weight, a matrix [$out, $fan_in]" },
    { 0 }
};
static const Slot output = { .what = "an output", .keys = output_keys, .rule = check_output };
static const Slot saved = { .what = "a mapping of key suffixes", .value = &expr, .name = TEXT, .rule = check_count };
static const Slot schemes = { .what = "a mapping of naming schemes", .value = &saved, .name = NAME, .rule = check_count };
static const Slot absent = { .what = "a mapping of key suffixes", .value = &expr, .name = TEXT, .rule = check_count };
static const Key norm_keys[] = {
    { "nodes", &nodes,        false, "what `of` is made of, from the adapter's tensors alone" },
    { "of",    &slot_formula, true,  "the change of the wrapped weight; its length is the module's norm" },
    { "scale", &tensors, true, "the tensors that make it shorter; it is linear in each" },
    { 0 }
};
static const Slot norm = { .what = "a norm", .keys = norm_keys };
static const Slot wraps = { .what = "a list of ops", .item = &name, .rule = check_wraps };

/* ---- presets ---- */
static const Slot part_is = { .what = "an expression of i or a list", .scalar = EXPR, .item = &expr };
static const Key part_keys[] = {
    { "from", &text,    true, "first block" },
    { "to",   &text,    true, "last block" },
    { "is",   &part_is, true, "a number, a list, or a formula of i (0 at from)" },
    { 0 }
};
static const Slot part = { .what = "an expression or a part", .scalar = EXPR, .keys = part_keys };
static const Slot block_value = { .what = "a value, a list or parts", .scalar = EXPR, .item = &part };
static const Slot block_values = { .what = "a mapping of arguments", .value = &block_value, .name = NAME, .rule = check_count };

/* ---- recipes ---- */
static const Slot option = { .what = "an option", .scalar = TEXT, .item = &text };
static const Slot options = { .what = "a mapping of options", .value = &option, .name = NAME, .rule = check_count };
static const Slot code_map = {
    .what = "a map of codes", .scalar = NAME, .words = state_codes };
static const Key state_keys[] = {
    { "start",    &expr,     true,  "its value before the first update" },
    { "shared",   &expr,     false, "true: one number for all parameters" },
    { "codes",    &code_map, false, "kept as one byte per element: signed or unsigned" },
    { "block",    &expr,     false, "elements that share one scale" },
    { "at_least", &expr,     false, "smaller tensors keep 32 bits" },
    { 0 }
};
static const Slot state = { .what = "a formula or a mapping", .scalar = FORMULA, .keys = state_keys };
static const Slot states = { .what = "a mapping of states", .value = &state, .name = NAME, .rule = check_inputs };
static const Key network_use_keys[] = {
    { "use",     &text,  true,  "network document" },
    { "from",    &text,  false, "checkpoint: a file or a Diffusers folder" },
    { "variant", &text,  false, "named variant; none: the first that fits the checkpoint" },
    { "args",    &exprs, false, "arguments of the network" },
    { "train",   &expr,  false, "true: all its tensors are trained, not only adapters on it" },
    { "lr",      &expr,  false, "learning rate of its tensors, where they are trained" },
    { 0 }
};
static const Slot network_use = { .what = "a network", .keys = network_use_keys };
static const Slot network_uses = { .what = "a mapping of networks", .value = &network_use, .name = NAME, .rule = check_count };

static const Slot on = { .what = "a mapping of networks to targets", .value = &texts, .name = NAME, .rule = check_count };
static const Key preset_use_keys[] = {
    { "use", &text, false, "preset document" },
    { 0 }
};
static const Slot preset_use = { .what = "a preset", .scalar = TEXT, .keys = preset_use_keys,
                                 .value = &slot_value, .name = NAME, .more = "argument" };
static const Key adapter_use_keys[] = {
    { "use",    &text,       true,  "adapter document" },
    { "on",     &on,         true,  "targets or patterns, by network" },
    { "preset", &preset_use, false, "values by block: a preset, or lists of its arguments" },
    { "when",   &expr,       false, "false: the entry is left out" },
    { "stack",  &expr,       false, "true: may wrap nodes that an earlier entry wraps" },
    { 0 }
};
static const Slot adapter_use = { .what = "an adapter", .keys = adapter_use_keys, .value = &slot_value,
                                  .name = NAME, .more = "argument" };
static const Slot adapter_uses = { .what = "a list of adapters", .item = &adapter_use, .rule = check_count };
static const Key rule_keys[] = {
    { "match", &text, true, "path pattern, as in unet.**.attn2.to_v" },
    { 0 }
};
static const Slot rule = { .what = "a rule", .keys = rule_keys, .value = &slot_value, .name = NAME,
                           .more = "argument" };
static const Slot rules = { .what = "a list of rules", .item = &rule, .rule = check_count };
static const Key use_keys[] = {
    { "use", &text, true, "the document" },
    { 0 }
};
static const Slot use = { .what = "a document and its arguments", .keys = use_keys, .value = &slot_value,
                          .name = NAME, .more = "argument" };

static const Key average_keys[] = {
    { "use",  &text, true,  "an optimizer document with the state `average`" },
    { "when", &expr, false, "false: no mean is kept" },
    { 0 }
};
static const Slot average = { .what = "a document and its arguments", .keys = average_keys, .value = &slot_value,
                              .name = NAME, .more = "argument" };

static const Key train_keys[] = {
    { "steps",                       &expr, false, "updates" },
    { "epochs",                      &expr, false, "0: `steps` decides" },
    { "learning_rate",               &expr, false, "rate of what has none of its own" },
    { "max_grad_norm",               &expr, false, "clip to this norm; 0: no clipping" },
    { "schedule",                    &text, false, "learning-rate schedule" },
    { "warmup",                      &expr, false, "steps, or a part of all steps below 1" },
    { "decay_steps",                 &expr, false, "steps of the decay" },
    { "cycles",                      &expr, false, "restarts of cosine_with_restarts" },
    { "power",                       &expr, false, "exponent of polynomial" },
    { "timescale",                   &expr, false, "of inverse_sqrt" },
    { "min_lr_ratio",                &expr, false, "where the decay ends" },
    { "step_rules",                  &text, false, "of piecewise_constant: 1:100,0.1:200,0.05" },
    { "on_nan",                      &text, false, "stop, or skip: no update where loss or gradient are no numbers" },
    { "seed",                        &expr, false, "of all random numbers" },
    { "mixed_precision",             &text, false, "no, fp16 or bf16" },
    { "full_fp16",                   &expr, false, "trainables and gradients in half; needs fp16" },
    { "full_bf16",                   &expr, false, "the same in bfloat16; needs bf16" },
    { "gradient_accumulation_steps", &expr, false, "micro-batches per update" },
    { "gradient_checkpointing",      &expr, false, "recompute activations in the backward" },
    { "memory_budget",               &text, false, "bytes, or 6GiB: recompute what is needed to fit" },
    { "scale_weight_norms",          &expr, false, "largest norm of a module's update; 0: none" },
    { "output_dir",                  &text, false, "folder of what is written" },
    { "output_name",                 &text, false, "name of the LoRA file" },
    { 0 }
};
static const Key picture_keys[] = {
    { "run", &expr,         true, "the first run of step $first, which a picture begins with" },
    { "x",   &slot_formula, true, "the state x there, from `image`, a latent, and `noise`" },
    { 0 }
};
static const Key data_keys[] = {
    { "config",            &text,  false, "dataset description (TOML or JSON)" },
    { "batch",             &expr,  false, "samples per micro-batch" },
    { "resolution",        &slot_value, false, "pixels: one number, or width and height" },
    { "chunks",            &expr,  false, "chunks of 77 tokens" },
    { "prior_loss_weight", &expr,  false, "weight of regularisation images" },
    { 0 }
};
static const Key sample_keys[] = {
    { "use",           &text, false, "sampler document" },
    { "prompts",       &text, false, "file of prompts" },
    { "every_n_steps", &expr, false, "updates between pictures; 0: none" },
    { "every_n_epochs",&expr, false, "epochs between pictures; 0: none" },
    { "at_first",      &expr, false, "pictures before the first update" },
    { "steps",         &expr, false, "denoising steps" },
    { "scale",         &expr, false, "guidance" },
    { "width",         &expr, false, "pixels" },
    { "height",        &expr, false, "pixels" },
    { "seed",          &expr, false, "of the pictures" },
    { 0 }
};
static const Key plan_keys[] = {
    { "device",        &text, false, "cpu or cuda" },
    { "memory_budget", &text, false, "bytes, or 6GiB" },
    { "cache",         &text, false, "folder of compiled plans" },
    { 0 }
};
static const Slot train = { .what = "a train section", .keys = train_keys };
static const Slot data = { .what = "a data section", .keys = data_keys };
static const Slot picture = { .what = "how it begins with a picture", .keys = picture_keys };
static const Slot sample = { .what = "a sample section", .keys = sample_keys };
static const Slot plan = { .what = "a plan section", .keys = plan_keys };

/* ---- the eight documents ---- */
#define DOC { "doc", &text, false, "what the document is" }
#define FROM { "from", &files, false, "libraries whose templates it uses; paths relative to this file" }

static const Key network_keys[] = {
    { "prefix",    &texts_by_name, false, "what LoRA key names begin with, by naming scheme" },
    { "args",      &args,          false, "arguments: a type means required, anything else is the default" },
    { "variants",  &(const Slot){ .what = "a mapping of variants", .value = &exprs, .name = NAME },
                                   false, "named sets of arguments" },
    { "symbols",   &texts_by_name, false, "dimensions bound when a plan is made, with what they are" },
    { "blocks",    &blocks,        false, "names of the blocks that presets give values to" },
    { "targets",   &lists_by_name, false, "named lists of path patterns for adapters" },
    { "inputs",    &inputs,        true,  "what it is called with" },
    { "templates", &templates,     false, "groups of nodes, used by name" },
    { "nodes",     &nodes,         true,  "what it computes, in order" },
    { "outputs",   &outputs,       true,  "named values; the first is the value of a call" },
    FROM, DOC, { 0 }
};
static const Key adapter_keys[] = {
    { "args",   &args,    false, "arguments: a type means required, anything else is the default" },
    { "let",    &exprs,   false, "named expressions" },
    { "when",   &expr,    false, "false: the node is not wrapped" },
    { "wraps",  &wraps,   true,  "ops it can wrap" },
    { "nodes",  &nodes,   true,  "what it computes; x y w b: input, output, weight, bias of the wrapped node" },
    { "output", &output,  true,  "what the wrapped node becomes" },
    { "save",   &schemes, true,  "key suffix -> tensor or $expression, by naming scheme" },
    { "absent", &absent,  false, "values of keys that a file may lack" },
    { "norm",   &norm,    false, "what --scale_weight_norms limits" },
    DOC, { 0 }
};
static const Key preset_keys[] = {
    { "blocks", &blocks,       true, "names of the blocks, in order" },
    { "values", &block_values, true, "argument -> one value, one per block, or parts" },
    DOC, { 0 }
};
static const Key objective_keys[] = {
    { "args",      &args,          false, "arguments: a type means required, anything else is the default" },
    { "let",       &exprs,         false, "named expressions" },
    { "symbols",   &texts_by_name, false, "dimensions bound when a plan is made, with what they are" },
    { "networks",  &blocks,        false, "networks that the recipe binds" },
    { "inputs",    &inputs,        true,  "fields of a batch" },
    { "templates", &templates,     false, "groups of nodes, used by name" },
    { "nodes",     &nodes,         true,  "what it computes, in order" },
    { "loss",      &slot_formula,       true,  "a scalar" },
    { "log",       &outputs,       false, "named values to watch" },
    FROM, DOC, { 0 }
};
static const Key sampler_keys[] = {
    { "args",      &args,      false, "arguments: a type means required, anything else is the default" },
    { "let",       &exprs,     false, "named expressions" },
    { "title",     &text,      false, "what other programs call it" },
    { "also",      &texts,     false, "further names in recipes and of --sampler" },
    { "runs",      &expr,      false, "how often the step runs; without it once for each of $steps" },
    { "tables",    &nodes,     false, "constants, one entry per step" },
    { "state",     &formulas,  true,  "values carried from step to step, and their start" },
    { "step",      &nodes,     true,  "one step; a node with a state's name is its new value" },
    { "picture",   &picture,   false, "how it begins with a picture, in step $first instead of 0" },
    { "templates", &templates, false, "groups of nodes, used by name" },
    FROM, DOC, { 0 }
};
static const Key optimizer_keys[] = {
    { "args",   &args,     false, "arguments: a type means required, anything else is the default" },
    { "let",    &exprs,    false, "named expressions" },
    { "also",   &texts,    false, "further names in recipes and of --optimizer_type" },
    { "usual_rate", &expr, false, "usual learning rate where it is a factor of what the optimizer finds; 0: it is not read" },
    { "state",  &states,   false, "values carried from update to update, and their start" },
    { "update", &nodes,    true,  "one update; the node p is the new parameter" },
    DOC, { 0 }
};
static const Key recipe_keys[] = {
    { "options",   &options,      false, "flags of graphrun train, with their defaults" },
    { "networks",  &network_uses, false, "networks and where their tensors come from" },
    { "adapters",  &adapter_uses, false, "what is trained" },
    { "rules",     &rules,        false, "arguments by path; the last match wins" },
    { "objective", &use,          false, "the training step" },
    { "optimizer", &use,          false, "the update" },
    { "average",   &average,      false, "a running mean of the adapters, saved beside them" },
    { "train",     &train,        false, "the training loop" },
    { "data",      &data,         false, "the batches" },
    { "sample",    &sample,       false, "pictures while training" },
    { "plan",      &plan,         false, "how the plan is made" },
    { "from",      &files,        false, "recipes it starts from; paths relative to this file" },
    DOC, { 0 }
};
static const Key library_keys[] = {
    { "templates", &templates, true, "groups of nodes, used by name" },
    FROM, DOC, { 0 }
};
/* clang-format on */

const Key *const doc_keys[DOC_KINDS] = {
    [DOC_NETWORK] = network_keys, [DOC_ADAPTER] = adapter_keys,
    [DOC_PRESET] = preset_keys,   [DOC_OBJECTIVE] = objective_keys,
    [DOC_SAMPLER] = sampler_keys, [DOC_OPTIMIZER] = optimizer_keys,
    [DOC_RECIPE] = recipe_keys,   [DOC_LIBRARY] = library_keys,
};

/* ---- the walk ---- */
const char *yaml_kind(const YNode *n) {
    return n->kind == Y_LIST ? "list" : n->kind == Y_MAP ? "mapping" : "scalar";
}

static bool letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool digit(char c) {
    return c >= '0' && c <= '9';
}

/* NAME; with dots: PATH. */
static bool is_name(const char *s, bool dots) {
    if (!letter(*s)) return false;
    for (; *s; s++) {
        if (letter(*s) || digit(*s)) continue;
        if (!dots || *s != '.' || (!letter(s[1]) && !digit(s[1]))) return false;
    }
    return true;
}

static bool check_text(Checker *c, Text kind, const char *const *words, const YNode *n,
                       Err *e) {
    if (kind == FORMULA || kind == EXPR) return expr_parse(c->arena, n, e) != NULL;
    if (kind != TEXT && !is_name(n->s, kind == PATH))
        return err_at(e, n->loc, "'%.60s' is not a name: want letters, digits and _%s",
                      n->s, kind == PATH ? ", joined by dots" : "");
    if (kind == TEXT && !n->s[0] && !n->quoted)
        return err_at(e, n->loc, "a value is missing here");
    Str list = {0};
    bool ok = !words;
    for (int i = 0; words && words[i]; i++) {
        ok = ok || !strcmp(words[i], n->s);
        str_printf(&list, "%s%s", i ? ", " : "", words[i]);
    }
    if (!ok) err_at(e, n->loc, "got '%.60s', want one of %s", n->s, list.s);
    str_free(&list);
    return ok;
}

const Key *key_find(const Key *keys, const char *s) {
    for (; keys && keys->name; keys++)
        if (!strcmp(keys->name, s)) return keys;
    return NULL;
}

const char *const *key_names(Arena *a, const Key *keys) {
    int n = 0;
    while (keys[n].name) n++;
    const char **list = NEW(a, const char *, n + 1);
    for (int i = 0; i < n; i++) list[i] = keys[i].name;
    return list;
}

static bool check_required(const Key *keys, const YNode *map, const char *what,
                           Err *e) {
    for (const Key *k = keys; k && k->name; k++)
        if (k->required && !yaml_get(map, k->name))
            return err_at(e, map->loc, "%s needs the key '%s'", what, k->name);
    return true;
}

static bool check_map(Checker *c, const Slot *s, const YNode *n, Err *e) {
    for (int i = 0; i < n->n; i++) {
        const YNode *key = n->key[i];
        const Key *k = key_find(s->keys, key->s);
        if (!k && s->keys && !s->more)
            return err_at(e, key->loc, "unknown key '%.60s' in %s%s", key->s, s->what,
                          did_you_mean(c->arena, key->s, key_names(c->arena, s->keys)));
        if (!k && !check_text(c, s->name, NULL, key, e)) return false;
        c->key = key;
        if (!slot_check(c, k ? k->slot : s->value, n->item[i], e)) return false;
    }
    return check_required(s->keys, n, s->what, e);
}

bool slot_check(Checker *c, const Slot *s, const YNode *n, Err *e) {
    const YNode *key = c->key;
    if (s->rule && !s->rule(c, n, e)) return false;
    if (s == &slot_node && n->kind == Y_MAP) return true; /* the rule saw all of it */
    bool map = s->keys || s->value;
    if (n->kind == Y_SCALAR && s->scalar)
        return check_text(c, s->scalar, s->words, n, e);
    if (n->kind == Y_MAP && map) return check_map(c, s, n, e);
    if (n->kind != Y_LIST || !s->item) {
        const char *of =
            key ? arena_printf(c->arena, "'%.60s' wants ", key->s) : "want ";
        return err_at(e, n->loc, "%s%s, got a %s", of, s->what, yaml_kind(n));
    }
    for (int i = 0; i < n->n; i++) {
        c->key = NULL;
        if (!slot_check(c, s->item, n->item[i], e)) return false;
    }
    return true;
}

bool schema_check(Arena *a, const Doc *d, Err *e) {
    Checker c = {.arena = a, .doc = d};
    const char *kind = doc_kind_name(d->kind);
    const Key *keys = doc_keys[d->kind];
    for (int i = 1; i < d->root->n; i++) {
        const YNode *key = d->root->key[i];
        const Key *k = key_find(keys, key->s);
        if (!k)
            return err_at(e, key->loc, "unknown key '%.60s' in a%s %s%s", key->s,
                          strchr("aeiou", kind[0]) ? "n" : "", kind,
                          did_you_mean(a, key->s, key_names(a, keys)));
        c.key = key;
        if (!slot_check(&c, k->slot, d->root->item[i], e)) return false;
    }
    const char *what = arena_printf(a, "%s '%s'", kind, d->name);
    return check_required(keys, d->root, what, e) && document_rules(&c, e);
}
