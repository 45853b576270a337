/* JSON Schema (draft 2020-12) of the documents, for editors: one definition per kind, per
 * slot that several places share, and per op. Printed from the tables that check documents,
 * so the two cannot disagree about keys. What a formula may say is left to the parser. */
#include <string.h>

#include "graph/lang/schema.h"

typedef struct Writer {
    Str *s;
    int depth;
    bool first; /* no comma before the next member */
} Writer;

static void newline(Writer *w) {
    str_add(w->s, w->first ? "\n" : ",\n");
    for (int i = 0; i < w->depth; i++) str_add(w->s, " ");
    w->first = false;
}

static void key(Writer *w, const char *name) {
    newline(w);
    str_json(w->s, name);
    str_add(w->s, ": ");
}

static void open(Writer *w, const char *bracket) {
    str_add(w->s, bracket);
    w->depth++;
    w->first = true;
}

static void close(Writer *w, const char *bracket) {
    bool empty = w->first;
    w->depth--;
    w->first = true;
    if (!empty) newline(w);
    str_add(w->s, bracket);
    w->first = false;
}

static void member(Writer *w, const char *name, const char *text) {
    key(w, name);
    str_json(w->s, text);
}

static void raw(Writer *w, const char *name, const char *json) {
    key(w, name);
    str_add(w->s, json);
}

/* ---- slots ---- */
static const char name_pattern[] = "^[A-Za-z_][A-Za-z0-9_]*$";
static const char path_pattern[] = "^[A-Za-z_][A-Za-z0-9_]*(\\.[A-Za-z0-9_]+)*$";
static const char any_scalar[] = "[\"string\", \"number\", \"boolean\"]";

static void slot(Writer *w, const Slot *s, const char *doc);

static void scalar(Writer *w, const Slot *s) {
    if (s->words) {
        key(w, "enum");
        open(w, "[");
        for (int i = 0; s->words[i]; i++) {
            newline(w);
            str_json(w->s, s->words[i]);
        }
        close(w, "]");
        return;
    }
    bool text = s->scalar == NAME || s->scalar == PATH;
    raw(w, "type", text ? "\"string\"" : any_scalar);
    if (text) member(w, "pattern", s->scalar == NAME ? name_pattern : path_pattern);
}

static void keys(Writer *w, const Key *list) {
    bool any = false;
    key(w, "properties");
    open(w, "{");
    for (const Key *k = list; k->name; k++) {
        key(w, k->name);
        slot(w, k->slot, k->doc);
        any = any || k->required;
    }
    close(w, "}");
    if (!any) return;
    key(w, "required");
    open(w, "[");
    for (const Key *k = list; k->name; k++) {
        if (!k->required) continue;
        newline(w);
        str_json(w->s, k->name);
    }
    close(w, "]");
}

static void mapping(Writer *w, const Slot *s) {
    raw(w, "type", "\"object\"");
    if (s->keys) keys(w, s->keys);
    if (!s->keys && s->name != TEXT) {
        key(w, "propertyNames");
        open(w, "{");
        member(w, "pattern", s->name == NAME ? name_pattern : path_pattern);
        close(w, "}");
    }
    key(w, "additionalProperties");
    if (s->value)
        slot(w, s->value, NULL);
    else
        str_add(w->s, "false");
}

static void part(Writer *w, bool several, const Slot *s,
                 void (*print)(Writer *, const Slot *)) {
    if (several) {
        newline(w);
        open(w, "{");
    }
    print(w, s);
    if (several) close(w, "}");
}

static void list(Writer *w, const Slot *s) {
    raw(w, "type", "\"array\"");
    key(w, "items");
    slot(w, s->item, NULL);
}

static void slot(Writer *w, const Slot *s, const char *doc) {
    bool map = s->keys || s->value;
    bool several = (s->scalar != NO_TEXT) + (s->item != NULL) + map > 1;
    open(w, "{");
    if (doc) member(w, "description", doc);
    if (s == &slot_node) {
        raw(w, "$ref", "\"#/$defs/node\"");
        close(w, "}");
        return;
    }
    if (several) {
        key(w, "anyOf");
        open(w, "[");
    }
    if (s->scalar != NO_TEXT) part(w, several, s, scalar);
    if (s->item) part(w, several, s, list);
    if (map) part(w, several, s, mapping);
    if (several) close(w, "]");
    close(w, "}");
}

/* ---- nodes ---- */
static void node_properties(Writer *w, bool use) {
    for (const Key *k = node_keys; k->name; k++) {
        if (!use && (!strcmp(k->name, "repeat") || !strcmp(k->name, "chain"))) continue;
        key(w, k->name);
        slot(w, k->slot, k->doc);
    }
}

static void op_property(Writer *w, const Op *op, const char *name, const char *doc) {
    key(w, name);
    slot(w, op_key(op, name), doc);
}

static bool is_attr(const Op *op, const char *name) {
    for (const Attr *at = op->attrs; at && at->name; at++)
        if (!(at->flags & ATTR_IR) && !strcmp(at->name, name)) return true;
    return false;
}

