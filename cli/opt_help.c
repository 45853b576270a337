/* What is made from the option tables: help screens, the man page, shell completions. */
#include <stdlib.h>
#include <string.h>

#include "built.h"
#include "cli/opt.h"

enum { HELP_COLUMN = 34, HELP_WIDTH = 88 };

static const char one_line[] = "trains Stable Diffusion LoRAs from graph descriptions";

bool opt_default(Str *s, const Opt *o, const void *defaults) {
    if (o->ignored || o->refused || !defaults) return false;
    const void *field = (const char *)defaults + o->offset;
    switch (o->kind) {
    case OPT_INT:
        if (*(const int64_t *)field == UNSET_INT) return false;
        str_printf(s, "%lld", (long long)*(const int64_t *)field);
        return true;
    case OPT_FLOAT:
        if (isnan(*(const double *)field)) return false;
        str_printf(s, "%.15g", *(const double *)field);
        return true;
    case OPT_TEXT: {
        const char *text = *(const char *const *)field;
        if (!text || !*text) return false;
        str_add(s, text);
        return true;
    }
    default:
        return false;
    }
}

/* Columns that n bytes of UTF-8 take: its characters (no wide ones occur in help). */
static int width(const char *text, int n) {
    int w = 0;
    for (int i = 0; i < n; i++) w += ((unsigned char)text[i] & 0xC0) != 0x80;
    return w;
}

/* Adds the words of `text`, broken so that no line passes HELP_WIDTH; s ends in column
 * `col` now, further lines start at column `indent`. */
static void wrap(Str *s, const char *text, int col, int indent) {
    bool first = true;
    while (*text) {
        int n = (int)strcspn(text, " "), wide = width(text, n);
        if (!first && col + 1 + wide > HELP_WIDTH) {
            str_printf(s, "\n%*s", indent, "");
            col = indent;
        } else if (!first) {
            str_add(s, " ");
            col++;
        }
        str_addn(s, text, (size_t)n);
        col += wide;
        text += n + strspn(text + n, " ");
        first = false;
    }
}

/* "--network_dim N", "-o FILE", "--explain[=PART]" */
static void spelling(Str *s, const Opt *o) {
    str_printf(s, "%s%s", opt_dashes(o), o->name);
    if (o->kind == OPT_MAYBE)
        str_printf(s, "[=%s]", o->value);
    else if (o->value)
        str_printf(s, " %s", o->value);
}

/* One line of help text: the row's own, its allowed words, its default. */
static char *explained(const Opt *o, const void *defaults) {
    Str s = {0};
    str_add(&s, o->help ? o->help : "");
    const char *before = ": ";
    for (const char *const *w = o->words; w && *w; w++) {
        if (!**w) continue;
        str_printf(&s, "%s%s", before, *w);
        before = ", ";
    }
    size_t n = s.n;
    str_add(&s, " (default ");
    if (opt_default(&s, o, defaults)) {
        str_add(&s, ")");
    } else {
        s.n = n;
        s.s[n] = 0;
    }
    return s.s;
}

/* Rows that help shows in full: those that can be given another value than the default. */
static bool usable(const Opt *o) {
    return *o->name && !o->ignored && !o->refused && (!o->later || o->words);
}

static void help_row(Str *s, const Opt *o, const void *defaults) {
    size_t start = s->n;
    str_add(s, "  ");
    spelling(s, o);
    int col = width(s->s + start, (int)(s->n - start));
    if (col >= HELP_COLUMN) {
        str_add(s, "\n");
        col = 0;
    }
    str_printf(s, "%*s", HELP_COLUMN - col, "");
    char *text = explained(o, defaults);
    wrap(s, text, HELP_COLUMN, HELP_COLUMN);
    free(text);
    str_add(s, "\n");
}

/* The rows with those of groups of one heading together, where the first of them stands:
 * tables may be put together from parts. */
static const Opt *by_group(Arena *a, const Opt *table) {
    int n = 0, m = 0;
    while (table[n].name) n++;
    Opt *out = NEW(a, Opt, n + 1);
    bool *taken = NEW(a, bool, n + 1);
    for (int i = 0; i < n; i++) {
        if (taken[i]) continue;
        out[m++] = table[i];
        const char *heading = table[i].help;
        bool in = true;
        for (int k = i + 1; !*table[i].name && k < n; k++) {
            const bool begins = !*table[k].name;
            if (begins) in = !strcmp(table[k].help, heading);
            if (in && !begins) out[m++] = table[k];
            taken[k] |= in;
        }
    }
    return out;
}

