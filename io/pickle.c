/* A pickle is a program for a small stack machine; this is the machine without the calls.
 *
 * Opcodes: those in files of torch.save, those that torch.load(weights_only=True) knows, and
 * the text and frame opcodes of protocol 4. All others are refused by name. The stack, the
 * memo and every container are bounded by the number of opcodes read, which is bounded by
 * PICKLE_MOST_VALUES; nothing here recurses. */
#include "io/pickle.h"

#include <stdio.h>
#include <string.h>

#include "io/pickle_globals.h"

enum { MOST_MEMO = 1 << 26, MOST_PROTOCOL = 5, NO_VALUE = 0xFF };
static const uint64_t most_elements = UINT64_C(1) << 47; /* as type.h */

typedef struct Machine {
    Arena *arena;
    const char *path;
    const uint8_t *start, *at, *end;
    PickleValue *stack;
    uint32_t n, cap;
    uint32_t *mark; /* heights of the stack */
    uint32_t n_mark, cap_mark;
    PickleValue *memo;
    uint32_t n_memo, n_set; /* room, and entries that are set */
    const PickleStorage **storage;
    uint32_t n_storage, cap_storage;
    uint32_t values;
    bool strict, done;
    Err *e;
} Machine;

PRINTF(2, 3) static bool bad(Machine *m, const char *fmt, ...) {
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return err_fail(m->e, "'%s': pickle, byte %zu: %s", m->path,
                    (size_t)(m->at - m->start), text);
}

/* Text of the file in a message: cut, and without control characters. */
static const char *shown(Machine *m, const char *s, size_t n) {
    enum { MOST_SHOWN = 120 };
    char *out = arena_strndup(m->arena, s, n < MOST_SHOWN ? n : MOST_SHOWN);
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
    return out;
}

static const char *kind_name(const PickleValue *v) {
    static const char *const names[] = {
        "None",   "a bool", "an integer", "a number",  "text",     "a tuple",
        "a list", "a dict", "a callable", "a storage", "a tensor", "an unknown object"};
    return v->kind < COUNT(names) ? names[v->kind] : "nothing";
}

/* ---- stack ---- */
static bool push(Machine *m, PickleValue v) {
    if (++m->values > PICKLE_MOST_VALUES)
        return bad(m, "more than %d values", PICKLE_MOST_VALUES);
    PUSH(m->arena, m->stack, m->n, m->cap, v);
    return true;
}

/* The values above the last mark may be taken, not those below it. */
static bool have(Machine *m, uint32_t n) {
    uint32_t floor = m->n_mark ? m->mark[m->n_mark - 1] : 0;
    return m->n - floor >= n || bad(m, "the stack is empty");
}

static bool pop_mark(Machine *m, uint32_t *from) {
    *from = m->n;
    if (!m->n_mark) return bad(m, "there is no mark on the stack");
    *from = m->mark[--m->n_mark];
    return true;
}

static bool take(Machine *m, size_t n, const uint8_t **at) {
    *at = m->at;
    if ((size_t)(m->end - m->at) < n) return bad(m, "it is cut off");
    m->at += n;
    return true;
}

static uint64_t little(const uint8_t *p, size_t n) {
    uint64_t x = 0;
    while (n--) x = x << 8 | p[n];
    return x;
}

static bool take_number(Machine *m, size_t n, uint64_t *x) {
    const uint8_t *p = NULL;
    *x = 0;
    if (!take(m, n, &p)) return false;
    *x = little(p, n);
    return true;
}

static PickleValue int_value(int64_t i) {
    return (PickleValue){.kind = PICKLE_INT, .i = i};
}
static PickleValue opaque_value(const char *name) {
    return (PickleValue){
        .kind = PICKLE_OPAQUE, .text = name, .n = (uint32_t)strlen(name)};
}

/* ---- containers ---- */
static uint32_t depth_of(const PickleValue *v) {
    bool list =
        v->kind == PICKLE_TUPLE || v->kind == PICKLE_LIST || v->kind == PICKLE_DICT;
    return list ? v->list->depth : 0;
}

