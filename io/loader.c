/* Reading ahead: threads decode and resize the samples of a list into a ring of slots,
 * the caller takes them in the order of the list.
 *
 * Position p of the list uses slot p % slots. A thread takes the next position once its
 * slot is free; the caller holds the slot of the last answer until the next call. What
 * is computed does not depend on the number of threads. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "io/data.h"

enum { THREADS_MAX = 64 };

typedef struct Slot {
    float *pixels;
    bool ready, ok;
    Err err;
} Slot;

struct Loader {
    const Dataset *d;
    int *order;
    int n, slots, threads;
    pthread_t thread[THREADS_MAX];
    pthread_mutex_t lock;
    pthread_cond_t filled, freed;
    Slot *slot;
    int next;     /* first position no thread has taken */
    int given;    /* positions handed to the caller */
    int released; /* positions whose slots are free again */
    bool stop;
};

static void fill_slot(Loader *l, int position) {
    Slot *s = &l->slot[position % l->slots];
    memset(&s->err, 0, sizeof s->err);
    s->ok = dataset_pixels(l->d, l->order[position], s->pixels, &s->err);
}

static void *work(void *arg) {
    Loader *l = arg;
    pthread_mutex_lock(&l->lock);
    while (!l->stop && l->next < l->n) {
        if (l->next - l->released >= l->slots) {
            pthread_cond_wait(&l->freed, &l->lock);
            continue;
        }
        int position = l->next++;
        pthread_mutex_unlock(&l->lock);
        fill_slot(l, position);
        pthread_mutex_lock(&l->lock);
        l->slot[position % l->slots].ready = true;
        pthread_cond_broadcast(&l->filled);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static size_t most_floats(const Dataset *d, const int *order, int n) {
    size_t most = 1;
    for (int i = 0; i < n; i++) {
        const Sample *s = &d->sample[order[i]];
        size_t floats = (size_t)s->bucket_w * (size_t)s->bucket_h * 3;
        if (floats > most) most = floats;
    }
    return most;
}

static bool make_slots(Loader *l, Err *e) {
    size_t floats = most_floats(l->d, l->order, l->n);
    l->slot = calloc((size_t)l->slots, sizeof *l->slot);
    for (int i = 0; l->slot && i < l->slots; i++)
        if (!(l->slot[i].pixels = malloc(floats * sizeof(float))))
            return err_fail(e, "out of memory for %d images of %zu numbers", l->slots,
                            floats);
    return l->slot || err_fail(e, "out of memory for %d slots", l->slots);
}

Loader *loader_open(const Dataset *d, const int *order, int n, int threads, Err *e) {
    Loader *l = calloc(1, sizeof *l);
    int *copy = malloc(((size_t)n + 1) * sizeof *copy);
    if (!l || !copy) {
        free(l), free(copy);
        err_fail(e, "out of memory for a list of %d images", n);
        return NULL;
    }
    memcpy(copy, order, (size_t)n * sizeof *copy);
    threads = threads < 1 ? 1 : threads > THREADS_MAX ? THREADS_MAX : threads;
    l->d = d, l->order = copy, l->n = n, l->slots = 2 * threads + 1;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->filled, NULL);
    pthread_cond_init(&l->freed, NULL);
    if (!make_slots(l, e)) {
        loader_close(l);
        return NULL;
    }
    while (l->threads < threads && l->threads < n &&
           !pthread_create(&l->thread[l->threads], NULL, work, l))
        l->threads++;
    if (l->threads || !n) return l;
    loader_close(l);
    err_fail(e, "cannot start a thread that reads images");
    return NULL;
}

bool loader_next(Loader *l, int *sample, const float **pixels, Err *e) {
    if (l->given >= l->n)
        return err_fail(e, "all %d images of the list were read", l->n);
    pthread_mutex_lock(&l->lock);
    if (l->released < l->given) {
        l->slot[l->released++ % l->slots].ready = false;
        pthread_cond_broadcast(&l->freed);
    }
    Slot *s = &l->slot[l->given % l->slots];
    while (!s->ready) pthread_cond_wait(&l->filled, &l->lock);
    *sample = l->order[l->given++];
    pthread_mutex_unlock(&l->lock);
    *pixels = s->pixels;
    if (s->ok) return true;
    if (!e->set) *e = s->err;
    return false;
}

void loader_close(Loader *l) {
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->freed);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->threads; i++) pthread_join(l->thread[i], NULL);
    for (int i = 0; l->slot && i < l->slots; i++) free(l->slot[i].pixels);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->filled);
    pthread_cond_destroy(&l->freed);
    free(l->slot);
    free(l->order);
    free(l);
}
