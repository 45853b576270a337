/* `graphrun docs KIND`: the texts made from the option tables; the build installs them. */
#include <stdio.h>
#include <string.h>

#include "cli/opt.h"

static const struct {
    const char *name;
    void (*print)(Str *s);
} kinds[] = {{"man", opt_man}, {"bash", opt_bash}, {"zsh", opt_zsh}};

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)c, (void)opts, (void)given;
    for (size_t i = 0; i < COUNT(kinds); i++) {
        if (strcmp(kinds[i].name, words->word[0])) continue;
        Str s = {0};
        kinds[i].print(&s);
        fputs(s.s, stdout);
        str_free(&s);
        return EXIT_DONE;
    }
    err_usage(e, "docs: got '%s', want man, bash or zsh", words->word[0]);
    return EXIT_MISUSE;
}

static const Opt options[] = {OPT_END};
const Command cmd_docs = {
    .name = "docs",
    .args = "man|bash|zsh",
    .doc = "Prints the man page or a shell's completion.",
    .options = options,
    .min_words = 1,
    .max_words = 1,
    .run = run,
    .hidden = true,
};