static bool add(Machine *m, PickleList *list, PickleValue v) {
    if (depth_of(&v) + 1 > list->depth) list->depth = depth_of(&v) + 1;
    if (list->depth > PICKLE_MOST_DEPTH)
        return bad(m, "nested more than %d deep", PICKLE_MOST_DEPTH);
    PUSH(m->arena, list->item, list->n, list->cap, v);
    return true;
}

/* A container of the values from `from` up, in their place. */
static bool collect(Machine *m, PickleKind kind, uint32_t from) {
    PickleList *list = NEW(m->arena, PickleList, 1);
    list->cap = m->n - from;
    list->item = NEW(m->arena, PickleValue, list->cap);
    for (uint32_t i = from; i < m->n; i++)
        if (!add(m, list, m->stack[i])) return false;
    m->n = from;
    return push(m, (PickleValue){.kind = (uint8_t)kind, .list = list});
}

/* The values from `from` up go into the container below them. */
static bool extend(Machine *m, PickleKind kind, uint32_t from) {
    uint32_t floor = m->n_mark ? m->mark[m->n_mark - 1] : 0;
    if (from <= floor) return bad(m, "the stack is empty");
    PickleValue *to = &m->stack[from - 1];
    if (to->kind != kind && to->kind != PICKLE_OPAQUE)
        return bad(m, "items are added to %s", kind_name(to));
    if (kind == PICKLE_DICT && (m->n - from) % 2)
        return bad(m, "a key of a dict has no value");
    PickleList *list = to->kind == kind ? to->list : NULL;
    for (uint32_t i = from; list && i < m->n; i++)
        if (!add(m, list, m->stack[i])) return false;
    m->n = from;
    return true;
}

/* ---- opcodes: constants ---- */
static bool op_proto(Machine *m) {
    uint64_t v;
    if (!take_number(m, 1, &v)) return false;
    return v <= MOST_PROTOCOL ||
           bad(m, "protocol %d, at most %d", (int)v, MOST_PROTOCOL);
}
static bool op_frame(Machine *m) {
    uint64_t n;
    if (!take_number(m, 8, &n)) return false;
    return n <= (uint64_t)(m->end - m->at) || bad(m, "a frame goes beyond the end");
}
static bool op_none(Machine *m) {
    return push(m, (PickleValue){.kind = PICKLE_NONE});
}
static bool op_true(Machine *m) {
    return push(m, (PickleValue){.kind = PICKLE_BOOL, .i = 1});
}
static bool op_false(Machine *m) {
    return push(m, (PickleValue){.kind = PICKLE_BOOL, .i = 0});
}
static bool op_int1(Machine *m) {
    uint64_t x;
    return take_number(m, 1, &x) && push(m, int_value((int64_t)x));
}
static bool op_int2(Machine *m) {
    uint64_t x;
    return take_number(m, 2, &x) && push(m, int_value((int64_t)x));
}
static bool op_int4(Machine *m) {
    uint64_t x;
    return take_number(m, 4, &x) && push(m, int_value((int32_t)(uint32_t)x));
}

/* Two's complement of n bytes; what does not fit in 64 bits is of no use here. */
static bool op_long1(Machine *m) {
    uint64_t n = 0;
    const uint8_t *p = NULL;
    if (!take_number(m, 1, &n) || !take(m, n, &p)) return false;
    if (n > 8) return push(m, opaque_value("long integer"));
    uint64_t x = little(p, n);
    if (n && n < 8 && p[n - 1] & 0x80) x |= ~UINT64_C(0) << (8 * n);
    return push(m, int_value((int64_t)x));
}

/* The only big-endian number of the format. */
static bool op_float(Machine *m) {
    const uint8_t *p = NULL;
    if (!take(m, 8, &p)) return false;
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) bits = bits << 8 | p[i];
    PickleValue v = {.kind = PICKLE_FLOAT};
    memcpy(&v.f, &bits, sizeof v.f);
    return push(m, v);
}

static bool text_of(Machine *m, size_t length_bytes) {
    uint64_t n = 0;
    const uint8_t *p = NULL;
    if (!take_number(m, length_bytes, &n)) return false;
    if (n > (uint64_t)(m->end - m->at))
        return bad(m, "a text of %llu bytes, %zu are left", (unsigned long long)n,
                   (size_t)(m->end - m->at));
    if (!take(m, n, &p)) return false;
    return push(m, (PickleValue){
                       .kind = PICKLE_TEXT, .n = (uint32_t)n, .text = (const char *)p});
}
static bool op_text1(Machine *m) {
    return text_of(m, 1);
}
static bool op_text4(Machine *m) {
    return text_of(m, 4);
}

