/* Data sets: folders and TOML, captions, counts against sd-scripts, batches, loader,
 * and every message a user may meet. */
#include <sys/stat.h>
#include <unistd.h>

#include "io/captions.h"
#include "io/data.h"
#include "tests/check.h"
#include "tests/tsv.h"

static char root[] = "/tmp/graphrun-dataset-XXXXXX";

/* ---- making files ---- */
static const char *at_root(const char *path) {
    static char full[4][512];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(full[turn], sizeof full[turn], "%s/%s", root, path);
    return full[turn];
}

static void put(const char *path, const void *bytes, size_t n) {
    char full[512];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *s = full + strlen(root) + 1; (s = strchr(s, '/')); *s++ = '/') {
        *s = 0;
        mkdir(full, 0777);
    }
    FILE *f = fopen(full, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n) exit(1);
    fclose(f);
}

static void put_text(const char *path, const char *text) {
    put(path, text, strlen(text));
}

/* A BMP whatever the name says; pixel (x, y) from the top is (x, y, shade). */
static void put_image(const char *path, int w, int h, int shade) {
    size_t row = ((size_t)w * 3 + 3) / 4 * 4, n = 54 + row * (size_t)h;
    uint8_t *b = calloc(n, 1);
    memcpy(b, "BM", 2);
    b[10] = 54, b[14] = 40, b[26] = 1, b[28] = 24;
    memcpy(b + 18, &(int32_t){w}, 4);
    memcpy(b + 22, &(int32_t){h}, 4);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            uint8_t *p = b + 54 + row * (size_t)(h - 1 - y) + 3 * (size_t)x;
            p[0] = (uint8_t)shade, p[1] = (uint8_t)y, p[2] = (uint8_t)x;
        }
    put(path, b, n);
    free(b);
}

