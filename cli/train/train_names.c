/* Names of saved files, and which old one goes when a new one is there (training.md 7.1;
 * held against the original's by tests/save_names_test.c). */
#include <inttypes.h>

#include "cli/train/train.h"

const char *train_stem(Arena *a, const TrainOptions *o, SaveKind kind, int64_t number) {
    static const char *const unnamed[] = {"epoch", "at", "last"};
    const char *name = o->output_name ? o->output_name : unnamed[kind];
    if (kind == SAVE_LAST) return name;
    return kind == SAVE_EPOCH ? arena_printf(a, "%s-%06" PRId64, name, number)
                              : arena_printf(a, "%s-step%08" PRId64, name, number);
}

int64_t train_epoch_to_remove(int64_t epoch, int64_t every, int64_t keep) {
    int64_t old = keep > epoch / every ? -1 : epoch - every * keep;
    return old >= 0 ? old : -1;
}

int64_t train_step_to_remove(int64_t step, int64_t every, int64_t keep) {
    int64_t old = keep >= step ? -1 : step - keep - 1;
    return old >= 0 ? old - old % every : -1;
}