static void op_properties(Writer *w, const Op *op) {
    bool owns = op_key(op, "init") != NULL;
    for (const OpIn *in = op->in; in && in->name; in++)
        if (!(in->flags & IN_IR) && in->name[0] && !is_attr(op, in->name))
            op_property(w, op, in->name, NULL);
    for (const Attr *at = op->attrs; at && at->name; at++)
        if (!(at->flags & ATTR_IR)) op_property(w, op, at->name, at->doc);
    for (const Key *k = param_keys; owns && k->name; k++) {
        key(w, k->name);
        slot(w, k->slot, k->doc);
    }
}

static void op_required(Writer *w, const Op *op) {
    key(w, "required");
    open(w, "[");
    newline(w);
    str_json(w->s, "op");
    for (const OpIn *in = op->in; in && in->name; in++) {
        if (in->flags & (IN_OPTIONAL | IN_PARAM | IN_IR)) continue;
        newline(w);
        str_json(w->s, in->name);
    }
    for (const Attr *at = op->attrs; at && at->name; at++) {
        if (!(at->flags & ATTR_REQUIRED) || (at->flags & ATTR_IR)) continue;
        newline(w);
        str_json(w->s, at->name);
    }
    close(w, "]");
}

static void op_definition(Writer *w, const Op *op) {
    open(w, "{");
    if (op->doc) member(w, "description", op->doc);
    raw(w, "type", "\"object\"");
    key(w, "properties");
    open(w, "{");
    key(w, "op");
    open(w, "{");
    member(w, "const", op->name);
    close(w, "}");
    op_properties(w, op);
    node_properties(w, false);
    close(w, "}");
    op_required(w, op);
    raw(w, "additionalProperties", "false");
    close(w, "}");
}

/* A node with one of the other six keys. */
static void kind_definition(Writer *w, const Key *kind) {
    bool use = !strcmp(kind->name, "use"), call = !strcmp(kind->name, "call");
    bool push = !strcmp(kind->name, "push");
    newline(w);
    open(w, "{");
    member(w, "description", kind->doc);
    raw(w, "type", "\"object\"");
    key(w, "properties");
    open(w, "{");
    key(w, kind->name);
    slot(w, kind->slot, NULL);
    if (push) {
        key(w, "x");
        slot(w, &slot_formula, "the value");
    }
    node_properties(w, use);
    close(w, "}");
    key(w, "required");
    str_printf(w->s, push ? "[\"push\", \"x\"]" : "[\"%s\"]", kind->name);
    key(w, "additionalProperties");
    if (use || call)
        slot(w, use ? &slot_value : &slot_formula, NULL);
    else
        str_add(w->s, "false");
    close(w, "}");
}

static void node_definition(Writer *w) {
    key(w, "node");
    open(w, "{");
    key(w, "anyOf");
    open(w, "[");
    newline(w);
    slot(w, &slot_formula, "a formula");
    for (const Key *k = node_kinds; k->name; k++)
        if (strcmp(k->name, "op")) kind_definition(w, k);
    for (int i = 0; ops[i]; i++) {
        if (!op_in_yaml(ops[i])) continue;
        newline(w);
        str_printf(w->s, "{\"$ref\": \"#/$defs/op_%s\"}", ops[i]->name);
    }
    close(w, "]");
    close(w, "}");
    for (int i = 0; ops[i]; i++) {
        if (!op_in_yaml(ops[i])) continue;
        char name[128] = "op_";
        strncat(name, ops[i]->name, sizeof name - 4);
        key(w, name);
        op_definition(w, ops[i]);
    }
}

/* ---- documents ---- */
static void document(Writer *w, DocKind k) {
    const char *name = doc_kind_name(k);
    const Key *list = doc_keys[k];
    key(w, name);
    open(w, "{");
    raw(w, "type", "\"object\"");
    key(w, "properties");
    open(w, "{");
    key(w, name);
    open(w, "{");
    member(w, "description", "the document's name");
    raw(w, "type", "\"string\"");
    close(w, "}");
    for (const Key *p = list; p->name; p++) {
        key(w, p->name);
        slot(w, p->slot, p->doc);
    }
    close(w, "}");
    key(w, "required");
    open(w, "[");
    newline(w);
    str_json(w->s, name);
    for (const Key *p = list; p->name; p++) {
        if (!p->required) continue;
        newline(w);
        str_json(w->s, p->name);
    }
    close(w, "]");
    raw(w, "additionalProperties", "false");
    close(w, "}");
}

void schema_print(Str *s) {
    Writer w = {.s = s};
    open(&w, "{");
    member(&w, "$schema", "https://json-schema.org/draft/2020-12/schema");
    member(&w, "title", "graphrun graph files");
    key(&w, "oneOf");
    open(&w, "[");
    for (DocKind k = 0; k < DOC_KINDS; k++) {
        newline(&w);
        str_printf(s, "{\"$ref\": \"#/$defs/%s\"}", doc_kind_name(k));
    }
    close(&w, "]");
    key(&w, "$defs");
    open(&w, "{");
    for (DocKind k = 0; k < DOC_KINDS; k++) document(&w, k);
    node_definition(&w);
    close(&w, "}");
    close(&w, "}");
    str_add(s, "\n");
}
