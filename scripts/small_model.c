/* small-model: what making and judging the embedded model needs beside graphrun's own
 * commands (scripts/embedded-model runs both). DIR holds pictures and captions as
 * scripts/emoji.c writes them; they are taken in the order of their names.
 *   pictures DIR FIRST N OUT     "image" [n,3,64,64] in -1 ... 1, for `graphrun eval`
 *   latents CODES OUT            the means of codes, named as the decoder wants them
 *   psnr IMAGES DECODED          the PSNR of each picture in dB, a line each
 *   join MODEL VAE OUT CODES...  the model with that VAE, its latents moved to mean 0 and
 *                                Stable Diffusion's spread: an exact change of the VAE
 *   prompts DIR N                N captions in equal steps, a line each with its seed
 *   nearest DIR N DRAWN          rank of the right picture for each of N drawn ones
 *   style TARGET DIR...          how far each folder's pictures are from TARGET's style
 *   grid OUT COLUMNS FILE...     the pictures in one, row by row */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/generate/generate.h"
#include "io/data.h"
#include "io/file.h"
#include "io/image_write.h"
#include "io/model_write.h"
#include "runtime/latents.h"

enum {
    SIDE = 64,
    CELL = 4, /* pixels are compared as means of 4 x 4: a shift by one counts little */
    CELLS = SIDE / CELL,
    CHANNELS = 4
};

typedef struct Tool {
    Arena *arena;
    char **arg;
    int n_arg;
    Err err;
} Tool;

typedef struct Set { /* the pictures of a folder, by name */
    const char *dir, **stem;
    int n;
} Set;

/* ---- pictures ---- */

static int is_picture(const struct dirent *d) {
    return ends_with(d->d_name, ".png");
}

static bool list(Tool *t, const char *dir, Set *out) {
    struct dirent **entry;
    int n = scandir(dir, &entry, is_picture, alphasort);
    if (n <= 0) return err_fail(&t->err, "%s: no pictures", dir);
    *out = (Set){dir, NEW(t->arena, const char *, n), n};
    for (int i = 0; i < n; i++) {
        const char *name = entry[i]->d_name;
        out->stem[i] = arena_strndup(t->arena, name, strlen(name) - 4);
        free(entry[i]);
    }
    free(entry);
    return true;
}

/* RGB of a file at SIDE x SIDE, as training resizes. */
static bool resized(Tool *t, const char *path, Image *out) {
    Image im;
    if (!image_read(path, &im, &t->err)) return false;
    bool ok = image_resize(&im, SIDE, SIDE, FILTER_AREA, out, &t->err);
    image_free(&im);
    return ok;
}

static bool pixels(Tool *t, const Set *s, int i, Image *out) {
    return resized(t, arena_printf(t->arena, "%s/%s.png", s->dir, s->stem[i]), out);
}

static bool pictures(Tool *t) {
    Set s;
    if (!list(t, t->arg[0], &s)) return false;
    int first = atoi(t->arg[1]), n = atoi(t->arg[2]);
    if (first < 0 || first >= s.n || n < 1)
        return err_fail(&t->err, "%s: %d pictures, none from %d", s.dir, s.n, first);
    if (n > s.n - first) n = s.n - first;
    const int area = SIDE * SIDE;
    float *x = NEW(t->arena, float, (size_t)n * 3 * area);
    for (int i = 0; i < n; i++) {
        Image im;
        if (!pixels(t, &s, first + i, &im)) return false;
        for (int p = 0; p < area; p++)
            for (int c = 0; c < 3; c++)
                x[(i * 3 + c) * area + p] = (float)im.rgb[3 * p + c] / 127.5F - 1;
        image_free(&im);
    }
    TensorOut out = {"image", type_of(F32, 4, (int64_t[]){n, 3, SIDE, SIDE}), x};
    return safetensors_write(t->arg[3], &out, 1, NULL, 0, &t->err);
}

/* ---- the VAE ---- */

/* A tensor [n,c,h,w] of floats that a file must have. */
static const float *floats(Tool *t, const TensorFile *f, const char *name, Type *type) {
    const TensorEntry *x = tensors_find(f, name);
    if (!x || x->type.dtype != F32 || x->type.rank != 4) {
        err_fail(&t->err, "%s: no '%s' of 4 dimensions in f32", f->path, name);
        return NULL;
    }
    *type = x->type;
    float *copy = NEW(t->arena, float, type_count(type));
    memcpy(copy, x->data, type_bytes(type));
    return copy;
}

