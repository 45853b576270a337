/* The program: which command, its words, its exit code. Everything else is in the files of
 * the commands. Results go to stdout, talk to stderr. */
#include <stdio.h>
#include <string.h>

#include "cli/opt.h"
#include "cli/version.h"

#define COMMAND(name) extern const Command cmd_##name;
#include "cli/commands.def"
#undef COMMAND
#define COMMAND(name) &cmd_##name,
const Command *const commands[] = {
#include "cli/commands.def"
    NULL};
#undef COMMAND

static int show(void (*print)(Str *s), FILE *out, int code) {
    Str s = {0};
    print(&s);
    fputs(s.s, out);
    str_free(&s);
    return code;
}

static int show_help(const Command *c) {
    Str s = {0};
    opt_help(&s, c);
    fputs(s.s, stdout);
    str_free(&s);
    return EXIT_DONE;
}

static int run_command(Arena *a, const Command *c, const WordList *words, Err *e) {
    Invocation in;
    if (!opt_parse(a, c, words, &in, e) || !opt_config_read(a, c, words, &in, e))
        return e->code;
    if (in.common.help) return show_help(c);
    if (args_get(in.given, "output_config"))
        return opt_config_write(a, c, &in, e) ? EXIT_DONE : e->code;
    for (int i = 0; i < in.notes.n && !in.common.quiet; i++)
        fprintf(stderr, "note: %s\n", in.notes.word[i]);
    return c->run(&in.common, in.opts, in.given, &in.words, e);
}

/* words: the whole command line behind the program's name; there is at least one. */
static int dispatch(Arena *a, const WordList *words, Err *e) {
    const char *name = words->word[0];
    WordList rest = {words->word + 1, words->n - 1};
    bool help = !strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help");
    if (!strcmp(name, "--version")) return show(version_print, stdout, EXIT_DONE);
    if (help && !rest.n) return show(opt_overview, stdout, EXIT_DONE);
    const Command *c = command_find(help ? rest.word[0] : name);
    if (c && help) return show_help(c);
    if (c) return run_command(a, c, &rest, e);
    name = help ? rest.word[0] : name;
    err_usage(e, "unknown command '%s'%s", name,
              did_you_mean(a, name, command_names(a)));
    return EXIT_MISUSE;
}

/* Output that could not be written (a full disk, a closed pipe) is a failure too. */
static int flushed(int code) {
    if (!fflush(stdout) && !ferror(stdout)) return code;
    fputs("error: cannot write to stdout\n", stderr);
    return code ? code : EXIT_FAILED;
}

int main(int argc, char **argv) {
    if (argc < 2) return show(opt_overview, stderr, EXIT_MISUSE);
    Arena *a = arena_new();
    WordList words = {(const char **)(argv + 1), argc - 1};
    static Err e;
    int code = dispatch(a, &words, &e);
    if (e.set) fprintf(stderr, "%s\n", e.text);
    arena_free(a);
    return flushed(code);
}