static void wipe(void) {
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s/*", root);
    CHECK(system(command) == 0, "%s", command);
}

static DataOptions options(void) {
    return (DataOptions){.train_data_dir = at_root("train"),
                         .width = 64,
                         .height = 64,
                         .prior_loss_weight = 0.5,
                         .seed = 42};
}

/* ---- the golden tree: counts, captions, repeats, buckets, tags ---- */
static const Sample *find(const Dataset *d, const char *path) {
    for (int i = 0; i < d->n; i++)
        if (!strcmp(d->sample[i].path, at_root(path))) return &d->sample[i];
    return NULL;
}

static void check_sample(const Dataset *d, const Tsv *t) {
    const Sample *s = d ? find(d, t->field[1]) : NULL;
    CHECK(s, "%s is not in the data", t->field[1]);
    if (!s) return;
    tsv_bytes(t, 9);
    CHECK(s->repeats == tsv_int(t, 4) && s->bucket_w == tsv_int(t, 5) &&
              s->bucket_h == tsv_int(t, 6) && s->resized_w == tsv_int(t, 7) &&
              s->resized_h == tsv_int(t, 8) && !strcmp(s->caption, t->field[9]),
          "%s: %d x, bucket %dx%d, resized %dx%d, '%s'", t->field[1], s->repeats,
          s->bucket_w, s->bucket_h, s->resized_w, s->resized_h, s->caption);
}

static Dataset *open_case(const Tsv *t) {
    DataOptions o = options();
    Err e = {0};
    o.reg_data_dir = at_root("reg");
    o.enable_bucket = true;
    o.min_bucket_reso = 32, o.max_bucket_reso = 128, o.bucket_reso_steps = 32;
    o.bucket_no_upscale = tsv_int(t, 5);
    o.train_batch_size = tsv_int(t, 6);
    Dataset *d = dataset_open(&o, &e);
    CHECK(d && d->n_train == tsv_int(t, 2) && d->n_reg == tsv_int(t, 3) &&
              d->batches_per_epoch == tsv_int(t, 4),
          "case %s: %d + %d images, %d batches %s", t->field[1], d ? d->n_train : 0,
          d ? d->n_reg : 0, d ? d->batches_per_epoch : 0, e.text);
    return d;
}

static void test_golden(void) {
    Tsv t = tsv_open("tests/golden/images.tsv");
    while (tsv_next(&t)) {
        if (!strcmp(t.field[0], "image"))
            put_image(t.field[1], tsv_int(&t, 2), tsv_int(&t, 3), 9);
        if (!strcmp(t.field[0], "caption")) {
            size_t n = tsv_bytes(&t, 2);
            put(t.field[1], t.field[2], n);
        }
    }
    put_image("train/0_zero/k.png", 64, 64, 1);
    put_image("train/no number/k.png", 64, 64, 1);
    put_image("train/stray.png", 64, 64, 1);
    put_text("train/3_sls frog/._i0.png", "macOS");
    put_text("train/3_sls frog/notes.Png", "mixed case is no image");
    t = tsv_open("tests/golden/images.tsv");
    Dataset *d = NULL;
    while (tsv_next(&t)) {
        if (!strcmp(t.field[0], "case")) {
            dataset_close(d);
            d = open_case(&t);
        } else if (d && !strcmp(t.field[0], "tags")) {
            CHECK(!strcmp(d->tag_frequency_json, t.field[1]), "%s",
                  d->tag_frequency_json);
        } else if (!strcmp(t.field[0], "image")) {
            check_sample(d, &t);
        }
    }
    CHECK(d && !strcmp(d->metadata_reg_dirs_json,
                       "{\"1_frog\": {\"n_repeats\": 1, \"img_count\": 4}}"),
          "%s", d ? d->metadata_reg_dirs_json : "");
    CHECK(d && d->captions_found == 4 && d->captions_missing == 10, "captions");
    dataset_close(d);
    wipe();
}

/* ---- epoch arithmetic and balancing ---- */
static void test_epoch(const Tsv *t) {
    char path[64];
    Str toml = {0};
    str_printf(&toml,
               "[general]\nenable_bucket = true\nresolution = 512\nbatch_size = "
               "%s\n[[datasets]]\n",
               t->field[1]);
    int k = 0, w, h, repeats, used;
    for (const char *s = t->field[3];
         sscanf(s, " %dx%d*%d%n", &w, &h, &repeats, &used) == 3; s += used, k++) {
        snprintf(path, sizeof path, "s%d/a.bmp", k);
        put_image(path, w, h, 0);
        str_printf(&toml,
                   "[[datasets.subsets]]\nimage_dir = '%s/s%d'\nnum_repeats = %d\n",
                   root, k, repeats);
    }
    put_text("d.toml", toml.s);
    str_free(&toml);
    DataOptions o = {.dataset_config = at_root("d.toml"),
                     .allow_missing_captions = true,
                     .min_bucket_reso = 320,
                     .max_bucket_reso = 768};
    Err e = {0};
    Dataset *d = dataset_open(&o, &e);
    CHECK(d && d->n == k && d->batches_per_epoch == tsv_int(t, 2),
          "%d images: %d batches, want %s %s", k, d ? d->batches_per_epoch : 0,
          t->field[2], e.text);
    dataset_close(d);
    wipe();
}

static void test_balance(const Tsv *t) {
    char path[64];
    int repeats, used, k = 0, at = 0;
    Str toml = {0};
    str_printf(&toml,
               "[general]\nresolution = 64\n[[datasets]]\n[[datasets.subsets]]\n"
               "image_dir = '%s/train'\nnum_repeats = %s\n",
               root, t->field[1]);
    put_image("train/a.bmp", 64, 64, 0);
    for (const char *s = t->field[2]; sscanf(s, " %d%n", &repeats, &used) == 1;
         s += used, k++) {
        snprintf(path, sizeof path, "reg%d/a.bmp", k);
        put_image(path, 64, 64, 0);
        str_printf(&toml,
                   "[[datasets.subsets]]\nis_reg = true\nimage_dir = '%s/reg%d'\n"
                   "num_repeats = %d\n",
                   root, k, repeats);
    }
    put_text("d.toml", toml.s);
    str_free(&toml);
    DataOptions o = {.dataset_config = at_root("d.toml"),
                     .allow_missing_captions = true};
    Err e = {0};
    Dataset *d = dataset_open(&o, &e);
    for (const char *s = t->field[3]; sscanf(s, " %d%n", &repeats, &used) == 1;
         s += used) {
        if (!repeats) continue; /* left out */
        at++;
        CHECK(d && at < d->n && d->sample[at].reg && d->sample[at].repeats == repeats,
              "reg %s: image %d is drawn %d times, want %d %s", t->field[2], at,
              d && at < d->n ? d->sample[at].repeats : 0, repeats, e.text);
    }
    CHECK(d && d->n == at + 1, "reg %s: %d images, want %d", t->field[2], d ? d->n : 0,
          at + 1);
    dataset_close(d);
    wipe();
}

static void test_counts(void) {
    Tsv t = tsv_open("tests/golden/batches.tsv");
    while (tsv_next(&t)) {
        if (!strcmp(t.field[0], "epoch")) test_epoch(&t);
        if (!strcmp(t.field[0], "reg")) test_balance(&t);
    }
}

/* ---- captions ---- */
typedef struct Fake {             /* the golden file's numbers */
    const char *uniform, *choice; /* "0.1 0.9" */
    bool reverse;
    uint32_t n; /* of the list that is shuffled: the first number asked for */
} Fake;

static double fake_uniform(void *ctx) {
    Fake *f = ctx;
    char *end;
    double x = strtod(f->uniform, &end);
    CHECK(end != f->uniform, "more uniform numbers are drawn than the original draws");
    f->uniform = end;
    return x;
}

static uint32_t fake_choice(void *ctx, uint32_t below) {
    Fake *f = ctx;
    char *end;
    unsigned long x = strtoul(f->choice, &end, 10);
    CHECK(end != f->choice, "more choices are made than the original makes");
    f->choice = end;
    return (uint32_t)x % below;
}

/* Numbers with which Fisher and Yates' method reverses a list, or turns it by one. */
static uint32_t fake_place(void *ctx, uint32_t below) {
    Fake *f = ctx;
    if (!f->n) f->n = below;
    if (!f->reverse) return 0;
    uint32_t i = below - 1;
    return i >= f->n / 2 ? f->n - 1 - i : i;
}

static int numbers_in(const char *s) {
    int n = 0;
    for (; *s; s++) n += *s != ' ' && (!s[1] || s[1] == ' ');
    return n;
}

/* 193 cases of sd-scripts with its draws put in: which are used, and what comes out. */
static void test_captions(void) {
    Arena *a = arena_new();
    Tsv t = tsv_open("tests/golden/captions.tsv");
    int n = 0;
    for (; tsv_next(&t); n++) {
        static const int texts[] = {0, 4, 5, 6, 7, 8, 22};
        for (size_t i = 0; i < COUNT(texts); i++) tsv_bytes(&t, texts[i]);
        CaptionRule r = {.shuffle = tsv_int(&t, 1),
                         .wildcard = tsv_int(&t, 2),
                         .keep_tokens = tsv_int(&t, 3),
                         .separator = t.field[4],
                         .keep_separator = t.field[5],
                         .secondary = t.field[6],
                         .prefix = t.field[7],
                         .suffix = t.field[8],
                         .dropout_rate = atof(t.field[9]),
                         .dropout_every = tsv_int(&t, 10),
                         .tag_dropout_rate = atof(t.field[11]),
                         .warmup_min = tsv_int(&t, 12),
                         .warmup_step = atof(t.field[13])};
        CaptionTime when = {tsv_int(&t, 14), tsv_int(&t, 15), tsv_int(&t, 16)};
        Fake f = {strcmp(t.field[17], "-") ? t.field[17] : "",
                  strcmp(t.field[18], "-") ? t.field[18] : "",
                  !strcmp(t.field[19], "reverse"), 0};
        CaptionDraws draw = {&f, fake_uniform, fake_choice, fake_place};
        const char *got = caption_process(a, t.field[0], &r, &when, &draw);
        CHECK(!strcmp(got, t.field[22]), "case %d, '%s': '%s', want '%s'", n,
              t.field[0], got, t.field[22]);
        CHECK(numbers_in(f.uniform) == tsv_int(&t, 20) &&
                  numbers_in(f.choice) == tsv_int(&t, 21),
              "case %d, '%s': '%s' and '%s' are left over, want %s and %s", n,
              t.field[0], f.uniform, f.choice, t.field[20], t.field[21]);
        bool fixed = !r.dropout_rate && !r.dropout_every && !r.shuffle &&
                     !r.warmup_step && !r.tag_dropout_rate && !r.wildcard;
        CHECK(!fixed || caption_is_fixed(&r, t.field[0]), "case %d is fixed", n);
    }
    CHECK(n == 193, "%d cases", n);
    arena_free(a);
}

/* Files: ends of lines, byte order marks, blank lines, what is empty. */
static void test_caption_files(void) {
    static const struct {
        const char *text;
        bool wildcard;
        const char *want;
    } cases[] = {{"a, b\n", false, "a, b"},
                 {"\xEF\xBB\xBF  a, b \r\nc\r\n", false, "a, b"},
                 {"a\rb", false, "a"},
                 {"\nb", false, ""},
                 {"\r\n \r\n b \r\n\r\nc", true, "b\nc"},
                 {" a\n\n", true, "a"},
                 {"\n\n", true, ""}};
    Arena *a = arena_new();
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *got = caption_from_text(a, cases[i].text, strlen(cases[i].text),
                                            cases[i].wildcard);
        CHECK(!strcmp(got, cases[i].want), "file %zu: '%s', want '%s'", i, got,
              cases[i].want);
    }
    arena_free(a);
}

