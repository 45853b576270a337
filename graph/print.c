/* The text form of a graph: every value, attribute and place, so that a reader can edit a
 * dump and run it. Activations are numbered in the order in which they are made, so equal
 * graphs print equal bytes whatever their ids are. Grammar: graph/parse.c. */
#include "graph/op.h"
#include "graph/text.h"

#include <string.h>

typedef struct Printer {
    Str *s;
    const Graph *g;
    uint32_t *number; /* of activations, by id */
} Printer;

static bool is_word_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '.' || c == '$' || c == '/' || c == '-';
}

size_t text_word(const char *s) {
    size_t n = 0;
    while (is_word_char(s[n])) n++;
    return n;
}

/* A name as it is, or in quotes if it has characters that would end it. */
static void print_name(Str *s, const char *name) {
    size_t n = text_word(name);
    if (n && !name[n] && strcmp(name, "-"))
        str_add(s, name);
    else
        str_json(s, name);
}

static void print_type(Str *s, const Value *v) {
    str_printf(s, "%s[", dtype_name(v->type.dtype));
    for (int i = 0; i < v->type.rank; i++)
        str_printf(s, "%s%s%lld", i ? "," : "", !i && v->batch ? "B=" : "",
                   (long long)v->type.dim[i]);
    str_add(s, "]");
}

static void print_operand(Printer *p, Id id) {
    if (id == NO_ID) {
        str_add(p->s, "_");
        return;
    }
    const Value *v = p->g->value[id];
    if (v->role == ROLE_ACT) {
        str_printf(p->s, "%%%u", p->number[id]);
    } else {
        str_add(p->s, "@");
        print_name(p->s, v->name);
    }
}

static void print_loc(Str *s, Loc loc) {
    print_name(s, loc.src->path);
    str_printf(s, ":%u:%u", loc.line, loc.col);
    if (loc.len) str_printf(s, "+%u", loc.len);
}

static void print_block(Str *s, int block, const char *const *names) {
    int n = 0;
    while (names && names[n]) n++;
    str_add(s, " ");
    if (block < 0)
        str_add(s, "-");
    else if (block < n)
        print_name(s, names[block]);
    else
        str_printf(s, "%d", block);
}

void place_print(Str *s, const Place *at, const char *const *blocks) {
    bool loc = at->loc.src, path = at->path || loc, block = at->block >= 0 || path;
    if (at->phase == FORWARD && !block) return;
    str_printf(s, "  # %s", phase_name(at->phase));
    if (block) print_block(s, at->block, blocks);
    if (path) {
        str_add(s, " ");
        if (at->path)
            print_name(s, at->path);
        else
            str_add(s, "-");
    }
    if (loc) {
        str_add(s, " ");
        print_loc(s, at->loc);
    }
    if (loc && at->segment) {
        str_add(s, " in ");
        print_name(s, at->segment);
    }
}

static void print_init(Printer *p, const Init *init) {
    static const char *const names[] = {
        "none",   "zeros",           "ones", "constant", "uniform",
        "normal", "kaiming_uniform", "value"};
    str_printf(p->s, "init=%s", names[init->kind]);
    if (init->kind == INIT_VALUE) {
        str_add(p->s, "(");
        print_operand(p, init->value);
        str_add(p->s, ")");
    } else if (init->kind >= INIT_CONSTANT && init->kind <= INIT_NORMAL) {
        str_add(p->s, "(");
        str_double(p->s, init->number);
        str_add(p->s, ")");
    }
}

static void print_param(Printer *p, const Param *q) {
    str_add(p->s, " {");
    print_init(p, &q->init);
    str_add(p->s, ", lr=");
    str_double(p->s, q->lr);
    if (q->module) {
        str_add(p->s, ", module=");
        str_json(p->s, q->module);
    }
    if (q->key) {
        str_add(p->s, ", key=");
        str_json(p->s, q->key);
    }
    if (q->slice_axis >= 0) {
        str_printf(p->s, ", slice=%d:%lld", q->slice_axis, (long long)q->slice_size);
        if (q->slice_index != NO_ID) {
            str_add(p->s, ":");
            print_operand(p, q->slice_index);
        }
    }
    str_add(p->s, "}");
}

static void print_data(Str *s, const Value *v) {
    int64_t n = type_count(&v->type);
    str_add(s, " = [");
    for (int64_t i = 0; i < n; i++) {
        if (i) str_add(s, ", ");
        str_double(s, v->data[i]);
    }
    str_add(s, "]");
}

static void print_declaration(Printer *p, const Value *v) {
    str_printf(p->s, "  %s @", role_name(v->role));
    print_name(p->s, v->name);
    str_add(p->s, " : ");
    print_type(p->s, v);
    if (v->data) print_data(p->s, v);
    if (v->param) print_param(p, v->param);
    if (v->loc.src) {
        str_add(p->s, "  # ");
        print_loc(p->s, v->loc);
    }
    str_add(p->s, "\n");
}

static void print_attrs(Str *s, const Node *n) {
    const size_t start = s->n;
    if (!n->op->attrs) return;
    str_add(s, " ");
    attrs_print(s, n->op, n->attrs);
    if (!strcmp(s->s + start, " {}")) s->s[s->n = start] = 0;
}

static void print_node(Printer *p, const Node *n) {
    const Graph *g = p->g;
    str_add(p->s, "  ");
    for (int i = 0; i < n->n_out; i++) {
        const Value *v = g->value[n->out[i]];
        str_printf(p->s, "%s%%%u", i ? ", " : "", p->number[v->id]);
        if (v->name) {
            str_add(p->s, " ");
            str_json(p->s, v->name);
        }
    }
    str_printf(p->s, " = %s", n->op->name);
    for (int i = 0; i < n->n_in; i++) {
        str_add(p->s, i ? ", " : " ");
        print_operand(p, n->in[i]);
    }
    print_attrs(p->s, n);
    for (int i = 0; i < n->n_out; i++) {
        str_add(p->s, i ? ", " : " : ");
        print_type(p->s, g->value[n->out[i]]);
    }
    place_print(p->s, &n->at, p->g->blocks);
    str_add(p->s, "\n");
}

static void print_blocks(Printer *p) {
    if (!p->g->blocks || !*p->g->blocks) return;
    str_add(p->s, "  blocks ");
    for (int i = 0; p->g->blocks[i]; i++) {
        if (i) str_add(p->s, ", ");
        print_name(p->s, p->g->blocks[i]);
    }
    str_add(p->s, "\n");
}

void graph_print(Str *s, const Graph *g) {
    Arena *a = arena_new();
    Printer p = {s, g, NEW(a, uint32_t, g->n_value ? g->n_value : 1)};
    uint32_t next = 0;
    for (uint32_t i = 0; i < g->n_node; i++)
        for (int o = 0; o < g->node[i]->n_out; o++)
            p.number[g->node[i]->out[o]] = next++;
    str_add(s, "graph ");
    print_name(s, g->name);
    str_add(s, " {\n");
    print_blocks(&p);
    for (uint32_t i = 0; i < g->n_value; i++)
        if (g->value[i]->role != ROLE_ACT) print_declaration(&p, g->value[i]);
    for (uint32_t i = 0; i < g->n_node; i++) print_node(&p, g->node[i]);
    for (uint32_t i = 0; i < g->n_output; i++) {
        str_add(s, "  output ");
        print_name(s, g->output[i].name);
        str_add(s, " = ");
        print_operand(&p, g->output[i].value);
        str_add(s, "\n");
    }
    str_add(s, "}\n");
    arena_free(a);
}