static bool latents(Tool *t) {
    TensorFile *f = tensors_open(t->arg[0], &t->err);
    if (!f) return false;
    TensorOut out = {.name = "latent"};
    out.data = floats(t, f, "mean", &out.type);
    bool ok = out.data && safetensors_write(t->arg[1], &out, 1, NULL, 0, &t->err);
    tensors_close(f);
    return ok;
}

/* 10 log10(2^2 / mean squared error), the decoded picture cut to -1 ... 1. */
static bool psnr(Tool *t) {
    TensorFile *a = tensors_open(t->arg[0], &t->err), *b = NULL;
    Type x, y;
    const float *want = NULL, *got = NULL;
    if (a) b = tensors_open(t->arg[1], &t->err);
    if (b) want = floats(t, a, "image", &x);
    if (want) got = floats(t, b, "image", &y);
    bool ok = got != NULL;
    if (ok && !type_equal(&x, &y))
        ok = err_fail(&t->err, "%s: '%s', want '%s'", b->path, type_text(t->arena, &y),
                      type_text(t->arena, &x));
    int64_t each = ok ? type_count(&x) / x.dim[0] : 0;
    for (int64_t i = 0; ok && i < x.dim[0]; i++) {
        double sum = 0;
        for (int64_t k = i * each; k < (i + 1) * each; k++) {
            double d = fmin(fmax(got[k], -1), 1) - want[k];
            sum += d * d;
        }
        printf("%.3f\n", 10 * log10(4 * (double)each / sum));
    }
    if (a) tensors_close(a);
    if (b) tensors_close(b);
    return ok;
}

typedef struct Moments {
    double n, sum[CHANNELS], square[CHANNELS];
} Moments;

/* Of what the encoder draws: the spread of its means and the variance of each draw. */
static bool add_moments(Tool *t, const char *path, Moments *m) {
    TensorFile *f = tensors_open(path, &t->err);
    if (!f) return false;
    Type x, y;
    const float *mean = floats(t, f, "mean", &x), *logvar = NULL;
    if (mean) logvar = floats(t, f, "logvar", &y);
    bool ok = logvar && type_equal(&x, &y) && x.dim[1] == CHANNELS;
    int64_t area = ok ? x.dim[2] * x.dim[3] : 0, n = ok ? type_count(&x) : 0;
    for (int64_t k = 0; k < n; k++) {
        int c = (int)(k / area % CHANNELS);
        m->sum[c] += mean[k];
        m->square[c] += (double)mean[k] * mean[k] + exp(logvar[k]);
    }
    if (ok) m->n += (double)(n / CHANNELS);
    tensors_close(f);
    return ok || t->err.set || err_fail(&t->err, "%s: no codes of a VAE", path);
}

/* A copy of a tensor of the model that takes its place. */
static float *own(Tool *t, Checkpoint *c, const char *name, int64_t want) {
    Type type;
    const void *data;
    if (!checkpoint_find(c, name, &type, &data) || type_count(&type) != want) {
        err_fail(&t->err, "%s: no '%s' of %lld numbers", checkpoint_path(c), name,
                 (long long)want);
        return NULL;
    }
    float *x = NEW(t->arena, float, want);
    convert(x, F32, data, type.dtype, want);
    type.dtype = F32;
    return checkpoint_replace(c, name, type, x) ? x : NULL;
}

/* z' = (z - m) f by channel: the rows of quant_conv that give means and spreads, and the
 * columns of post_quant_conv that take z, which is z' / f + m. All are 1 x 1. */
static bool change(Tool *t, Checkpoint *c, const double *m, const double *f) {
    enum { Q = 2 * CHANNELS };
    float *w = own(t, c, "vae.quant_conv.weight", Q * Q),
          *b = own(t, c, "vae.quant_conv.bias", Q),
          *pw = own(t, c, "vae.post_quant_conv.weight", CHANNELS * CHANNELS),
          *pb = own(t, c, "vae.post_quant_conv.bias", CHANNELS);
    if (!w || !b || !pw || !pb) return false;
    for (int k = 0; k < CHANNELS; k++) {
        for (int i = 0; i < Q; i++) w[k * Q + i] *= (float)f[k];
        b[k] = (float)((b[k] - m[k]) * f[k]);
        b[CHANNELS + k] += (float)(2 * log(f[k]));
        for (int o = 0; o < CHANNELS; o++) {
            pb[o] += pw[o * CHANNELS + k] * (float)m[k];
            pw[o * CHANNELS + k] /= (float)f[k];
        }
    }
    return true;
}

/* The VAE of one model in place of another's. Their attention's weights may be 1 x 1
 * convolutions in one and linear layers in the other: the same numbers. */
