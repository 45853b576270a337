/* Pixels that training sees against sd-scripts', views of pictures that vary, masks, stored
 * latents of other programs. */
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/data.h"
#include "io/image_write.h"
#include "io/npz.h"
#include "io/tensors.h"
#include "tests/check.h"

static const char images[] = "tests/golden/images";
static char root[] = "/tmp/graphrun-pixels-XXXXXX";

static uint8_t byte_of(float x) {
    return (uint8_t)lrintf((x * 0.5f + 0.5f) * 255);
}

/* ---- the golden tree ---- */
/* [3,H,W] of sd-scripts against [H,W,3]: the largest difference. */
static int largest_difference(const TensorEntry *t, const float *got) {
    const uint8_t *want = t->data;
    int64_t h = t->type.dim[1], w = t->type.dim[2];
    int most = 0;
    for (int64_t i = 0; i < 3 * h * w; i++) {
        int d = abs(byte_of(got[i % (h * w) * 3 + i / (h * w)]) - want[i]);
        if (d > most) most = d;
    }
    return most;
}

/* Our filters are the libraries' to the last bit, so no pixel may differ. */
static void test_tree(TensorFile *golden, int which) {
    DataOptions o = {.train_data_dir = "tests/golden/images/train",
                     .reg_data_dir = "tests/golden/images/reg",
                     .width = 64,
                     .height = 64,
                     .enable_bucket = true,
                     .bucket_no_upscale = which == 1,
                     .min_bucket_reso = 32,
                     .max_bucket_reso = 128,
                     .bucket_reso_steps = 32};
    Err e = {0};
    Dataset *d = dataset_open(&o, &e);
    CHECK(d && d->n == 14, "%s", e.text);
    for (int i = 0; d && i < d->n; i++) {
        const Sample *s = &d->sample[i];
        View v = dataset_view(d, i);
        float *got =
            malloc((size_t)s->bucket_w * (size_t)s->bucket_h * 3 * sizeof *got);
        char name[256];
        snprintf(name, sizeof name, "case%d/%s", which, s->path + strlen(images) + 1);
        const TensorEntry *t = tensors_find(golden, name);
        bool ok = dataset_pixels(d, &v, got, NULL, &e);
        CHECK(ok && t && t->type.dim[1] == s->bucket_h && t->type.dim[2] == s->bucket_w,
              "%s: %s", name, e.text);
        int most = ok && t ? largest_difference(t, got) : 255;
        CHECK(most == 0, "%s differs by %d of 255", name, most);
        free(got);
    }
    dataset_close(d);
}

static void test_golden(void) {
    Err e = {0};
    TensorFile *golden = safetensors_open("tests/golden/images.safetensors", &e);
    CHECK(golden, "%s", e.text);
    if (!golden) return;
    test_tree(golden, 0);
    test_tree(golden, 1);
    tensors_close(golden);
}

/* ---- pictures that vary ---- */
static const char *at_root(const char *name) {
    static char path[4][128];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", root, name);
    return path[turn];
}

static void put_text(const char *name, const char *text) {
    FILE *f = fopen(at_root(name), "wb");
    if (!f || fputs(text, f) < 0) exit(1);
    fclose(f);
}

/* Red is x, green y, blue 77. */
static void put_picture(const char *name, int w, int h) {
    Image im = {w, h, malloc((size_t)w * (size_t)h * 3)};
    for (int i = 0; i < w * h; i++) {
        im.rgb[3 * i] = (uint8_t)(i % w);
        im.rgb[3 * i + 1] = (uint8_t)(i / w);
        im.rgb[3 * i + 2] = 77;
    }
    Err e = {0};
    CHECK(image_write_png(at_root(name), &im, &e), "%s", e.text);
    image_free(&im);
}

static Dataset *open_toml(const char *general, const char *subset) {
    Str s = {0};
    str_printf(&s,
               "[general]\nresolution = 64\nbatch_size = 8\n%s\n[[datasets]]\n"
               "[[datasets.subsets]]\nimage_dir = '%s'\nnum_repeats = 40\n%s\n",
               general, root, subset);
    put_text("d.toml", s.s);
    str_free(&s);
    DataOptions o = {
        .dataset_config = at_root("d.toml"), .allow_missing_captions = true, .seed = 7};
    Err e = {0};
    Dataset *d = dataset_open(&o, &e);
    CHECK(d, "%s", e.text);
    return d;
}

typedef struct Seen { /* of the views of some epochs */
    int n, mirrored, left_lo, left_hi, top_lo, top_hi, hue, gamma;
    int small_w, large_w;
    double hue_most, gamma_lo, gamma_hi;
} Seen;