void opt_usage(Str *s, const Command *c) {
    str_printf(s, "usage: graphrun %s%s%s [options]", c->name, *c->args ? " " : "",
               c->args);
}

/* A section of rows for which `why` has a reason, name by name. */
static void help_rest(Str *s, const Command *c, const char *heading,
                      const char *(*why)(const Opt *o)) {
    bool any = false;
    for (const Opt *o = c->options; o->name; o++) {
        const char *reason = *o->name ? why(o) : NULL;
        if (!reason) continue;
        if (!any) str_printf(s, "\n%s:\n", heading);
        any = true;
        size_t start = s->n;
        str_printf(s, "  --%s: ", o->name);
        wrap(s, reason, width(s->s + start, (int)(s->n - start)), 6);
        str_add(s, "\n");
    }
}

static const char *why_later(const Opt *o) {
    return usable(o) ? NULL : o->later;
}
static const char *why_ignored(const Opt *o) {
    return o->ignored;
}
static const char *why_refused(const Opt *o) {
    return o->refused;
}

void opt_help(Str *s, const Command *c) {
    opt_usage(s, c);
    str_printf(s, "\n%s\n", c->doc);
    Arena *a = arena_new();
    const char *heading = "options"; /* of rows before the first group */
    for (const Opt *o = by_group(a, c->options); o->name; o++) {
        if (!*o->name) heading = o->help;
        if (!usable(o)) continue;
        if (heading) str_printf(s, "\n%s:\n", heading);
        heading = NULL;
        help_row(s, o, c->defaults);
    }
    arena_free(a);
    str_add(s, "\nall commands:\n");
    for (const Opt *o = common_options; o->name; o++) help_row(s, o, &common_defaults);
    help_rest(s, c, "not yet, only the default is accepted", why_later);
    help_rest(s, c, "accepted, without effect", why_ignored);
    help_rest(s, c, "not supported", why_refused);
}

void opt_overview(Str *s) {
    str_printf(s, "graphrun %s: %s\n\nusage: graphrun COMMAND …\n\n", GRAPHRUN_VERSION,
               one_line);
    for (const Command *const *c = commands; *c; c++)
        if (!(*c)->hidden) {
            str_printf(s, "  %-16s", (*c)->name);
            wrap(s, (*c)->doc, 18, 18);
            str_add(s, "\n");
        }
    str_add(s, "\n'graphrun COMMAND --help' lists a command's options; "
               "'graphrun --version' what it is made of.\n");
}

/* ---- the man page ---- */
/* Text with what roff would interpret escaped. */
static void roff(Str *s, const char *text) {
    if (*text == '.' || *text == '\'') str_add(s, "\\&");
    for (; *text; text++) {
        if (*text == '\\')
            str_add(s, "\\e");
        else if (*text == '-')
            str_add(s, "\\-");
        else
            str_addn(s, text, 1);
    }
}

static void man_row(Str *s, const Opt *o, const void *defaults) {
    if (!*o->name) {
        str_add(s, ".PP\n");
        roff(s, o->help);
        str_add(s, ":\n");
        return;
    }
    Str spelt = {0};
    spelling(&spelt, o);
    str_add(s, ".TP\n.B ");
    roff(s, spelt.s);
    str_add(s, "\n");
    str_free(&spelt);
    const char *later = why_later(o);
    if (o->ignored || o->refused || later) {
        str_add(s, o->ignored ? "No effect: "
                   : later    ? "Not yet: "
                              : "Not supported: ");
        roff(s, o->ignored ? o->ignored : later ? later : o->refused);
    } else {
        char *text = explained(o, defaults);
        roff(s, text);
        free(text);
    }
    str_add(s, "\n");
}

void opt_man(Str *s) {
    str_printf(s, ".TH GRAPHRUN 1 \"\" \"graphrun %s\" \"User Commands\"\n",
               GRAPHRUN_VERSION);
    str_printf(s, ".SH NAME\ngraphrun \\- %s\n", one_line);
    str_add(
        s,
        ".SH SYNOPSIS\n.B graphrun\n.I COMMAND\n[arguments] [options]\n.SH COMMANDS\n");
    for (const Command *const *c = commands; *c; c++) {
        if ((*c)->hidden) continue;
        str_printf(s, ".SS %s ", (*c)->name);
        roff(s, (*c)->args);
        str_add(s, "\n");
        roff(s, (*c)->doc);
        str_add(s, "\n");
        Arena *a = arena_new();
        for (const Opt *o = by_group(a, (*c)->options); o->name; o++)
            man_row(s, o, (*c)->defaults);
        arena_free(a);
    }
    str_add(s, ".SH OPTIONS OF ALL COMMANDS\n");
    for (const Opt *o = common_options; o->name; o++) man_row(s, o, &common_defaults);
    str_add(
        s,
        ".SH EXIT STATUS\n"
        ".TP\n.B 0\ndone\n"
        ".TP\n.B 1\nweights, images, disk, memory, device or a number that is none\n"
        ".TP\n.B 2\nthe command line, or the text of a graph, recipe or data set file\n"
        ".TP\n.B 130, 143\nended by SIGINT or SIGTERM, the state saved\n"
        ".SH ENVIRONMENT\n"
        ".TP\n.B GRAPHRUN_GRAPHS\na folder with graph files of your own\n"
        ".TP\n.B GRAPHRUN_CLIP_VOCABULARY\nCLIP\\(aqs merges, when the program was "
        "built without them\n");
}

