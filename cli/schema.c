/* `graphrun schema`: the JSON Schema of graph files, for editors. */
#include <stdio.h>

#include "cli/opt.h"
#include "graph/lang/doc.h"

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)c, (void)opts, (void)given, (void)words, (void)e;
    Str s = {0};
    schema_print(&s);
    fputs(s.s, stdout);
    str_free(&s);
    return EXIT_DONE;
}

static const Opt options[] = {OPT_END};
const Command cmd_schema = {
    .name = "schema",
    .args = "",
    .doc =
        "Prints the JSON Schema of graph files, which editors complete and check with.",
    .options = options,
    .min_words = 0,
    .max_words = 0,
    .run = run,
};
