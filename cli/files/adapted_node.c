/* One layer as a network of its own, with an adapter around it (see adapted_node.h). */
#include "cli/files/adapted_node.h"

#include <math.h>
#include <string.h>

#include "kernels/rng.h"

/* The network around the node, as a document like any other. */
static const char network_text[] =
    "network: node\n"
    "prefix: {kohya: '', peft: ''}\n"
    "args: {out: int, kernel: 0, stride: 1, pad: 0, biased: false}\n"
    "symbols: {B: batch, N: tokens, H: height, W: width, C: channels}\n"
    "inputs:\n"
    "  x: {shape: [B, %s, C]}\n"
    "nodes:\n"
    "  node: {op: %s, x: x, out: $out, bias: $biased%s}\n"
    "outputs: {y: node}\n";

bool adapted_node_is_conv(const AdaptedNode *n) {
    const Type *w = &n->weight;
    return w->rank == 4 && !(n->points && w->dim[2] == 1 && w->dim[3] == 1);
}

static const Doc *network_around(AdaptedNode *n, Err *e) {
    const bool conv = adapted_node_is_conv(n);
    char *text = arena_printf(
        n->arena, network_text, conv ? "H, W" : "N", conv ? "conv2d" : "linear",
        conv ? ", kernel: $kernel, stride: $stride, pad: $pad" : "");
    Source *src = source_text(n->arena, "(the adapted node)", text, strlen(text));
    return doc_parse(n->library, src, e);
}

static bool shape_of(void *ctx, const char *name, Type *out) {
    const AdaptedNode *n = ctx;
    const bool weight = !strcmp(name, "node.weight");
    *out = weight ? n->weight : n->bias;
    return weight || n->bias.rank;
}

static bool bind_net(AdaptedNode *n, Str *note, Err *e) {
    const Doc *doc = network_around(n, e);
    if (!doc) return false;
    Args *args = args_new(n->arena);
    args_set(args, "out", val_int(n->weight.dim[0]));
    args_set(args, "biased", val_bool(n->bias.rank > 0));
    if (adapted_node_is_conv(n)) {
        args_set(args, "kernel", val_int(n->weight.dim[2]));
        args_set(args, "stride", val_int(n->stride));
        args_set(args, "pad", val_int(n->pad));
    }
    WeightShapes *shapes = NEW(n->arena, WeightShapes, 1);
    *shapes = (WeightShapes){n, shape_of};
    return net_bind(n->arena, doc, "node", NULL, args, shapes, &n->net, note, e);
}

bool adapted_node_build(AdaptedNode *n, const Args *dims, Str *note, Err *e) {
    if (!bind_net(n, note, e)) return false;
    Graph *g = graph_new(n->arena, "node");
    Build b = {.g = g, .net = &n->net, .n_net = 1, .training = n->training};
    Named *in, *out;
    int n_in, n_out;
    if (!build_inputs(&b, n->net.doc, n->net.args, dims, "", &in, &n_in, e) ||
        !build_network(&b, &n->net, in, n_in, &out, &n_out, e))
        return false;
    graph_output(g, "y", out[0].value);
    static const char *const pattern[] = {"node", NULL};
    AdapterTarget on = {.network = "node", .pattern = pattern};
    AdapterEntry entry = {
        .doc = n->adapter, .on = &on, .n_on = 1, .args = (Args *)n->args};
    Recipe r = {.adapter = &entry, .n_adapter = 1};
    if (!modules_match(n->arena, g, &r, &n->net, 1, &n->modules, e)) return false;
    n->graph = adapters_inject(g, &n->modules, n->training, e);
    return n->graph != NULL;
}

NodeAsk node_ask_new(Arena *a, Exec *x, const Type *weight, int64_t samples) {
    NodeAsk q = {.exec = x, .samples = samples, .out = weight->dim[0]};
    q.row = type_count(weight) / q.out;
    q.x = NEW(a, float, samples *q.row);
    q.y = NEW(a, float, samples *q.out);
    return q;
}

bool node_ask(NodeAsk *q, Err *e) {
    const size_t in = sizeof *q->x * (size_t)(q->samples * q->row);
    if (!exec_write(q->exec, "x", q->x, in, e)) return false;
    exec_run(q->exec);
    return exec_read(q->exec, "y", q->y, sizeof *q->y * (size_t)(q->samples * q->out),
                     e);
}

bool node_affine(NodeAsk *q, float *zero, double *off, double *size, Err *e) {
    enum { PAIRS = 4 };
    memset(q->x, 0, sizeof *q->x * (size_t)(q->samples * q->row));
    for (int k = 0; k < PAIRS; k++) {
        float *a = q->x + 3 * k * q->row, *b = a + q->row, *sum = b + q->row;
        for (int64_t i = 0; i < q->row; i++) {
            uint32_t c[4] = {(uint32_t)i, (uint32_t)k, 0, 0};
            philox(c, 0, 0);
            a[i] = rng_uniform(c[0]) - 0.5f;
            b[i] = rng_uniform(c[1]) - 0.5f;
            sum[i] = a[i] + b[i];
        }
    }
    if (!node_ask(q, e)) return false;
    memcpy(zero, q->y + 3 * PAIRS * q->out, sizeof *zero * (size_t)q->out);
    *off = *size = 0;
    for (int k = 0; k < PAIRS; k++) {
        const float *a = q->y + 3 * k * q->out, *b = a + q->out, *sum = b + q->out;
        for (int64_t i = 0; i < q->out; i++) {
            *off = fmax(*off, fabs((double)sum[i] - a[i] - b[i] + zero[i]));
            *size = fmax(*size, fabs((double)a[i]) + fabs((double)b[i]));
        }
    }
    return true;
}