/* ---- opcodes: containers ---- */
static bool op_mark(Machine *m) {
    if (++m->values > PICKLE_MOST_VALUES)
        return bad(m, "more than %d values", PICKLE_MOST_VALUES);
    PUSH(m->arena, m->mark, m->n_mark, m->cap_mark, m->n);
    return true;
}
static bool op_empty_tuple(Machine *m) {
    return collect(m, PICKLE_TUPLE, m->n);
}
static bool op_empty_list(Machine *m) {
    return collect(m, PICKLE_LIST, m->n);
}
static bool op_empty_dict(Machine *m) {
    return collect(m, PICKLE_DICT, m->n);
}
static bool op_tuple(Machine *m) {
    uint32_t from = 0;
    return pop_mark(m, &from) && collect(m, PICKLE_TUPLE, from);
}
static bool op_tuple1(Machine *m) {
    return have(m, 1) && collect(m, PICKLE_TUPLE, m->n - 1);
}
static bool op_tuple2(Machine *m) {
    return have(m, 2) && collect(m, PICKLE_TUPLE, m->n - 2);
}
static bool op_tuple3(Machine *m) {
    return have(m, 3) && collect(m, PICKLE_TUPLE, m->n - 3);
}
static bool op_append(Machine *m) {
    return have(m, 2) && extend(m, PICKLE_LIST, m->n - 1);
}
static bool op_appends(Machine *m) {
    uint32_t from = 0;
    return pop_mark(m, &from) && extend(m, PICKLE_LIST, from);
}
static bool op_setitem(Machine *m) {
    return have(m, 3) && extend(m, PICKLE_DICT, m->n - 2);
}
static bool op_setitems(Machine *m) {
    uint32_t from = 0;
    return pop_mark(m, &from) && extend(m, PICKLE_DICT, from);
}

/* ---- opcodes: memo ---- */
static bool put(Machine *m, uint64_t index) {
    if (!have(m, 1)) return false;
    /* each entry takes two bytes of the pickle, so a sane index is below its length */
    if (index >= MOST_MEMO || index >= (uint64_t)(m->end - m->start))
        return bad(m, "memo index %llu is too large", (unsigned long long)index);
    if (index >= m->n_memo) {
        uint32_t n = m->n_memo ? m->n_memo : 64;
        while (n <= index) n *= 2;
        m->memo = arena_grow(m->arena, m->memo, m->n_memo, n, sizeof *m->memo);
        for (uint32_t i = m->n_memo; i < n; i++) m->memo[i].kind = NO_VALUE;
        m->n_memo = n;
    }
    m->n_set += m->memo[index].kind == NO_VALUE;
    m->memo[index] = m->stack[m->n - 1];
    return true;
}

static bool get(Machine *m, uint64_t index) {
    if (index >= m->n_memo || m->memo[index].kind == NO_VALUE)
        return bad(m, "memo entry %llu was never set", (unsigned long long)index);
    return push(m, m->memo[index]);
}
static bool op_put1(Machine *m) {
    uint64_t i;
    return take_number(m, 1, &i) && put(m, i);
}
static bool op_put4(Machine *m) {
    uint64_t i;
    return take_number(m, 4, &i) && put(m, i);
}
static bool op_get1(Machine *m) {
    uint64_t i;
    return take_number(m, 1, &i) && get(m, i);
}
static bool op_get4(Machine *m) {
    uint64_t i;
    return take_number(m, 4, &i) && get(m, i);
}
static bool op_memoize(Machine *m) {
    return put(m, m->n_set);
}

