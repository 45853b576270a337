/* Option tables: one row is parser, help, completion and man page at once.
 *
 *   static const Opt options[] = {
 *       OPT_GROUP("network"),
 *       OPT(Train, INT, network_dim, "N", "rank of the adapters", .min = 1, .max = 4096),
 *       OPT_IGNORED("xformers", FLAG, NULL, "attention is always computed in blocks"),
 *       OPT_END,
 *   };
 *
 * Defaults stand in one const struct beside the table; help prints them from there. A field
 * whose default is UNSET_INT, UNSET_FLOAT or NULL has none. */
#ifndef GRAPHRUN_OPT_H
#define GRAPHRUN_OPT_H
#include <math.h>

#include "graph/lang/expr.h"

typedef enum OptKind {
    OPT_FLAG,  /* bool */
    OPT_INT,   /* int64_t */
    OPT_FLOAT, /* double; finite */
    OPT_TEXT,  /* const char *; the next word, or after = */
    OPT_MAYBE, /* const char *; a value only after =, "" without one */
    OPT_LIST, /* WordList; all words up to the next option, negative numbers among them */
    OPT_EACH, /* WordList; one word at each use */
} OptKind;
typedef struct WordList {
    const char **word;
    int n;
} WordList;
#define UNSET_INT   INT64_MIN
#define UNSET_FLOAT NAN

typedef struct Opt {
    /* sd-scripts' name, with _ ; - and _ are equal. "": a heading, its text in help. One
     * small letter: written -o */
    const char *name;
    OptKind kind;
    size_t offset;     /* into the command's struct */
    const char *value; /* "N", "FILE" … for help; NULL for flags */
    const char *help;
    const char *ignored; /* not NULL: accepted, has no effect; the reason, said once */
    const char *refused; /* not NULL: an error; what to use instead */
    /* not NULL: this version honours the default only (and, for texts, `words`); what is
     * missing */
    const char *later;
    /* allowed values, NULL-terminated, or NULL; case counts unless any_case */
    const char *const *words;
    bool any_case;
    /* a run that goes on from a saved state may have another value; of a heading: all rows
     * of the group */
    bool anew;
    double min, max; /* allowed range of numbers, both 0: any */
} Opt;
#define OPT(T, k, field, v, h, ...)                                                    \
    {                                                                                  \
        .name = #field, .kind = OPT_##k, .offset = offsetof(T, field), .value = (v),   \
        .help = (h), __VA_ARGS__                                                       \
    }
#define OPT_IGNORED(n, k, v, why)                                                      \
    { .name = (n), .kind = OPT_##k, .value = (v), .ignored = (why) }
#define OPT_REFUSED(n, k, v, instead)                                                  \
    { .name = (n), .kind = OPT_##k, .value = (v), .refused = (instead) }
#define OPT_GROUP(heading, ...)                                                        \
    { .name = "", .help = (heading), __VA_ARGS__ }
#define OPT_END                                                                        \
    { .name = NULL }

typedef struct Common { /* every command has these */
    int64_t threads;    /* 0: all cores */
    bool quiet, verbose, json, help;
} Common;

typedef struct Command {
    const char *name;
    const char *args;   /* "[RECIPE]" for the usage line; "" for none */
    const char *doc;    /* one sentence */
    const Opt *options; /* ends with OPT_END */
    size_t size;        /* of the options' struct */
    const void *defaults;
    int min_words, max_words; /* positional words; max -1: any */
    /* opts: filled struct; given: options that were on the command line, by name, with
     * their values (a flag: true, a list: words); words: positional. Returns the exit
     * code; failures in e. */
    int (*run)(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e);
    bool hidden; /* not in the list of commands */
} Command;
/* From cli/commands.def; NULL-terminated, in the order in which help lists them. */
extern const Command *const commands[];
const Command *command_find(const char *name);
const char *const *command_names(Arena *a);

/* ---- one command line, understood ---- */
typedef struct Invocation {
    Common common;
    void *opts; /* the command's struct */
    Args *given;
    WordList words; /* positional */
    /* lines worth telling: options without effect, options given twice */
    WordList notes;
} Invocation;
/* words: what stands behind the command's name. All failures are misuse (exit code 2).
 * With --help only `common.help` counts and nothing else is checked. An option given twice
 * counts as it was given last, as in sd-scripts. */
bool opt_parse(Arena *a, const Command *c, const WordList *words, Invocation *out,
               Err *e);
/* cli/opt_config.c. --config_file of a command that has it: its options, as if they stood on
 * the command line (`words`), where the latter does not have them already. `.toml` is
 * appended if it is missing. */
bool opt_config_read(Arena *a, const Command *c, const WordList *words, Invocation *in,
                     Err *e);
/* --output_config: writes that file, what differs from the defaults; one that exists is an
 * error. */
bool opt_config_write(Arena *a, const Command *c, const Invocation *in, Err *e);
/* "-" before a small letter alone, else "--" (sd-scripts has --W and --H). */
const char *opt_dashes(const Opt *o);
/* The row with this name (- and _ equal), of the command's table or the common one. */
const Opt *opt_find(const Command *c, const char *name);
/* The value of a row in a command's struct; VAL_NONE: unset. */
Val opt_value(Arena *a, const Opt *o, const void *opts);
/* The options every command has (struct Common). */
extern const Opt common_options[];
extern const Common common_defaults;

/* ---- texts made from the tables ---- */
void opt_usage(Str *s,
               const Command *c); /* "usage: graphrun train [RECIPE] [options]" */
void opt_help(Str *s, const Command *c);
void opt_overview(Str *s); /* `graphrun --help` */
void opt_man(Str *s);      /* graphrun.1, all commands */
void opt_bash(Str *s);
void opt_zsh(Str *s);
/* "3", "1e-05", "words": a default as help shows it; false: it has none. */
bool opt_default(Str *s, const Opt *o, const void *defaults);
#endif
