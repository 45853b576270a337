/* `graphrun ops [NAME]`: the operator table, as it is compiled in. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/opt.h"
#include "graph/op.h"

static const char *input_kind(unsigned flags) {
    if (flags & IN_IR) return "given by the compiler";
    if (flags & IN_PARAM) return "a value, or a tensor of its own";
    if (flags & IN_SHAPE) return "only its shape counts";
    if (flags & IN_VARIADIC) return "one or more";
    if (flags & IN_OPTIONAL) return "optional";
    return "";
}

static const char *attr_kind(char kind) {
    switch (kind) {
    case 'i':
        return "integer";
    case 'f':
        return "number";
    case 'b':
        return "true or false";
    case 'l':
        return "list of integers";
    case 'w':
        return "word";
    case 'd':
        return "element type";
    default:
        return "text";
    }
}

/* "= 32", the default as the text IR writes it; "" where there is none. */
static void print_default(Str *s, const Attr *at) {
    if (at->flags & ATTR_REQUIRED)
        str_add(s, "required");
    else if (at->kind == 'b')
        str_printf(s, "default %s", at->def != 0 ? "true" : "false");
    else if (at->kind == 'w')
        str_printf(s, "default %s", at->words[(int)at->def]);
    else if (at->kind == 'd')
        str_printf(s, "default %s", dtype_name((DType)at->def));
    else if (at->kind == 'l' && at->words && at->def <= -LIST_WORD)
        str_printf(s, "default %s", at->words[(int)(-LIST_WORD - at->def)]);
    else if (at->kind == 'i' || at->kind == 'f' ||
             (at->kind == 'l' && !isnan(at->def))) {
        str_add(s, "default ");
        str_double(s, at->def);
    }
}

static void print_words(Str *s, const Attr *at) {
    for (int i = 0; at->words && at->words[i]; i++)
        str_printf(s, "%s%s", i ? ", " : ": ", at->words[i]);
}

/* ---- text ---- */

static void print_attrs(Str *s, const Op *op) {
    for (const Attr *at = op->attrs; at && at->name; at++) {
        str_printf(s, "  %-10s %s", at->name, attr_kind(at->kind));
        print_words(s, at);
        Str def = {0};
        print_default(&def, at);
        if (def.n) str_printf(s, ", %s", def.s);
        str_free(&def);
        if (at->doc) str_printf(s, "; %s", at->doc);
        str_add(s, at->flags & ATTR_IR ? " (compiled graphs only)\n" : "\n");
    }
}

static void print_op(Str *s, const Op *op) {
    str_printf(s, "%s: %s\n", op->name, op->doc);
    if (op->in->name) str_add(s, "inputs\n");
    for (const OpIn *in = op->in; in->name; in++)
        str_printf(s, "  %-10s %s\n", *in->name ? in->name : "(itself)",
                   input_kind(in->flags));
    if (op->outs) str_add(s, "outputs\n");
    for (int i = 0; op->outs && i < op->n_out; i++)
        str_printf(s, "  %s\n", op->outs[i]);
    if (op->attrs && op->attrs->name) str_add(s, "attributes\n");
    print_attrs(s, op);
    str_add(s, "kernels on the CPU:");
    for (const Kernel *k = op->cpu; k && k->name; k++) str_printf(s, " %s", k->name);
    if (!op->cpu || !op->cpu->name) str_add(s, " none needed");
    str_add(s, "\nexample\n");
    for (const char *p = op->example; p && *p;) {
        const char *end = strchr(p, '\n');
        size_t n = end ? (size_t)(end - p) : strlen(p);
        while (n && *p == ' ') p++, n--;
        str_printf(s, "  %.*s\n", (int)n, p);
        p = end ? end + 1 : NULL;
    }
}

static void print_list(Str *s) {
    for (int graphs = 1; graphs >= 0; graphs--) {
        str_add(s, graphs ? "in graph files\n" : "in compiled graphs only\n");
        for (const Op *const *op = ops; *op; op++)
            if (op_in_yaml(*op) == graphs)
                str_printf(s, "  %-20s %s\n", (*op)->name, (*op)->doc);
    }
}

/* ---- JSON ---- */

static void json_field(Str *s, const char *name, const char *value) {
    str_printf(s, "\"%s\": ", name);
    str_json(s, value ? value : "");
}

static void json_inputs(Str *s, const Op *op) {
    str_add(s, ", \"inputs\": [");
    for (const OpIn *in = op->in; in->name; in++) {
        str_add(s, in == op->in ? "{" : ", {");
        json_field(s, "name", in->name);
        str_add(s, ", ");
        json_field(s, "kind", input_kind(in->flags));
        str_add(s, "}");
    }
    str_add(s, "]");
}

static void json_attrs(Str *s, const Op *op) {
    str_add(s, ", \"attributes\": [");
    for (const Attr *at = op->attrs; at && at->name; at++) {
        Str def = {0};
        print_default(&def, at);
        str_add(s, at == op->attrs ? "{" : ", {");
        json_field(s, "name", at->name);
        str_add(s, ", ");
        json_field(s, "type", attr_kind(at->kind));
        str_add(s, ", ");
        json_field(s, "presence", def.s);
        str_add(s, ", ");
        json_field(s, "doc", at->doc);
        str_printf(s, ", \"yaml\": %s}", at->flags & ATTR_IR ? "false" : "true");
        str_free(&def);
    }
    str_add(s, "]");
}

static void json_op(Str *s, const Op *op) {
    str_add(s, "{");
    json_field(s, "name", op->name);
    str_add(s, ", ");
    json_field(s, "doc", op->doc);
    str_printf(s, ", \"yaml\": %s", op_in_yaml(op) ? "true" : "false");
    json_inputs(s, op);
    json_attrs(s, op);
    str_add(s, ", \"kernels\": [");
    for (const Kernel *k = op->cpu; k && k->name; k++) {
        if (k != op->cpu) str_add(s, ", ");
        str_json(s, k->name);
    }
    str_add(s, "], ");
    json_field(s, "example", op->example);
    str_add(s, "}");
}

static void json_list(Str *s) {
    str_add(s, "[");
    for (const Op *const *op = ops; *op; op++) {
        str_add(s, op == ops ? "\n  " : ",\n  ");
        json_op(s, *op);
    }
    str_add(s, "\n]\n");
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)opts, (void)given;
    const Op *op = words->n ? op_find(words->word[0]) : NULL;
    if (words->n && !op) {
        Arena *a = arena_new();
        err_usage(e, "no op '%s'%s", words->word[0],
                  did_you_mean(a, words->word[0], op_names()));
        arena_free(a);
        return EXIT_MISUSE;
    }
    Str s = {0};
    if (op && c->json) {
        json_op(&s, op);
        str_add(&s, "\n");
    } else if (op)
        print_op(&s, op);
    else if (c->json)
        json_list(&s);
    else
        print_list(&s);
    fputs(s.s, stdout);
    str_free(&s);
    return EXIT_DONE;
}

static const Opt options[] = {OPT_END};
const Command cmd_ops = {
    .name = "ops",
    .args = "[NAME]",
    .doc = "Lists the operators, or describes one.",
    .options = options,
    .min_words = 0,
    .max_words = 1,
    .run = run,
};