static bool take(Tool *t, Checkpoint *to, const Checkpoint *vae) {
    for (int i = 0; i < checkpoint_count(to); i++) {
        const char *key, *name = checkpoint_name(to, i, &key);
        Type want = {0}, type = {0};
        const void *data;
        if (strcmp(checkpoint_component(name), "vae")) continue;
        bool ok = checkpoint_find(to, name, &want, &data) &&
                  checkpoint_find(vae, name, &type, &data) &&
                  type_count(&want) == type_count(&type);
        want.dtype = type.dtype;
        if (!ok || !checkpoint_replace(to, name, want, data))
            return err_fail(&t->err, "%s: no '%s' of the same size",
                            checkpoint_path(vae), name);
    }
    return true;
}

static bool join(Tool *t) {
    Moments m = {0};
    for (int i = 3; i < t->n_arg; i++)
        if (!add_moments(t, t->arg[i], &m)) return false;
    double mean[CHANNELS], factor[CHANNELS];
    for (int c = 0; c < CHANNELS; c++) {
        mean[c] = m.sum[c] / m.n;
        double spread = sqrt(m.square[c] / m.n - mean[c] * mean[c]);
        factor[c] = 1 / (LATENT_SCALE * spread);
        printf("latent channel %d: mean %.4f, spread %.4f\n", c, mean[c], spread);
    }
    Checkpoint *to = checkpoint_open(t->arg[0], &t->err), *vae = NULL;
    if (to) vae = checkpoint_open(t->arg[1], &t->err);
    bool ok = vae && take(t, to, vae) && change(t, to, mean, factor);
    if (ok) {
        int64_t overflow;
        DiffusersSave how = {.family = model_family(to), .precision = F32};
        ok = diffusers_write(t->arg[2], to, &how, &overflow, &t->err);
    }
    if (vae) checkpoint_close(vae);
    if (to) checkpoint_close(to);
    return ok;
}

/* ---- the pictures that it draws ---- */

/* The k-th of n out of all, in equal steps: the rule that was fixed before training. */
static int chosen(const Set *s, int k, int n) {
    return (int)((int64_t)k * s->n / n);
}

static bool prompts(Tool *t) {
    Set s;
    if (!list(t, t->arg[0], &s)) return false;
    int n = atoi(t->arg[1]);
    for (int k = 0; k < n; k++) {
        const char *stem = s.stem[chosen(&s, k, n)];
        char line[512] = "";
        FILE *f = fopen(arena_printf(t->arena, "%s/%s.caption", s.dir, stem), "r");
        bool ok = f && fgets(line, sizeof line, f);
        if (f) fclose(f);
        if (!ok) return err_fail(&t->err, "%s/%s.caption: no caption", s.dir, stem);
        line[strcspn(line, "\n")] = 0;
        printf("%s --d %d\n", line, k + 1);
    }
    return true;
}

typedef struct Seen {
    float cell[CELLS * CELLS * 3];
} Seen;

static bool see(Tool *t, const Set *s, int i, Seen *out) {
    Image im;
    if (!pixels(t, s, i, &im)) return false;
    memset(out, 0, sizeof *out);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            for (int c = 0; c < 3; c++)
                out->cell[(y / CELL * CELLS + x / CELL) * 3 + c] +=
                    (float)im.rgb[(y * SIDE + x) * 3 + c] / (CELL * CELL);
    image_free(&im);
    return true;
}

static double distance(const Seen *a, const Seen *b) {
    double sum = 0;
    for (int i = 0; i < CELLS * CELLS * 3; i++) {
        double d = a->cell[i] - b->cell[i];
        sum += d * d;
    }
    return sum;
}

static bool ranks(Tool *t) {
    Set s, drawn;
    int n = atoi(t->arg[1]), near = 0;
    if (!list(t, t->arg[0], &s) || !list(t, t->arg[2], &drawn)) return false;
    if (n < 1 || drawn.n != n)
        return err_fail(&t->err, "%s: %d pictures, want %d", drawn.dir, drawn.n, n);
    Seen *all = NEW(t->arena, Seen, s.n), one;
    for (int i = 0; i < s.n; i++)
        if (!see(t, &s, i, &all[i])) return false;
    for (int k = 0; k < n; k++) {
        if (!see(t, &drawn, k, &one)) return false;
        int right = chosen(&s, k, n), rank = 1;
        double its = distance(&one, &all[right]);
        for (int i = 0; i < s.n; i++) rank += distance(&one, &all[i]) < its;
        printf("%s %d\n", s.stem[right], rank);
        near += rank <= 5;
    }
    printf("%d of %d among the 5 nearest of %d\n", near, n, s.n);
    return true;
}

