/* Documents: the eight kinds of graph file, found, parsed, checked against their schema.
 * After doc_load, every key is known and every required key is there with the right YAML
 * kind (map, list, scalar); formulas and expressions parse. Names inside formulas are
 * resolved when a graph is built. */
#ifndef GRAPHRUN_DOC_H
#define GRAPHRUN_DOC_H
#include "graph/lang/expr.h"

/* of the graph files; counts up when an old file is no longer read */
enum { SCHEMA_VERSION = 1 };

/* clang-format off */
typedef enum DocKind {
    DOC_NETWORK, DOC_ADAPTER, DOC_PRESET, DOC_OBJECTIVE, DOC_SAMPLER, DOC_OPTIMIZER,
    DOC_RECIPE, DOC_LIBRARY, DOC_KINDS
} DocKind;
/* clang-format on */
const char *doc_kind_name(DocKind k);   /* "network" */
const char *doc_kind_folder(DocKind k); /* "networks" */

typedef struct Doc Doc;
struct Doc {
    DocKind kind;
    const char *name;
    const Source *src;
    YNode *root;
    Doc **from; /* libraries (recipe: the recipes it starts from), in order */
    int n_from;
};

/* Where documents come from, and those already read (each file once). */
typedef struct Library Library;
Library *library_new(Arena *a);
/* Document i in the order in which they were read; NULL: there are not as many. */
const Doc *library_doc(const Library *lib, int i);
/* Finds `name` of the given kind (DOC_KINDS: any): as the path given, relative to the file
 * that asks (`from`, may be NULL), in $GRAPHRUN_GRAPHS (FOLDER/NAME.yaml), embedded.
 * `loc`: where the name was written (none: command line). */
Doc *doc_load(Library *lib, const char *name, DocKind want, const Doc *from, Loc loc,
              Err *e);
/* Parses and checks a document from text (tests, stdin). */
Doc *doc_parse(Library *lib, const Source *src, Err *e);
/* Template `name` of the document or its libraries; *owner: the document it stands in. */
YNode *doc_template(const Doc *d, const char *name, const Doc **owner);
const char *const *doc_template_names(Arena *a, const Doc *d);

/* Names of the embedded documents of a kind; NULL-terminated. */
const char *const *doc_shipped(Arena *a, DocKind kind);

/* Embedded graph files (made by the build): path "networks/unet.yaml" and text. */
typedef struct EmbeddedFile {
    const char *path;
    const unsigned char *data;
    size_t len;
} EmbeddedFile;
extern const EmbeddedFile embedded_files[]; /* ends with path NULL */

/* Binds declared arguments: `decl` is an args:/options: map. A type word (int float bool
 * word path [int] [float]) means required. Defaults see the arguments before them. given
 * values are checked against the declaration; unknown names get a suggestion.
 * `what` names the document in messages ("adapter 'lora'"); `loc` is blamed for an argument
 * that is missing, a value that does not fit for where it was written. */
bool args_bind(Arena *a, const YNode *decl, const Args *given, const char *what,
               Loc loc, Args *out, Err *e);

/* ---- presets ---- */
typedef struct Preset {
    const Doc *doc;
    int n_block;
    const char *const *block; /* names */
    Args **at;                /* per block: the arguments it sets */
} Preset;
bool preset_eval(Arena *a, const Doc *doc, Preset *out, Err *e);

/* ---- recipes: everything evaluated but the adapters' own expressions ---- */
typedef struct RecipeNetwork {
    const char *name;
    const Doc *doc;
    const char *weights; /* path, or NULL */
    const char *variant; /* or NULL */
    Args *args;
    bool train; /* its tensors are trained, starting from the weights */
    double lr;  /* of them; 1 where the recipe says nothing, as an adapter's */
    Loc loc;
} RecipeNetwork;
typedef struct AdapterTarget {
    const char *network;
    const char *const *pattern; /* target names already expanded; NULL-terminated */
    Loc loc;
} AdapterTarget;
typedef struct AdapterEntry {
    const Doc *doc;
    AdapterTarget *on;
    int n_on;
    Preset *preset; /* or NULL */
    Args *args;     /* the entry's own, `lr` among them */
    bool stack;
    bool keep; /* at a rate of 0 its modules are made all the same: they have weights */
    Loc loc;
} AdapterEntry;
typedef struct AdapterRule {
    const char *match;
    Args *args;
    Loc loc;
} AdapterRule;
typedef struct Recipe {
    const Doc *doc;
    Args *options;
    RecipeNetwork *network;
    int n_network;
    AdapterEntry *adapter; /* entries with a false `when` are left out */
    int n_adapter;
    AdapterRule *rule;
    int n_rule;
    const Doc *objective, *optimizer;
    Args *objective_args, *optimizer_args;
    const Doc *average; /* an optimizer document that only looks at p; NULL: none */
    Args *average_args;
    Args *train, *data, *sample, *plan;
} Recipe;
/* `set`: values for options by name (command line), "PATTERN.key" for rules, and
 * "section.key" for train/data/objective/optimizer entries. Unknown: an error. */
bool recipe_eval(Arena *a, Library *lib, const Doc *doc, const Args *set, Recipe *out,
                 Err *e);
/* The options a recipe declares (its own and those of its `from`), names only. */
const char *const *recipe_options(Arena *a, const Doc *doc);

/* JSON Schema of all kinds, from the same tables that check them and the op table. */
void schema_print(Str *s);
#endif