/* ---- opcodes: names ---- */
static bool global(Machine *m, const char *module, size_t n_module, const char *name,
                   size_t n_name) {
    if (!n_module || !n_name || n_module > PICKLE_MOST_NAME ||
        n_name > PICKLE_MOST_NAME)
        return bad(m, "a name of a callable is empty or longer than %d bytes",
                   PICKLE_MOST_NAME);
    char *mod = arena_strndup(m->arena, module, n_module);
    char *nam = arena_strndup(m->arena, name, n_name);
    const char *both = arena_printf(m->arena, "%s.%s", shown(m, mod, strlen(mod)),
                                    shown(m, nam, strlen(nam)));
    if (strlen(mod) != n_module || strlen(nam) != n_name)
        return bad(m, "the name of a callable holds a zero byte: '%s'", both);
    if (pickle_forbidden(mod, nam))
        return bad(m, "it would call '%s', which can run code: the file is refused",
                   both);
    PickleValue v = {.kind = PICKLE_GLOBAL, .text = both};
    v.global = (uint8_t)pickle_global(mod, nam);
    if (!v.global && m->strict)
        return bad(m, "it uses '%s', which is not needed for tensors (strict reading)",
                   both);
    v.n = (uint32_t)strlen(both);
    return push(m, v);
}

static bool take_line(Machine *m, const char **s, size_t *n) {
    const uint8_t *stop = memchr(m->at, '\n', (size_t)(m->end - m->at));
    *s = (const char *)m->at;
    *n = 0;
    if (!stop) return bad(m, "it is cut off");
    *n = (size_t)(stop - m->at);
    m->at = stop + 1;
    return true;
}

static bool op_global(Machine *m) {
    const char *module = NULL, *name = NULL;
    size_t n_module = 0, n_name = 0;
    return take_line(m, &module, &n_module) && take_line(m, &name, &n_name) &&
           global(m, module, n_module, name, n_name);
}

static bool op_stack_global(Machine *m) {
    if (!have(m, 2)) return false;
    PickleValue name = m->stack[--m->n], module = m->stack[--m->n];
    if (name.kind != PICKLE_TEXT || module.kind != PICKLE_TEXT)
        return bad(m, "the name of a callable is not text");
    return global(m, module.text, module.n, name.text, name.n);
}

/* ---- storages and tensors ---- */
static bool text_copy(Machine *m, const PickleValue *v, const char **out) {
    if (v->kind != PICKLE_TEXT || !v->n || v->n > PICKLE_MOST_NAME ||
        memchr(v->text, 0, v->n))
        return bad(m, "the key of a storage is not a short text");
    *out = arena_strndup(m->arena, v->text, v->n);
    return true;
}

/* Legacy files: a view is (its own key, first element, number of elements). */
static bool storage_view(Machine *m, const PickleValue *view, PickleStorage *s) {
    if (view->kind == PICKLE_NONE) return true;
    const PickleList *l = view->kind == PICKLE_TUPLE ? view->list : NULL;
    if (!l || l->n != 3 || l->item[1].kind != PICKLE_INT ||
        l->item[2].kind != PICKLE_INT || l->item[1].i < 0 || l->item[2].i < 0 ||
        (uint64_t)l->item[1].i > s->numel ||
        (uint64_t)l->item[2].i > s->numel - (uint64_t)l->item[1].i)
        return bad(m, "a view of storage '%s' is outside of it",
                   shown(m, s->key, strlen(s->key)));
    s->first = (uint64_t)l->item[1].i;
    return true;
}

static bool op_persid(Machine *m) {
    if (!have(m, 1)) return false;
    PickleValue v = m->stack[--m->n];
    const PickleList *l = v.kind == PICKLE_TUPLE ? v.list : NULL;
    if (!l || l->n < 5 || l->n > 6 || !pickle_is(&l->item[0], "storage"))
        return bad(m, "a persistent id is not ('storage', type, key, place, size)");
    const PickleValue *type = &l->item[1], *size = &l->item[4];
    PickleStorage *s = NEW(m->arena, PickleStorage, 1);
    if (type->kind != PICKLE_GLOBAL ||
        !pickle_storage_type(type->global, &s->dtype, &s->item_bytes))
        return bad(m, "a storage of type %s",
                   type->kind == PICKLE_GLOBAL ? type->text : kind_name(type));
    if (!text_copy(m, &l->item[2], &s->key)) return false;
    if (size->kind != PICKLE_INT || size->i < 0 || (uint64_t)size->i > most_elements)
        return bad(m, "storage '%s' has no sensible number of elements",
                   shown(m, s->key, strlen(s->key)));
    s->numel = (uint64_t)size->i;
    if (l->n == 6 && !storage_view(m, &l->item[5], s)) return false;
    PUSH(m->arena, m->storage, m->n_storage, m->cap_storage, s);
    return push(m, (PickleValue){.kind = PICKLE_STORAGE, .storage = s});
}

