/* Position p uses slot (p - from) % slots; a thread takes the next position once its slot
 * is free, the reader holds the slot of the last answer until the next call. */
#include "io/ahead.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS_MAX = 64 };

typedef struct Slot {
    bool ready, ok;
    Err err;
    void *data;
} Slot;

struct Ahead {
    AheadWork work;
    int64_t from, to;
    int slots, threads;
    pthread_t thread[THREADS_MAX];
    pthread_mutex_t lock;
    pthread_cond_t filled, freed;
    Slot *slot;
    int64_t next;     /* first position no thread has taken */
    int64_t given;    /* positions handed to the reader, from `from` */
    int64_t released; /* positions whose slots are free again */
    bool stop;
};

static Slot *slot_of(Ahead *q, int64_t position) {
    return &q->slot[(position - q->from) % q->slots];
}

static void *work(void *arg) {
    Ahead *q = arg;
    pthread_mutex_lock(&q->lock);
    while (!q->stop && q->next < q->to) {
        if (q->next - q->released >= q->slots) {
            pthread_cond_wait(&q->freed, &q->lock);
            continue;
        }
        Slot *s = slot_of(q, q->next);
        memset(&s->err, 0, sizeof s->err);
        s->ok = q->work.plan(q->work.ctx, q->next++, s->data, &s->err);
        pthread_mutex_unlock(&q->lock);
        if (s->ok) s->ok = q->work.fill(q->work.ctx, s->data, &s->err);
        pthread_mutex_lock(&q->lock);
        s->ready = true;
        pthread_cond_broadcast(&q->filled);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

static bool make_slots(Ahead *q, Err *e) {
    q->slot = calloc((size_t)q->slots, sizeof *q->slot);
    for (int i = 0; q->slot && i < q->slots; i++)
        if (!(q->slot[i].data = calloc(1, q->work.slot_bytes)))
            return err_fail(e, "out of memory for %d slots", q->slots);
    return q->slot || err_fail(e, "out of memory for %d slots", q->slots);
}

Ahead *ahead_open(const AheadWork *w, int64_t from, int64_t to, int threads, Err *e) {
    Ahead *q = calloc(1, sizeof *q);
    if (!q) {
        err_fail(e, "out of memory");
        return NULL;
    }
    threads = threads < 1 ? 1 : threads > THREADS_MAX ? THREADS_MAX : threads;
    q->work = *w;
    q->from = q->next = q->given = q->released = from;
    q->to = to, q->slots = 2 * threads + 1;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->filled, NULL);
    pthread_cond_init(&q->freed, NULL);
    if (!make_slots(q, e)) {
        ahead_close(q);
        return NULL;
    }
    while (q->threads < threads && q->threads < to - from &&
           !pthread_create(&q->thread[q->threads], NULL, work, q))
        q->threads++;
    if (q->threads || to <= from) return q;
    ahead_close(q);
    err_fail(e, "cannot start a thread that reads ahead");
    return NULL;
}

bool ahead_next(Ahead *q, void **slot, Err *e) {
    if (q->given >= q->to)
        return err_fail(e, "nothing is left: all %lld were taken",
                        (long long)(q->to - q->from));
    pthread_mutex_lock(&q->lock);
    if (q->released < q->given) {
        slot_of(q, q->released++)->ready = false;
        pthread_cond_broadcast(&q->freed);
    }
    Slot *s = slot_of(q, q->given);
    while (!s->ready) pthread_cond_wait(&q->filled, &q->lock);
    q->given++;
    pthread_mutex_unlock(&q->lock);
    *slot = s->data;
    if (s->ok) return true;
    if (!e->set) *e = s->err;
    return false;
}

void ahead_close(Ahead *q) {
    if (!q) return;
    pthread_mutex_lock(&q->lock);
    q->stop = true;
    pthread_cond_broadcast(&q->freed);
    pthread_mutex_unlock(&q->lock);
    for (int i = 0; i < q->threads; i++) pthread_join(q->thread[i], NULL);
    for (int i = 0; q->slot && i < q->slots; i++) {
        if (q->work.empty && q->slot[i].data)
            q->work.empty(q->work.ctx, q->slot[i].data);
        free(q->slot[i].data);
    }
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->filled);
    pthread_cond_destroy(&q->freed);
    free(q->slot);
    free(q);
}