static void see(Seen *s, const View *v) {
    s->n++;
    s->mirrored += v->mirrored;
    if (v->left < s->left_lo) s->left_lo = v->left;
    if (v->left > s->left_hi) s->left_hi = v->left;
    if (v->top < s->top_lo) s->top_lo = v->top;
    if (v->top > s->top_hi) s->top_hi = v->top;
    if (v->resized_w < s->small_w) s->small_w = v->resized_w;
    if (v->resized_w > s->large_w) s->large_w = v->resized_w;
    s->hue += v->hue != 0;
    s->gamma += v->gamma != 1;
    if (fabs(v->hue) > s->hue_most) s->hue_most = fabs(v->hue);
    if (v->gamma < s->gamma_lo) s->gamma_lo = v->gamma;
    if (v->gamma > s->gamma_hi) s->gamma_hi = v->gamma;
}

static Seen look(Dataset *d, int epochs) {
    Seen s = {.left_lo = 9999, .top_lo = 9999, .small_w = 9999, .gamma_lo = 9};
    Arena *a = arena_new();
    Err e = {0};
    float pixels[64 * 64 * 3];
    for (int k = 1; k <= epochs; k++)
        for (int i = 0; i < d->batches_per_epoch; i++) {
            Batch b;
            CHECK(dataset_batch(d, k, i, a, &b, &e), "%s", e.text);
            for (int n = 0; n < b.n; n++) see(&s, &b.view[n]);
            CHECK(dataset_pixels(d, &b.view[0], pixels, NULL, &e), "%s", e.text);
        }
    arena_free(a);
    return s;
}

static void test_random_crop(void) {
    put_picture("a.png", 96, 64);
    Dataset *d = open_toml("enable_bucket = true\nmin_bucket_reso = 64",
                           "random_crop = true\nflip_aug = true");
    if (!d) return;
    CHECK(d->varies && d->sample[0].varies, "it varies");
    Seen s = look(d, 10);
    CHECK(s.n == 400 && s.left_lo == 0 && s.left_hi == 32 && s.top_lo == 0 &&
              s.top_hi == 0,
          "%d draws, left %d … %d, top %d … %d", s.n, s.left_lo, s.left_hi, s.top_lo,
          s.top_hi);
    CHECK(s.mirrored > 150 && s.mirrored < 250, "%d of 400 mirrored", s.mirrored);
    dataset_close(d);
    /* without buckets nothing is resized: it is cut out of the picture as it is */
    d = open_toml("", "random_crop = true");
    if (!d) return;
    View v = dataset_view(d, 0);
    v.left = 20;
    float pixels[64 * 64 * 3];
    Err e = {0};
    CHECK(dataset_pixels(d, &v, pixels, NULL, &e) && byte_of(pixels[0]) == 20 &&
              byte_of(pixels[2]) == 77 && byte_of(pixels[63 * 3]) == 83,
          "red %d … %d %s", byte_of(pixels[0]), byte_of(pixels[63 * 3]), e.text);
    dataset_close(d);
}

static void test_colours(void) {
    put_picture("a.png", 64, 64);
    Dataset *d = open_toml("", "color_aug = true");
    if (!d) return;
    Seen s = look(d, 25); /* 1000 draws: a third changes, half of it in hue */
    CHECK(s.hue > 100 && s.hue < 230 && s.gamma > 100 && s.gamma < 230,
          "%d other hues and %d other gammas of 1000", s.hue, s.gamma);
    CHECK(s.hue_most <= 8 && s.hue_most > 7 && s.gamma_lo >= 0.95 && s.gamma_hi <= 1.05,
          "hue %g, gamma %g … %g", s.hue_most, s.gamma_lo, s.gamma_hi);
    float plain[64 * 64 * 3], other[64 * 64 * 3];
    View v = dataset_view(d, 0), w = v;
    Err e = {0};
    CHECK(dataset_pixels(d, &v, plain, NULL, &e), "%s", e.text);
    w.gamma = 1.05;
    dataset_pixels(d, &w, other, NULL, &e);
    for (int i = 0; i < 3 * 64 * 64; i++) {
        int want = (int)pow(byte_of(plain[i]), 1.05);
        CHECK(byte_of(other[i]) == (want > 255 ? 255 : want), "%d^1.05 is %d", i,
              byte_of(other[i]));
    }
    w.gamma = 1, w.hue = 60; /* by 120 degrees: red becomes green, green blue */
    dataset_pixels(d, &w, other, NULL, &e);
    int most = 0;
    for (int i = 0; i < 64 * 64; i++)
        for (int c = 0; c < 3; c++) {
            int k =
                abs(byte_of(other[3 * i + (c + 1) % 3]) - byte_of(plain[3 * i + c]));
            if (k > most) most = k;
        }
    CHECK(most <= 3, "a turn of the colours is off by %d", most);
    dataset_close(d);
}