/* Sizes and strides into t; *last: the place of the last element behind the offset. */
static bool tensor_shape(Machine *m, const PickleList *size, const PickleList *stride,
                         PickleTensor *t, uint64_t *count, uint64_t *last) {
    if (size->n != stride->n || size->n > MAX_RANK)
        return bad(m, "a tensor with %u sizes and %u strides, at most %d", size->n,
                   stride->n, MAX_RANK);
    t->type.rank = (int)size->n;
    *count = 1;
    *last = 0;
    for (uint32_t i = 0; i < size->n; i++) {
        const PickleValue *d = &size->item[i], *s = &stride->item[i];
        if (d->kind != PICKLE_INT || s->kind != PICKLE_INT || d->i < 0 || s->i < 0)
            return bad(m,
                       "a size or stride of a tensor is not a whole number from 0 up");
        uint64_t far;
        if ((uint64_t)d->i > most_elements || !mul_u64(*count, (uint64_t)d->i, count) ||
            *count > most_elements ||
            !mul_u64(d->i ? (uint64_t)d->i - 1 : 0, (uint64_t)s->i, &far) ||
            !add_u64(*last, far, last))
            return bad(m, "the shape of a tensor is too large");
        t->type.dim[i] = d->i;
        t->stride[i] = s->i;
    }
    return true;
}

/* storage, offset, size, stride [, ...]; dtype: of an untyped storage, or NULL */
static bool make_tensor(Machine *m, const PickleList *args, const PickleValue *dtype,
                        PickleValue *out) {
    if (args->n < 4 || args->item[0].kind != PICKLE_STORAGE ||
        args->item[1].kind != PICKLE_INT || args->item[1].i < 0 ||
        args->item[2].kind != PICKLE_TUPLE || args->item[3].kind != PICKLE_TUPLE)
        return bad(m, "a tensor is not made of (storage, offset, size, stride)");
    PickleTensor *t = NEW(m->arena, PickleTensor, 1);
    const PickleStorage *s = t->storage = args->item[0].storage;
    t->type.dtype = s->dtype;
    t->item_bytes = s->item_bytes;
    if (dtype && (dtype->kind != PICKLE_GLOBAL ||
                  !pickle_dtype(dtype->global, &t->type.dtype, &t->item_bytes)))
        return bad(m, "the element type of a tensor is %s",
                   dtype->kind == PICKLE_GLOBAL ? dtype->text : kind_name(dtype));
    uint64_t numel = s->numel * (uint64_t)s->item_bytes / (uint64_t)t->item_bytes;
    uint64_t count = 0, last = 0;
    t->offset = (uint64_t)args->item[1].i;
    if (!tensor_shape(m, args->item[2].list, args->item[3].list, t, &count, &last))
        return false;
    if (count && (count > numel || !add_u64(last, t->offset, &last) || last >= numel))
        return bad(m, "a tensor reaches beyond storage '%s', which has %llu elements",
                   shown(m, s->key, strlen(s->key)), (unsigned long long)numel);
    *out = (PickleValue){.kind = PICKLE_TENSOR, .tensor = t};
    return true;
}

/* ---- opcodes: calls ---- */
static bool call(Machine *m, const PickleValue *f, const PickleList *args,
                 PickleValue *out);

/* (function, class, arguments, state): subclasses of tensors; what is inside counts */
static bool call_from_type(Machine *m, const PickleList *args, PickleValue *out) {
    if (args->n < 3 || args->item[0].kind != PICKLE_GLOBAL ||
        args->item[0].global == GLOBAL_FROM_TYPE || args->item[2].kind != PICKLE_TUPLE)
        return bad(m, "_rebuild_from_type_v2 without function and arguments");
    return call(m, &args->item[0], args->item[2].list, out);
}