/* ---- batches ---- */
static void make_small(void) {
    char path[64];
    for (int i = 0; i < 7; i++) {
        snprintf(path, sizeof path, "train/3_frog/i%d.png", i);
        put_image(path, i % 2 ? 64 : 96, 64, i);
        snprintf(path, sizeof path, "train/3_frog/i%d.txt", i);
        put_text(path, "\xEF\xBB\xBF a, b, c, d \r\nmore\n");
    }
    put_image("reg/1_any/r.png", 64, 64, 200);
}

static DataOptions small_options(void) {
    DataOptions o = options();
    o.reg_data_dir = at_root("reg");
    o.caption_extension = "txt";
    o.enable_bucket = true;
    o.min_bucket_reso = 32, o.max_bucket_reso = 128, o.bucket_reso_steps = 32;
    o.train_batch_size = 4;
    o.shuffle_caption = true;
    o.keep_tokens = 1;
    o.flip_aug = true;
    return o;
}

static void describe(Dataset *d, int epoch, int index, Str *out) {
    Arena *a = arena_new();
    Batch b = {0};
    Err e = {0};
    CHECK(dataset_batch(d, epoch, index, a, &b, &e), "%s", e.text);
    for (int i = 0; i < b.n; i++) {
        const Sample *s = &d->sample[b.view[i].sample];
        CHECK(s->bucket_w == b.w && s->bucket_h == b.h, "one bucket per batch");
        CHECK(b.loss_weight[i] == (s->reg ? 0.5f : 1.0f), "weight %g",
              b.loss_weight[i]);
        CHECK(s->reg ? !strcmp(b.caption[i], "any") : !strncmp(b.caption[i], "a, ", 3),
              "'%s'", b.caption[i]);
        str_printf(out, "%d %s;", b.view[i].sample, b.caption[i]);
    }
    arena_free(a);
}