/* A face of 20 × 22 pixels around (100, 60) in 160 × 120. */
static void test_face(void) {
    unlink(at_root("a.png"));
    put_picture("f_100_60_20_22.png", 160, 120);
    Dataset *d = open_toml("", "face_crop_aug_range = [2.0, 4.0]");
    if (!d) return;
    CHECK(d->sample[0].varies && d->sample[0].face[0] == 100, "a face");
    Seen s = look(d, 10);
    /* scale from max(64/120, 64/(22*4)) = 0.727 to min(1, 64/(22*2)) = 1 */
    CHECK(s.small_w >= 116 && s.small_w < 122 && s.large_w > 155 && s.large_w <= 160,
          "width %d … %d", s.small_w, s.large_w);
    CHECK(s.left_lo >= 40 && s.left_hi <= 69 && s.top_lo >= 11 && s.top_hi <= 28,
          "left %d … %d, top %d … %d", s.left_lo, s.left_hi, s.top_lo, s.top_hi);
    dataset_close(d);
    unlink(at_root("f_100_60_20_22.png"));
}

/* ---- masks ---- */
static void put_mask(const char *name, int side) { /* white left of the middle */
    Image im = {side, side, calloc((size_t)side * (size_t)side, 3)};
    for (int i = 0; i < side * side; i++)
        if (i % side < side / 2) memset(im.rgb + 3 * i, 255, 3);
    Err e = {0};
    CHECK(image_write_png(at_root(name), &im, &e), "%s", e.text);
    image_free(&im);
}

static void test_mask_folder(void) {
    put_picture("a.png", 64, 64);
    mkdir(at_root("masks"), 0777);
    put_mask("masks/a.png",
             128); /* of another size: it is stretched over the picture */
    Str s = {0};
    str_printf(&s, "flip_aug = true\nconditioning_data_dir = '%s/masks'", root);
    Dataset *d = open_toml("", s.s);
    str_free(&s);
    float pixels[64 * 64 * 3], mask[64];
    Err e = {0};
    for (int i = 0; d && i < d->n; i++) {
        View v = dataset_view(d, i);
        CHECK(d->masked && dataset_has_mask(d, i) &&
                  dataset_pixels(d, &v, pixels, mask, &e),
              "%s", e.text);
        for (int k = 0; k < 64; k++)
            CHECK(mask[k] == (float)((k % 8 < 4) ^ v.mirrored), "mask[%d] is %g", k,
                  mask[k]);
    }
    CHECK(d && d->n == 2, "the picture and its mirror image");
    dataset_close(d);
    unlink(at_root("masks/a.png"));
    d = NULL;
    DataOptions o = {.dataset_config = at_root("d.toml"),
                     .allow_missing_captions = true};
    CHECK(!dataset_open(&o, &e) && strstr(e.text, "a.png: no mask of this name in"),
          "%s", e.text);
    rmdir(at_root("masks"));
}

static void test_alpha(void) {
    const char *files[] = {"rgba.png", "la.png",     "alpha.webp",
                           "rgb.png",  "smooth.jpg", "rgb.bmp"};
    Err e = {0};
    for (size_t i = 0; i < COUNT(files); i++) {
        char path[128];
        snprintf(path, sizeof path, "tests/golden/pictures/%s", files[i]);
        Image alpha = {0}, rgb = {0};
        CHECK(image_read_alpha(path, &alpha, &e) && image_read(path, &rgb, &e) &&
                  alpha.w == rgb.w && alpha.h == rgb.h,
              "%s: %s", path, e.text);
        int clear = 0;
        for (int k = 0; k < alpha.w * alpha.h; k++) clear += alpha.rgb[3 * k] != 255;
        CHECK(i < 3 ? clear > alpha.w * alpha.h / 2 : !clear, "%s: %d clear pixels",
              path, clear);
        image_free(&alpha);
        image_free(&rgb);
    }
}

/* ---- .npz ---- */
static const char folder[] = "tests/golden/npz";

static bool latents(const char *stem, bool mirrored, float *out, const char **why,
                    Arena *a) {
    return npz_latents(a, arena_printf(a, "%s/%s.png", folder, stem), 64, 64, mirrored,
                       8, 8, out, why);
}