/* OrderedDict() or OrderedDict([[key, value], ...]) */
static bool call_dict(Machine *m, const PickleList *args, PickleValue *out) {
    PickleList *dict = NEW(m->arena, PickleList, 1);
    *out = (PickleValue){.kind = PICKLE_DICT, .list = dict};
    const PickleValue *from = args->n ? &args->item[0] : NULL;
    if (from && from->kind != PICKLE_LIST && from->kind != PICKLE_TUPLE)
        return bad(m, "OrderedDict of %s", kind_name(from));
    for (uint32_t i = 0; from && i < from->list->n; i++) {
        const PickleValue *pair = &from->list->item[i];
        if ((pair->kind != PICKLE_LIST && pair->kind != PICKLE_TUPLE) ||
            pair->list->n != 2)
            return bad(m, "OrderedDict of something that is not pairs");
        if (++m->values > PICKLE_MOST_VALUES)
            return bad(m, "more than %d values", PICKLE_MOST_VALUES);
        if (!add(m, dict, pair->list->item[0]) || !add(m, dict, pair->list->item[1]))
            return false;
    }
    return true;
}

static bool call(Machine *m, const PickleValue *f, const PickleList *args,
                 PickleValue *out) {
    *out = opaque_value(f->text);
    if (f->kind == PICKLE_OPAQUE) return true;
    switch (f->global) {
    case GLOBAL_TENSOR:
        return make_tensor(m, args, NULL, out);
    case GLOBAL_TENSOR_V3:
        if (args->n < 7) return bad(m, "_rebuild_tensor_v3 without an element type");
        return make_tensor(m, args, &args->item[6], out);
    case GLOBAL_PARAMETER:
        if (!args->n) return bad(m, "a parameter of nothing");
        *out = args->item[0];
        return true;
    case GLOBAL_FROM_TYPE:
        return call_from_type(m, args, out);
    case GLOBAL_DICT:
        return call_dict(m, args, out);
    default:
        return true;
    }
}

static bool op_reduce(Machine *m) {
    if (!have(m, 2)) return false;
    PickleValue args = m->stack[--m->n], f = m->stack[--m->n], made;
    if (f.kind != PICKLE_GLOBAL && f.kind != PICKLE_OPAQUE)
        return bad(m, "%s is called", kind_name(&f));
    if (args.kind == PICKLE_OPAQUE && f.kind == PICKLE_OPAQUE) return push(m, f);
    if (args.kind != PICKLE_TUPLE)
        return bad(m, "'%s' is called with %s, want a tuple", f.text, kind_name(&args));
    return call(m, &f, args.list, &made) && push(m, made);
}

static bool op_newobj(Machine *m) {
    return op_reduce(m);
}

/* State of an object: nothing of it is of use here (state_dict's _metadata, hooks). */
static bool op_build(Machine *m) {
    if (!have(m, 2)) return false;
    const PickleValue *v = &m->stack[m->n - 2];
    if (v->kind != PICKLE_OPAQUE && v->kind != PICKLE_DICT && v->kind != PICKLE_TENSOR)
        return bad(m, "state is given to %s", kind_name(v));
    m->n--;
    return true;
}

static bool op_stop(Machine *m) {
    if (m->n != 1 || m->n_mark) return bad(m, "it ends with %u values, want 1", m->n);
    m->done = true;
    return true;
}

