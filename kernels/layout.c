/* Merged dimensions and walks for broadcasting kernels. */
#include "kernels/layout.h"

#include <string.h>

static void strides_of(const Type *out, const Type *in, int64_t stride[MAX_RANK]) {
    int64_t step = 1;
    for (int i = out->rank - 1; i >= 0; i--) {
        int k = i - (out->rank - in->rank);
        int64_t d = k >= 0 ? in->dim[k] : 1;
        stride[i] = d == 1 ? 0 : step;
        step *= d;
    }
}

/* Can dimension i be walked as one with the merged dimension before it? */
static bool merges(const Layout *l, int n_in, int64_t (*stride)[MAX_RANK], int i,
                   int64_t dim) {
    if (!l->rank) return false;
    for (int k = 0; k < n_in; k++)
        if (l->stride[k][l->rank - 1] != stride[k][i] * dim) return false;
    return true;
}

Layout *layout_new(Arena *a, const Type *out, const Type *in, int n_in) {
    Layout *l = NEW(a, Layout, 1);
    size_t n = n_in ? (size_t)n_in : 1;
    int64_t(*stride)[MAX_RANK] = arena_alloc(a, n, sizeof *stride);
    l->stride = arena_alloc(a, n, sizeof *stride);
    l->dense = NEW(a, bool, n);
    for (int k = 0; k < n_in; k++) {
        strides_of(out, &in[k], stride[k]);
        l->dense[k] = type_count(&in[k]) == type_count(out);
    }
    for (int i = 0; i < out->rank; i++) {
        if (out->dim[i] == 1) continue;
        if (merges(l, n_in, stride, i, out->dim[i])) {
            l->dim[l->rank - 1] *= out->dim[i];
        } else {
            l->dim[l->rank++] = out->dim[i];
        }
        for (int k = 0; k < n_in; k++) l->stride[k][l->rank - 1] = stride[k][i];
    }
    if (!l->rank) l->dim[l->rank++] = 1;
    return l;
}

void layout_walk(const Layout *l, int in, int64_t start, int64_t n,
                 void (*piece)(void *ctx, int64_t to, int64_t from, int64_t stride,
                               int64_t n),
                 void *ctx) {
    const int64_t *stride = l->stride[in];
    int64_t at[MAX_RANK], from = 0, rest = start;
    for (int i = l->rank - 1; i >= 0; i--) {
        at[i] = rest % l->dim[i];
        rest /= l->dim[i];
        from += at[i] * stride[i];
    }
    int last = l->rank - 1;
    for (int64_t to = 0; to < n;) {
        int64_t run = l->dim[last] - at[last];
        if (run > n - to) run = n - to;
        piece(ctx, to, from, stride[last], run);
        to += run;
        from += run * stride[last];
        at[last] += run;
        for (int i = last; i > 0 && at[i] == l->dim[i]; i--) {
            from += stride[i - 1] - at[i] * stride[i];
            at[i] = 0;
            at[i - 1]++;
        }
    }
}