static int count_draws(Dataset *d, int epoch, int *draws, int *mirrored, Str *text) {
    Arena *a = arena_new();
    Err e = {0};
    int n = 0;
    *mirrored = 0;
    for (int i = 0; i < d->batches_per_epoch; i++) {
        Batch b = {0};
        CHECK(dataset_batch(d, epoch, i, a, &b, &e), "%s", e.text);
        for (int k = 0; k < b.n; k++, n++) {
            const Sample *s = &d->sample[b.view[k].sample];
            *mirrored += s->mirrored;
            for (int j = 0; j < d->n; j++)
                if (!d->sample[j].mirrored && !strcmp(d->sample[j].path, s->path))
                    draws[j]++;
        }
        describe(d, epoch, i, text);
    }
    arena_free(a);
    return n;
}

static void test_batches(void) {
    make_small();
    DataOptions o = small_options();
    Err e = {0};
    Dataset *d = dataset_open(&o, &e), *again = dataset_open(&o, &e);
    CHECK(d && again && d->n == 16 && d->n_train == 21 && d->n_reg == 1, "%s", e.text);
    if (!d || !again) return;
    int mirrored, draws[2][16] = {{0}};
    Str first = {0}, second = {0};
    CHECK(count_draws(d, 1, draws[0], &mirrored, &first) == 42,
          "21 and as many reg images");
    CHECK(mirrored > 10 && mirrored < 32, "half of 42 are mirrored: %d", mirrored);
    count_draws(d, 2, draws[1], &mirrored, &second);
    for (int i = 0; i < d->n; i++)
        CHECK(draws[0][i] == d->sample[i].repeats && draws[1][i] == draws[0][i],
              "sample %d: drawn %d times", i, draws[0][i]);
    CHECK(strcmp(first.s, second.s), "two epochs are alike");
    Str alone = {0}, there = {0};
    describe(again, 2, 3, &alone); /* asked for first, in another order: the same */
    describe(d, 2, 3, &there);
    CHECK(!strcmp(alone.s, there.s), "%s and %s", alone.s, there.s);
    o.seed++;
    Dataset *other = dataset_open(&o, &e);
    Str third = {0};
    count_draws(other, 1, draws[0], &mirrored, &third);
    CHECK(strcmp(first.s, third.s), "two seeds are alike");
    Batch b;
    CHECK(!dataset_batch(d, 0, 0, d->arena, &b, &e) &&
              strstr(e.text, "epochs count from 1"),
          "%s", e.text);
    str_free(&first), str_free(&second), str_free(&third), str_free(&alone),
        str_free(&there);
    dataset_close(d), dataset_close(again), dataset_close(other);
}