/* ---- completions ---- */
static void bash_options(Str *s, const Opt *rows) {
    for (const Opt *o = rows; o->name; o++)
        if (*o->name && !o->refused) str_printf(s, " %s%s", opt_dashes(o), o->name);
}

void opt_bash(Str *s) {
    str_add(s, "# bash completion of graphrun\n_graphrun() {\n"
               "    local cur=${COMP_WORDS[COMP_CWORD]} words=\n"
               "    if [ \"$COMP_CWORD\" = 1 ]; then\n        words=\"");
    for (const Command *const *c = commands; *c; c++)
        if (!(*c)->hidden) str_printf(s, "%s ", (*c)->name);
    str_add(s, "--help --version\"\n    else\n        case ${COMP_WORDS[1]} in\n");
    for (const Command *const *c = commands; *c; c++) {
        if ((*c)->hidden) continue;
        str_printf(s, "        %s) words=\"", (*c)->name);
        bash_options(s, (*c)->options);
        bash_options(s, common_options);
        str_add(s, "\" ;;\n");
    }
    str_add(s, "        esac\n    fi\n"
               "    case $cur in\n"
               "    -*) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n"
               "    *) if [ \"$COMP_CWORD\" = 1 ]; then\n"
               "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
               "    else\n"
               "        COMPREPLY=($(compgen -f -- \"$cur\"))\n"
               "    fi ;;\n"
               "    esac\n}\ncomplete -o filenames -F _graphrun graphrun\n");
}

/* Text inside '…[…]' of zsh's _arguments: quotes, brackets and colons mean something. */
static void zsh_text(Str *s, const char *text) {
    for (; *text; text++) {
        if (*text == '\'')
            str_add(s, "'\\''");
        else if (strchr("[]:\\", *text))
            str_printf(s, "\\%c", *text);
        else
            str_addn(s, text, 1);
    }
}

static void zsh_options(Str *s, const Opt *rows) {
    for (const Opt *o = rows; o->name; o++) {
        if (!*o->name || o->refused) continue;
        str_printf(s, " \\\n            '%s%s[", opt_dashes(o), o->name);
        zsh_text(s, o->ignored ? "no effect" : o->help);
        str_add(s, "]");
        if (o->kind != OPT_FLAG && o->kind != OPT_MAYBE) {
            str_add(s, ":");
            zsh_text(s, o->value);
            str_add(s, ":");
            if (o->words && !o->later) {
                str_add(s, "(");
                for (const char *const *w = o->words; *w; w++)
                    str_printf(s, "%s%s", w == o->words ? "" : " ", *w);
                str_add(s, ")");
            } else {
                str_add(s, "_files");
            }
        }
        str_add(s, "'");
    }
}

void opt_zsh(Str *s) {
    str_add(s, "#compdef graphrun\n_graphrun() {\n    local -a commands=(\n");
    for (const Command *const *c = commands; *c; c++) {
        if ((*c)->hidden) continue;
        str_printf(s, "        '%s:", (*c)->name);
        zsh_text(s, (*c)->doc);
        str_add(s, "'\n");
    }
    str_add(s, "    )\n"
               "    if (( CURRENT == 2 )); then\n"
               "        _describe command commands\n        return\n    fi\n"
               "    local command=$words[2]\n"
               "    shift words\n    (( CURRENT-- ))\n"
               "    case $command in\n");
    for (const Command *const *c = commands; *c; c++) {
        if ((*c)->hidden) continue;
        str_printf(s, "    %s)\n        _arguments", (*c)->name);
        zsh_options(s, (*c)->options);
        zsh_options(s, common_options);
        str_add(s, " \\\n            '*:file:_files'\n        ;;\n");
    }
    str_add(s, "    esac\n}\n_graphrun \"$@\"\n");
}
