/* The feed: the same micro-batches for any number of threads and from any start; the reader
 * of JSON that dataset files go through. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "io/json_tree.h"
#include "runtime/data_feed.h"
#include "tests/check.h"

enum { MICROS = 60 };

/* ---- the feed ---- */
static Dataset *open_tree(void) {
    DataOptions o = {.train_data_dir = "tests/golden/images/train",
                     .reg_data_dir = "tests/golden/images/reg",
                     .width = 64,
                     .height = 64,
                     .enable_bucket = true,
                     .min_bucket_reso = 32,
                     .max_bucket_reso = 128,
                     .bucket_reso_steps = 32,
                     .train_batch_size = 3,
                     .shuffle_caption = true,
                     .flip_aug = true,
                     .random_crop = true,
                     .color_aug = true,
                     .seed = 11};
    Err e = {0};
    Dataset *d = dataset_open(&o, &e);
    CHECK(d, "%s", e.text);
    return d;
}

static uint64_t hash_of(const MicroBatch *b) {
    size_t n = (size_t)b->shape.batch;
    size_t pixels = n * (size_t)b->shape.h * (size_t)b->shape.w * 8 * 8 * 3;
    XXH64_hash_t h = XXH64(b->image, pixels * sizeof *b->image, (XXH64_hash_t)b->epoch);
    h = XXH64(b->ids, n * 77 * sizeof *b->ids, h);
    return XXH64(b->loss_weight, n * sizeof *b->loss_weight, h + b->last_of_epoch);
}

/* Hashes of micro-batches from … MICROS - 1; returns how many pictures were in them. */
static int run(int threads, int64_t from, uint64_t hash[MICROS]) {
    Dataset *d = open_tree();
    Err e = {0};
    Tokenizer *t = tokenizer_open(NULL, &e);
    CHECK(t, "%s", e.text);
    if (!d || !t) return 0;
    Arena *a = arena_new();
    DataFeedJob job = {.data = d,
                       .tokenizer = t,
                       .chunks = 1,
                       .pad = PAD_END,
                       .vocabulary = 49408,
                       .threads = threads,
                       .pixels = true};
    DataFeed *f = data_feed_new(a, &job);
    Feed feed = data_feed(f);
    if (from) data_feed_seek(f, from);
    int pictures = 0;
    for (int64_t i = from; i < MICROS; i++) {
        MicroBatch b = {0};
        CHECK(feed.next(feed.ctx, &b, &e), "%s", e.text);
        CHECK(b.epoch == i / d->batches_per_epoch + 1 &&
                  b.last_of_epoch == ((i + 1) % d->batches_per_epoch == 0),
              "micro-batch %d: epoch %d", (int)i, b.epoch);
        hash[i] = hash_of(&b);
        pictures += b.shape.batch;
    }
    data_feed_close(f);
    tokenizer_close(t);
    dataset_close(d);
    arena_free(a);
    return pictures;
}

static void test_threads(void) {
    static const int threads[] = {1, 2, 7};
    uint64_t want[MICROS] = {0}, got[MICROS] = {0};
    int pictures = run(1, 0, want);
    CHECK(pictures > 2 * MICROS && pictures < 3 * MICROS,
          "%d pictures: last batches of buckets are short", pictures);
    int alike = 0;
    for (int i = 1; i < MICROS; i++) alike += want[i] == want[i - 1];
    CHECK(!alike, "%d neighbours are alike", alike);
    for (size_t k = 0; k < COUNT(threads); k++) {
        int64_t from = k ? 23 : 0; /* in the middle of an epoch */
        run(threads[k], from, got);
        CHECK(!memcmp(got + from, want + from, (MICROS - (size_t)from) * sizeof *got),
              "%d threads from %d give other micro-batches", threads[k], (int)from);
    }
}

/* ---- JSON ---- */
static void fails(const char *text, const char *part) {
    Arena *a = arena_new();
    Source src = {"x.json", text, strlen(text)};
    Err e = {0};
    CHECK(!json_tree(a, &src, &e) && e.code == EXIT_MISUSE && strstr(e.text, part),
          "'%s': '%s', want '%s'", text, e.text, part);
    arena_free(a);
}

static void test_json(void) {
    Arena *a = arena_new();
    static const char text[] =
        "\xEF\xBB\xBF{\"a\": [1, -2.5e1, true],\r\n \"\\u00e9\": "
        "\"\\ud83d\\ude00\\n\", \"n\": null}";
    Source src = {"x.json", text, sizeof text - 1};
    Err e = {0};
    const Toml *t = json_tree(a, &src, &e), *list = t ? toml_get(t, "a") : NULL;
    CHECK(t && t->n == 2 && list && list->n == 3, "%s", e.text);
    if (list) {
        CHECK(list->item[0].kind == TOML_INT && list->item[0].i == 1 &&
                  list->item[1].kind == TOML_FLOAT && list->item[1].x == -25 &&
                  list->item[2].b,
              "numbers");
        CHECK(list->item[1].loc.line == 1 && list->item[1].loc.col == 11, "%u:%u",
              list->item[1].loc.line, list->item[1].loc.col);
        const Toml *face = toml_get(t, "\u00e9");
        CHECK(face && !strcmp(face->text, "\U0001F600\n") && face->key_loc.line == 2 &&
                  face->key_loc.col == 2,
              "escapes and places");
    }
    static const char lines[] =
        "{\"image_path\": \"a\"}\n\n{\"image_path\": \"b\"}\r\n";
    Source two = {"x.jsonl", lines, sizeof lines - 1};
    const Toml *l = json_lines(a, &two, &e);
    CHECK(l && l->n == 2 && l->item[1].loc.line == 3, "%s", e.text);
    arena_free(a);
    fails("",
          "x.json:1:1: error: not valid JSON: the text ends where a value should be");
    fails("{\"a\": 1, \"b\": 2, \"a\": 3}", ":1:18: error: 'a' is there twice");
    fails("[1, null]", ":1:5: error: a list must not hold null");
    fails("{\"a\" 1}", ":1:6: error: not valid JSON: want ':'");
    fails("[01]", ":1:2: error: not valid JSON: want a number");
    fails("\"\\ud800x\"", "second half of a surrogate pair");
    fails("\"\\u0000\"", "a text without \\u0000");
    fails("\"a\nb\"", "the quote that ends a text");
    fails("{} x", ":1:4: error: not valid JSON: there is more behind the value");
    fails("[\"\xff\"]", ":1:3: error: not UTF-8");
    char deep[101];
    memset(deep, '[', 100);
    deep[100] = 0;
    fails(deep, "nested deeper than 64");
}

int main(void) {
    test_threads();
    test_json();
    return check_done("data feed");
}
