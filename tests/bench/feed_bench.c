/* Is the feed ever waited for? A reader takes micro-batches and sleeps between them as long
 * as a step would last.
 *
 *   feed_bench FOLDER STEP_MS MICRO_BATCHES THREADS [random]
 *
 * FOLDER: of N_name folders with pictures, trained at 512 x 512 in buckets, one at a time.
 * With "random" every draw decodes, resizes and cuts its picture (random_crop, color_aug);
 * without, latents lie in memory, as after encoding, and each draw makes its own. Prints one
 * JSON line; waiting for the first micro-batch is told apart. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/data_feed.h"

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void sleep_ms(double ms) {
    struct timespec t = {(time_t)(ms / 1e3),
                         (long)((ms - 1e3 * (int)(ms / 1e3)) * 1e6)};
    nanosleep(&t, NULL);
}

static int failed(const Err *e) {
    fprintf(stderr, "%s\n", e->text);
    return 1;
}

static void fill_latents(Arena *a, const Dataset *d, Latents *l) {
    l->of = NEW(a, Latent, d->n);
    for (int i = 0; i < d->n; i++) {
        const Sample *s = &d->sample[i];
        l->of[i].moments = NEW(
            a, float, s->bucket_w / LATENT_FACTOR * (s->bucket_h / LATENT_FACTOR) * 8);
    }
}

static int measure(DataFeed *f, double step_ms, int n, const char *what, Err *e) {
    Feed feed = data_feed(f);
    double first = 0, total = 0, most = 0;
    int waited = 0;
    for (int i = 0; i < n; i++) {
        MicroBatch b;
        double start = now_ms();
        if (!feed.next(feed.ctx, &b, e)) return failed(e);
        double ms = now_ms() - start;
        if (!i)
            first = ms;
        else
            total += ms, waited += ms > 1;
        if (i && ms > most) most = ms;
        sleep_ms(step_ms);
    }
    printf(
        "{\"bench\": \"feed\", \"what\": \"%s\", \"step_ms\": %g, \"micro_batches\": "
        "%d, \"first_ms\": %.1f, \"waited_over_1ms\": %d, \"mean_ms\": %.3f, "
        "\"most_ms\": %.2f}\n",
        what, step_ms, n, first, waited, total / (n - 1), most);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: feed_bench FOLDER STEP_MS MICRO_BATCHES THREADS "
                        "[random]\n");
        return 2;
    }
    bool vary = argc > 5;
    DataOptions o = {.train_data_dir = argv[1],
                     .width = 512,
                     .height = 512,
                     .enable_bucket = true,
                     .train_batch_size = 1,
                     .random_crop = vary,
                     .color_aug = vary,
                     .shuffle_caption = true,
                     .allow_missing_captions = true};
    Err e = {0};
    Dataset *d = dataset_open(&o, &e);
    Tokenizer *t = d ? tokenizer_open(NULL, &e) : NULL;
    if (!t) return failed(&e);
    Arena *a = arena_new();
    Latents latents = {0};
    if (!vary) fill_latents(a, d, &latents);
    DataFeedJob job = {.data = d,
                       .latents = &latents,
                       .tokenizer = t,
                       .chunks = 1,
                       .pad = PAD_END,
                       .vocabulary = 49408,
                       .threads = atoi(argv[4]),
                       .pixels = vary};
    DataFeed *f = data_feed_new(a, &job);
    int rc =
        measure(f, atof(argv[2]), atoi(argv[3]), vary ? "pictures" : "latents", &e);
    data_feed_close(f);
    tokenizer_close(t);
    dataset_close(d);
    arena_free(a);
    return rc;
}
