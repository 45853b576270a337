/* The closed schema of the documents as data: one set of tables says which keys a document
 * has and what stands behind them. schema.c checks documents with it, schema_json.c prints
 * it for editors. Private to graph/ (cli only prints). */
#ifndef GRAPHRUN_SCHEMA_H
#define GRAPHRUN_SCHEMA_H
#include "graph/lang/doc.h"
#include "graph/op.h"

/* What a scalar is. */
typedef enum Text {
    NO_TEXT, /* no scalar may stand here */
    TEXT,    /* any text: a file, a sentence, a pattern */
    NAME,    /* [A-Za-z_][A-Za-z0-9_]* */
    PATH,    /* names joined by dots; parts behind the first may be numbers */
    FORMULA, /* value slot */
    EXPR     /* attribute slot */
} Text;

typedef struct Slot Slot;
typedef struct Checker Checker;
typedef bool Rule(Checker *c, const YNode *n, Err *e);

typedef struct Key {
    const char *name;
    const Slot *slot;
    bool required;
    const char *doc; /* one line, for editors */
} Key;

/* What may stand behind a key: a scalar, a list, a mapping, or one of several of them. */
struct Slot {
    const char *what; /* "a formula", for messages; also the name in JSON Schema */
    Text scalar;
    /* the only texts allowed, NULL-terminated; or NULL: any */
    const char *const *words;
    const Slot *item;  /* a list of these, or NULL */
    const Key *keys;   /* a mapping with these keys (ends with name NULL), or NULL */
    const Slot *value; /* a mapping with names of its own, or NULL */
    Text name;         /* what those names are */
    const char *more;  /* with keys: further keys are values of `value`: "argument" */
    Rule *rule;        /* what else must hold; runs before the parts are checked */
};

struct Checker {
    Arena *arena;
    const Doc *doc;
    const YNode *key; /* the key in front of the node being checked, or NULL */
};

extern const Key *const doc_keys[DOC_KINDS]; /* without the first key */
extern const Slot slot_node;

/* The eight keys that say what a node is, those that every node may have, those of an op
 * that owns tensors. End with name NULL. */
extern const Key node_kinds[], node_keys[], param_keys[];
extern const char *const node_dtypes[];     /* f32 f16 bf16 i32 */
extern const char *const state_codes[];     /* signed unsigned */
extern const Slot slot_formula, slot_value; /* of a template's inputs and arguments */
const Key *key_find(const Key *keys, const char *name); /* NULL: none */
const char *const *key_names(Arena *a, const Key *keys);

/* Every key is known, given once, there if required, and holds what its slot says. */
bool schema_check(Arena *a, const Doc *d, Err *e);
bool slot_check(Checker *c, const Slot *s, const YNode *n, Err *e);
/* The word after "a " for messages: "scalar", "list", "mapping". */
const char *yaml_kind(const YNode *n);

/* ---- rules (rules.c) ---- */
Rule check_node, check_value_names, check_inputs, check_template, check_output,
    check_count, check_from, check_wraps;
/* What may stand behind a key of a node with this op; NULL: it has no such key. */
const Slot *op_key(const Op *op, const char *key);
/* What needs the whole document: save lines, variants, uses of templates. */
bool document_rules(Checker *c, Err *e);

/* ---- arguments (args.c) ---- */
/* Binds one declared argument. given: from outside, converted to the declaration's type;
 * written: the expression that overrides the default; both may be NULL. text: path and word
 * arguments are plain text unless they hold a '$' (options of recipes). */
typedef struct Bind {
    Arena *arena;
    const char *what; /* "adapter 'lora'" */
    const char *noun; /* "argument" */
    bool text;
    Loc loc; /* blamed for what is missing */
} Bind;
bool bind_one(const Bind *b, const char *name, const YNode *decl, const YNode *written,
              const Val *given, Args *out, Err *e);
/* Text unless it holds a '$'; then an expression. out->loc is where the text was written:
 * for `$name`, the place of that argument if it has one. */
bool text_eval(Arena *a, const YNode *n, const Args *args, Val *out, Err *e);
/* A value typed on the command line: an expression without arguments, a list where there are
 * commas or brackets, else the text itself. */
Val typed_value(Arena *a, const char *text);
/* Any scalar value as a word; false: a list. */
bool val_to_text(Arena *a, Val *v);
/* "WHAT has no NOUN 'x'; did you mean ..." for a name that decl (a map) does not have;
 * `also`: further names, NULL-terminated, or NULL. */
bool name_known(Arena *a, const char *name, const YNode *decl, const char *const *also,
                const char *noun, const char *what, Loc loc, Err *e);

/* Adds the values of a `values:` map to p->at, for the blocks of p. what: "preset 'sine'".
 * An empty list says nothing. */
bool preset_values(Arena *a, const YNode *values, const char *what, const Args *args,
                   Preset *p, Err *e);
/* p without values, for these names (a `blocks:` list). */
void preset_init(Arena *a, const Doc *doc, const YNode *blocks, Preset *p);
/* Where the value behind n was written. */
Loc value_loc(const YNode *n, const Args *args);
/* The document with this source, or NULL. */
Doc *doc_of(Library *lib, const Source *src);
#endif