/* ---- pixels ---- */
static bool pixels(const Dataset *d, int sample, float *out, Err *e) {
    View v = dataset_view(d, sample);
    return dataset_pixels(d, &v, out, NULL, e);
}

static void test_pixels(void) {
    DataOptions o = small_options();
    Err e = {0};
    Dataset *d = dataset_open(&o, &e);
    float *want = malloc(128 * 128 * 3 * sizeof *want);
    int red = -1, m = 0; /* a 64 x 64 picture and its mirror: red is x */
    for (int i = 0; i < d->n; i++) {
        const Sample *s = &d->sample[i];
        if (s->reg || s->w != 64) continue;
        pixels(d, i, want, &e);
        red = (int)((want[0] * 0.5f + 0.5f) * 255 + 0.5f);
        CHECK(red == (s->mirrored ? 63 : 0), "first pixel %d, mirrored %d", red,
              s->mirrored);
        m += s->mirrored;
    }
    CHECK(m == 3, "%d mirrored", m);
    put_image("train/3_frog/i1.png", 32, 32, 0); /* changed behind our back */
    CHECK(!pixels(d, 1, want, &e) &&
              strstr(e.text, "i1.png' has changed: 32 x 32 pixels, there were 64 x 64"),
          "%s", e.text);
    free(want);
    dataset_close(d);
    wipe();
}

/* ---- messages ---- */
static void toml_fails(const char *text, const char *part, int code) {
    Str full = {0};
    for (const char *s = text; *s; s++) {
        if (*s == '@')
            str_add(&full, root);
        else
            str_addn(&full, s, 1);
    }
    put_text("d.toml", full.s);
    DataOptions o = {.dataset_config = at_root("d.toml")};
    Err e = {0};
    Dataset *d = dataset_open(&o, &e);
    CHECK(!d && e.code == code && strstr(e.text, part), "exit %d '%s', want %d '%s'",
          e.code, e.text, code, part);
    dataset_close(d);
    str_free(&full);
}

#define OK_TOML                                                                        \
    "[general]\nresolution = 64\n[[datasets]]\n[[datasets.subsets]]\nimage_dir = "     \
    "'@/img'\n"