/* ---- the demo's measure of style ---- */

enum { CHROMA = 4, LUMA = 4, EDGE = 3, CLASSES = CHROMA * LUMA * EDGE };

/* Number of limits that x has reached. */
static int bin(int x, const int *limit, int n) {
    int k = 0;
    while (k < n && x >= limit[k]) k++;
    return k;
}

/* Rec. 601. */
static int luma(const uint8_t *p) {
    return (299 * p[0] + 587 * p[1] + 114 * p[2]) / 1000;
}

/* What a pixel is: its chroma (largest less smallest of RGB), its luma, and the step of the
 * luma to its left or upper neighbour, the larger. */
static int class_of(const uint8_t *rgb, int x, int y) {
    static const int chromas[] = {16, 64, 128}, lumas[] = {64, 128, 192},
                     edges[] = {16, 64};
    const uint8_t *p = rgb + 3 * (y * SIDE + x);
    const int most = p[0] > p[1] ? p[0] : p[1], least = p[0] < p[1] ? p[0] : p[1];
    const int chroma = (most > p[2] ? most : p[2]) - (least < p[2] ? least : p[2]);
    int step = 0;
    if (x) step = abs(luma(p) - luma(p - 3));
    if (y && step < abs(luma(p) - luma(p - 3 * SIDE)))
        step = abs(luma(p) - luma(p - 3 * SIDE));
    return (bin(chroma, chromas, CHROMA - 1) * LUMA + bin(luma(p), lumas, LUMA - 1)) *
               EDGE +
           bin(step, edges, EDGE - 1);
}

/* Shares of the classes among all pixels of a folder. */
static bool classes(Tool *t, const char *dir, double *share) {
    Set s;
    if (!list(t, dir, &s)) return false;
    for (int i = 0; i < CLASSES; i++) share[i] = 0;
    for (int i = 0; i < s.n; i++) {
        Image im;
        if (!pixels(t, &s, i, &im)) return false;
        for (int p = 0; p < SIDE * SIDE; p++)
            share[class_of(im.rgb, p % SIDE, p / SIDE)] += 1.0 / (SIDE * SIDE * s.n);
        image_free(&im);
    }
    return true;
}

/* Total variation: the share of pixels that would have to be of another class. */
static bool style(Tool *t) {
    double target[CLASSES], drawn[CLASSES];
    if (!classes(t, t->arg[0], target)) return false;
    for (int i = 1; i < t->n_arg; i++) {
        double sum = 0;
        if (!classes(t, t->arg[i], drawn)) return false;
        for (int k = 0; k < CLASSES; k++) sum += fabs(drawn[k] - target[k]);
        printf("%.4f %s\n", sum / 2, t->arg[i]);
    }
    return true;
}

static bool grid(Tool *t) {
    const int n = t->n_arg - 2, columns = atoi(t->arg[1]);
    if (columns < 1)
        return err_fail(&t->err, "'%s' is no number of columns", t->arg[1]);
    Image *im = NEW(t->arena, Image, n), all;
    for (int i = 0; i < n; i++)
        if (!resized(t, t->arg[i + 2], &im[i])) return false;
    if (!generate_beside(im, n, columns, &all, &t->err)) return false;
    bool ok = image_write_png(t->arg[0], &all, &t->err);
    for (int i = 0; i < n; i++) image_free(&im[i]);
    image_free(&all);
    return ok;
}

static const struct {
    const char *name;
    int least;
    bool (*run)(Tool *);
} command[] = {{"pictures", 4, pictures}, {"latents", 2, latents},
               {"psnr", 2, psnr},         {"join", 4, join},
               {"prompts", 2, prompts},   {"nearest", 3, ranks},
               {"style", 2, style},       {"grid", 3, grid}};

int main(int argc, char **argv) {
    Tool t = {arena_new(), argv + 2, argc - 2, {0}};
    for (size_t i = 0; argc > 1 && i < sizeof command / sizeof *command; i++) {
        if (strcmp(argv[1], command[i].name) || t.n_arg < command[i].least) continue;
        bool ok = command[i].run(&t);
        if (!ok) fprintf(stderr, "small-model: %s\n", t.err.text);
        arena_free(t.arena);
        return ok ? 0 : 1;
    }
    fprintf(stderr, "usage: small-model COMMAND ...; see scripts/small_model.c\n");
    arena_free(t.arena);
    return 2;
}