static void test_npz(void) {
    static const struct {
        const char *stem, *why;
        float add; /* to the numbers of the file */
    } cases[] = {{"a", NULL, 0},
                 {"old", NULL, 0},
                 {"packed", NULL, 0},
                 {"small", "for another size: got [4,4,4], want [4,8,8]", 0},
                 {"kind", "neither float32 nor float16", 0},
                 {"order", "no NumPy array", 0},
                 {"nan", "not finite", 0},
                 {"none", "no .npz", 0}};
    Arena *a = arena_new();
    float out[256], flip[256];
    const char *why;
    for (size_t i = 0; i < COUNT(cases); i++) {
        why = NULL;
        bool ok = latents(cases[i].stem, false, out, &why, a);
        CHECK(ok == !cases[i].why, "%s: %s", cases[i].stem, why ? why : "read");
        CHECK(ok || strstr(why, cases[i].why), "%s: %s", cases[i].stem, why);
        for (int k = 0; ok && k < 256; k++) /* [4,8,8] -> [8,8,4] */
            CHECK(out[k] == (float)(k % 4 * 64 + k / 4) / 16 - 8, "%s[%d] is %g",
                  cases[i].stem, k, out[k]);
    }
    CHECK(latents("a", false, out, &why, a) && latents("a", true, flip, &why, a), "%s",
          why);
    for (int k = 0; k < 256; k++)
        CHECK(flip[k] == out[(k / 32 * 8 + 7 - k / 4 % 8) * 4 + k % 4], "mirrored %d",
              k);
    CHECK(latents("old", true, flip, &why, a) && flip[0] == -7, "%g", flip[0]);
    CHECK(!latents("packed", true, flip, &why, a) && strstr(why, "latents_flipped"),
          "%s", why);
    arena_free(a);
}

/* Latents older than their picture are not its. */
static void test_npz_age(void) {
    put_picture("x.png", 64, 64);
    FILE *in = fopen("tests/golden/npz/a_0064x0064_sd.npz", "rb");
    FILE *to = fopen(at_root("x.npz"), "wb");
    for (int c; in && to && (c = fgetc(in)) != EOF;) fputc(c, to);
    if (!in || !to) exit(1);
    fclose(in), fclose(to);
    Arena *a = arena_new();
    float out[256];
    const char *why = "";
    for (int old = 0; old < 2; old++) {
        const struct timespec when[2] = {{1000000000 - old, 0}, {1000000000 - old, 0}};
        const struct timespec then[2] = {{1000000000, 0}, {1000000000, 0}};
        utimensat(AT_FDCWD, at_root("x.png"), then, 0);
        utimensat(AT_FDCWD, at_root("x.npz"), when, 0);
        bool ok = npz_latents(a, at_root("x.png"), 64, 64, false, 8, 8, out, &why);
        CHECK(ok == !old && (ok || strstr(why, "the picture is newer")), "%s", why);
    }
    arena_free(a);
    unlink(at_root("x.png"));
}

/* Cut off anywhere, and with any byte changed, nothing worse than a refusal happens. */
static void test_npz_hostile(void) {
    static const char *const stems[] = {"a_0064x0064_sd", "packed"};
    for (size_t f = 0; f < COUNT(stems); f++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s.npz", folder, stems[f]);
        FILE *in = fopen(path, "rb");
        static uint8_t bytes[8192];
        size_t n = in ? fread(bytes, 1, sizeof bytes, in) : 0;
        if (in) fclose(in);
        CHECK(n > 500, "%s", path);
        float out[256];
        const char *why;
        int refused = 0;
        for (size_t k = 0; k < 600; k++) {
            uint8_t was = bytes[k % n];
            bytes[k % n] ^= (uint8_t)(1 << k % 8);
            FILE *o = fopen(at_root("x.npz"), "wb");
            if (!o) exit(1);
            fwrite(bytes, 1, k % 3 ? n : k % n, o);
            fclose(o);
            bytes[k % n] = was;
            Arena *a = arena_new();
            refused +=
                !npz_latents(a, at_root("x.png"), 64, 64, false, 8, 8, out, &why);
            arena_free(a);
        }
        CHECK(refused > 200, "%d refused", refused);
    }
    unlink(at_root("x.npz"));
}

int main(void) {
    if (!mkdtemp(root)) return 1;
    test_golden();
    test_random_crop();
    test_colours();
    test_face();
    test_mask_folder();
    test_alpha();
    test_npz();
    test_npz_age();
    test_npz_hostile();
    unlink(at_root("a.png"));
    unlink(at_root("d.toml"));
    CHECK(rmdir(root) == 0, "%s is not empty", root);
    return check_done("dataset pixels");
}