static void test_toml(void) {
    put_image("img/a.png", 64, 64, 0);
    toml_fails("[general]\nresolutoin = 512\n",
               "d.toml:2:1: error: unknown key 'resolutoin' in [general]; did you mean "
               "'resolution'?",
               2);
    toml_fails("[general]\nimage_dir = 'x'\n",
               ":2:1: error: 'image_dir' is not allowed in [general], only in "
               "[[datasets.subsets]]",
               2);
    toml_fails("[general]\n  batch_size = 'two'\n",
               ":2:16: error: 'batch_size' must be an integer: got a text", 2);
    toml_fails("[general]\nbatch_size = 0\n",
               ":2:14: error: 'batch_size' must be 1 … 4096: got 0", 2);
    toml_fails("[general]\nresolution = [512, 5.5]\n",
               "'resolution' must be an integer or a list [width, height]: got a list",
               2);
    toml_fails("[general]\nbucket_reso_steps = 20\n",
               "'bucket_reso_steps' must be a multiple of 8: got 20", 2);
    toml_fails("[general]\nshuffle_caption = 1\n",
               "'shuffle_caption' must be true or false: got an integer", 2);
    toml_fails(
        "generl = 1\n",
        ":1:1: error: unknown key 'generl' in a dataset file; did you mean 'general'?",
        2);
    toml_fails("[general]\nnetwork_multiplier = 0.5\n",
               ":2:22: error: 'network_multiplier' must be 1: other values", 2);
    toml_fails("[general]\ncaption_dropout_rate = 1.5\n",
               ":2:24: error: 'caption_dropout_rate' must be 0 … 1: got 1.5", 2);
    toml_fails("[general]\ncaption_dropout_rate = nan\n", "must be 0 … 1: got nan", 2);
    toml_fails(
        "[general]\nresize_interpolation = 'lancsoz'\n",
        ":2:24: error: 'resize_interpolation' is none of area, lanczos, lanczos4, "
        "box, bilinear, linear, bicubic, cubic, nearest: got 'lancsoz'; did you "
        "mean 'lanczos'?",
        2);
    toml_fails("[general]\nface_crop_aug_range = [3.0, 1.0]\n",
               "'face_crop_aug_range': 3 is above 1", 2);
    toml_fails("[general]\nface_crop_aug_range = [1.0]\n",
               "'face_crop_aug_range' must be a list of two numbers: got a list", 2);
    toml_fails(
        "[general]\nresolution = 64\nenable_bucket = true\nmin_bucket_reso = "
        "64\nface_crop_aug_range = [1.0, 3.0]\n[[datasets]]\n"
        "[[datasets.subsets]]\nimage_dir = 'x'\n",
        ":5:23: error: face_crop_aug_range is for data sets without enable_bucket", 2);
    toml_fails("[general]\ncustom_attributes = 1\n",
               "'custom_attributes' must be a table: got an integer", 2);
    toml_fails("[general]\nmetadata_file = 'x'\n",
               "'metadata_file' is not allowed in [general], only in "
               "[[datasets.subsets]]",
               2);
    toml_fails("[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nmetadata_file = "
               "'x'\nis_reg = true\n",
               ":5:1: error: 'is_reg' is not allowed in [[datasets.subsets]] with a "
               "metadata_file, only in subsets that are folders of pictures",
               2);
    toml_fails(
        "[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nmetadata_file = "
        "'x'\n[[datasets.subsets]]\nimage_dir = 'x'\n",
        ":3:1: error: a dataset has subsets with a metadata_file and one without "
        "(line 5): split it into two [[datasets]]",
        2);
    toml_fails("[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nnum_repeats = 2\n",
               ":3:1: error: 'image_dir' is missing in [[datasets.subsets]]", 2);
    toml_fails("[[datasets]]\nbatch_size = 1\n[[datasets.subsets]]\nimage_dir = 'x'\n",
               ":1:1: error: 'resolution' is missing, here or in [general]", 2);
    toml_fails("[general]\nresolution = 64\n", "[[datasets]] is missing", 2);
    toml_fails("[[datasets]]\nresolution = 64\n", "[[datasets.subsets]] is missing", 2);
    toml_fails("[general]\nbatch_size = 1\n[!datasets]\n[a]\n",
               ":3:1: error: not valid TOML: a name must start with a letter", 2);
    toml_fails("[general]\nbatch_size\u00e9 = 1\n", ":2:11: error: not valid TOML", 2);
}

/* What only shows when tables are put together, or on the disk. */
static void test_toml_whole(void) {
    toml_fails("[general]\nresolution = "
               "60\n[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'x'\n",
               ":2:14: error: without enable_bucket the resolution must be a multiple "
               "of 8: got 60 x 60",
               2);
    toml_fails("[general]\nresolution = 64\nenable_bucket = "
               "true\n[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'x'\n",
               "min_bucket_reso 256 is above the resolution's shorter side 64", 2);
    toml_fails("[general]\nresolution = 64\nresolution = 65\n",
               ":3:14: error: not valid TOML", 2);
    toml_fails(
        "[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '@/none'\n",
        ":4:13: error: cannot open the folder", 1);
    toml_fails(OK_TOML, "none of the training images has a '.caption' beside it", 1);
    put_text("img/a.txt", "a frog");
    toml_fails(OK_TOML, "; 1 have a '.txt' file: set caption_extension", 1);
    toml_fails(OK_TOML "caption_extension = 'txt'\nnum_repeats = 0\n",
               "no training image in the folders of", 1);
    put_text("img/a.txt", "caf\xe9");
    toml_fails(OK_TOML "caption_extension = '.txt'\n", "a.txt' is not UTF-8 at byte 4",
               1);
    put_text("img/a.txt", "");
    toml_fails(OK_TOML "caption_extension = '.txt'\n", "a.txt' is empty", 1);
}