/* Every opcode of the pickle module: without a function it is refused by its name. */
static const struct {
    const char *name;
    bool (*run)(Machine *m);
} ops[256] = {
    ['('] = {"MARK", op_mark},
    ['.'] = {"STOP", op_stop},
    ['0'] = {"POP", NULL},
    ['1'] = {"POP_MARK", NULL},
    ['2'] = {"DUP", NULL},
    ['F'] = {"FLOAT", NULL},
    ['I'] = {"INT", NULL},
    ['J'] = {"BININT", op_int4},
    ['K'] = {"BININT1", op_int1},
    ['L'] = {"LONG", NULL},
    ['M'] = {"BININT2", op_int2},
    ['N'] = {"NONE", op_none},
    ['P'] = {"PERSID", NULL},
    ['Q'] = {"BINPERSID", op_persid},
    ['R'] = {"REDUCE", op_reduce},
    ['S'] = {"STRING", NULL},
    ['T'] = {"BINSTRING", NULL},
    ['U'] = {"SHORT_BINSTRING", op_text1},
    ['V'] = {"UNICODE", NULL},
    ['X'] = {"BINUNICODE", op_text4},
    ['a'] = {"APPEND", op_append},
    ['b'] = {"BUILD", op_build},
    ['c'] = {"GLOBAL", op_global},
    ['d'] = {"DICT", NULL},
    ['}'] = {"EMPTY_DICT", op_empty_dict},
    ['e'] = {"APPENDS", op_appends},
    ['g'] = {"GET", NULL},
    ['h'] = {"BINGET", op_get1},
    ['i'] = {"INST", NULL},
    ['j'] = {"LONG_BINGET", op_get4},
    ['l'] = {"LIST", NULL},
    [']'] = {"EMPTY_LIST", op_empty_list},
    ['o'] = {"OBJ", NULL},
    ['p'] = {"PUT", NULL},
    ['q'] = {"BINPUT", op_put1},
    ['r'] = {"LONG_BINPUT", op_put4},
    ['s'] = {"SETITEM", op_setitem},
    ['t'] = {"TUPLE", op_tuple},
    [')'] = {"EMPTY_TUPLE", op_empty_tuple},
    ['u'] = {"SETITEMS", op_setitems},
    ['G'] = {"BINFLOAT", op_float},
    ['B'] = {"BINBYTES", NULL},
    ['C'] = {"SHORT_BINBYTES", NULL},
    [0x80] = {"PROTO", op_proto},
    [0x81] = {"NEWOBJ", op_newobj},
    [0x82] = {"EXT1", NULL},
    [0x83] = {"EXT2", NULL},
    [0x84] = {"EXT4", NULL},
    [0x85] = {"TUPLE1", op_tuple1},
    [0x86] = {"TUPLE2", op_tuple2},
    [0x87] = {"TUPLE3", op_tuple3},
    [0x88] = {"NEWTRUE", op_true},
    [0x89] = {"NEWFALSE", op_false},
    [0x8a] = {"LONG1", op_long1},
    [0x8b] = {"LONG4", NULL},
    [0x8c] = {"SHORT_BINUNICODE", op_text1},
    [0x8d] = {"BINUNICODE8", NULL},
    [0x8e] = {"BINBYTES8", NULL},
    [0x8f] = {"EMPTY_SET", op_empty_list},
    [0x90] = {"ADDITEMS", op_appends},
    [0x91] = {"FROZENSET", NULL},
    [0x92] = {"NEWOBJ_EX", NULL},
    [0x93] = {"STACK_GLOBAL", op_stack_global},
    [0x94] = {"MEMOIZE", op_memoize},
    [0x95] = {"FRAME", op_frame},
    [0x96] = {"BYTEARRAY8", NULL},
    [0x97] = {"NEXT_BUFFER", NULL},
    [0x98] = {"READONLY_BUFFER", NULL},
};

static bool step(Machine *m) {
    const uint8_t *code = NULL;
    if (!take(m, 1, &code)) return false;
    if (ops[*code].run) return ops[*code].run(m);
    if (ops[*code].name)
        return bad(m, "opcode %s does not occur in files of tensors", ops[*code].name);
    return bad(m, "no opcode 0x%02x: damaged, or not a pickle", *code);
}

bool pickle_read(Arena *a, const char *path, const void *bytes, size_t n, bool strict,
                 Pickle *out, Err *e) {
    Machine m = {
        .arena = a, .path = path, .start = bytes, .at = bytes, .strict = strict};
    m.e = e;
    m.end = m.start + n;
    if (n > PICKLE_MOST_BYTES)
        return bad(&m, "a pickle of %zu bytes, at most %d", n, PICKLE_MOST_BYTES);
    while (!m.done)
        if (!step(&m)) return false;
    *out = (Pickle){m.stack[0], (size_t)(m.at - m.start), m.storage, m.n_storage};
    return true;
}

bool pickle_is(const PickleValue *v, const char *text) {
    return v->kind == PICKLE_TEXT && v->n == strlen(text) &&
           !memcmp(v->text, text, v->n);
}

const PickleValue *pickle_get(const PickleValue *dict, const char *key) {
    if (dict->kind != PICKLE_DICT) return NULL;
    for (uint32_t i = dict->list->n; i >= 2; i -= 2)
        if (pickle_is(&dict->list->item[i - 2], key)) return &dict->list->item[i - 1];
    return NULL;
}