/* Levels: subset before dataset before general before the command line; idle keys pass.
 * */
static void test_levels(void) {
    put_image("img/a.png", 64, 64, 0);
    put_image("img2/a.png", 64, 64, 0);
    put_text("img/a.txt", "x; y");
    Str s = {0};
    str_printf(
        &s,
        "[general]\nresolution = [64, 64]\nnum_repeats = 3\ncolor_aug = false\n"
        "caption_dropout_rate = 0\ncaption_prefix = ''\n[[datasets]]\nnum_repeats = "
        "5\nbatch_size = 2\n"
        "[[datasets.subsets]]\nimage_dir = '%s/img'\nnum_repeats = "
        "7\ncaption_extension = 'txt'\n"
        "[[datasets.subsets]]\nimage_dir = '%s/img2'\nclass_tokens = 'cat'\n"
        "[[datasets.subsets]]\nimage_dir = '%s/img'\n"
        "[[datasets]]\n[[datasets.subsets]]\nimage_dir = '%s/img'\nis_reg = false\n",
        root, root, root, root);
    put_text("d.toml", s.s);
    DataOptions o = {.dataset_config = at_root("d.toml"),
                     .width = 512,
                     .height = 512,
                     .dataset_repeats = 9,
                     .train_batch_size = 6};
    Err e = {0};
    Dataset *d = dataset_open(&o, &e);
    CHECK(d && d->n == 3 && d->sample[0].repeats == 7 && d->sample[1].repeats == 5 &&
              d->sample[2].repeats == 3 && d->batch_size == 6 &&
              d->sample[0].bucket_w == 64,
          "%s", e.text);
    CHECK(d && !strcmp(d->sample[1].caption, "cat") &&
              !strcmp(d->sample[2].caption, ""),
          "captions");
    CHECK(d && d->n_note == 3 && strstr(d->note[0], "is there twice in one dataset"),
          "notes");
    CHECK(d && !strcmp(d->metadata_dirs_json,
                       "{\"img\": {\"n_repeats\": 7, \"img_count\": 1}, \"img2\": "
                       "{\"n_repeats\": 5, "
                       "\"img_count\": 1}, \"img (2)\": {\"n_repeats\": 3, "
                       "\"img_count\": 1}}"),
          "%s", d ? d->metadata_dirs_json : "");
    CHECK(d && !strcmp(d->tag_frequency_json,
                       "{\"img\": {\"x; y\": 1}, \"img2\": {\"cat\": 1}}"),
          "%s", d ? d->tag_frequency_json : "");
    dataset_close(d);
    str_free(&s);
    wipe();
}

static void test_bad_images(void) {
    put_image("train/1_x/a.png", 64, 64, 0);
    put_text("train/1_x/a.caption", "x");
    put_text("train/1_x/b.png", "no picture");
    put_image("train/1_x/c.png", 1, 64, 0);
    DataOptions o = options();
    o.enable_bucket = o.bucket_no_upscale = true;
    Err e = {0};
    CHECK(!dataset_open(&o, &e) && e.code == EXIT_FAILED &&
              strstr(e.text, "2 of 3 images cannot be used (--skip_bad_images goes on "
                             "without them)") &&
              strstr(e.text, "1_x/b.png: neither PNG nor JPEG nor WebP nor BMP") &&
              strstr(e.text, "1_x/c.png: 1 x 64 pixels fit no bucket of steps of 64"),
          "%s", e.text);
    o.skip_bad_images = true;
    e = (Err){0};
    Dataset *d = dataset_open(&o, &e);
    CHECK(d && d->n == 1 && d->n_bad == 2 && strstr(d->bad_path[0], "b.png"), "%s",
          e.text);
    dataset_close(d);
    o.train_data_dir = NULL;
    CHECK(!dataset_open(&o, &e) && e.code == EXIT_MISUSE &&
              strstr(e.text, "give --dataset_config or --train_data_dir"),
          "%s", e.text);
    wipe();
}

int main(void) {
    if (!mkdtemp(root)) return 1;
    test_golden();
    test_counts();
    test_captions();
    test_caption_files();
    test_batches();
    test_pixels();
    test_toml();
    test_toml_whole();
    test_levels();
    test_bad_images();
    rmdir(root);
    return check_done("dataset");
}
