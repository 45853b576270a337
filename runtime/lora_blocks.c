/* Slots of block weight lists (see lora_blocks.h). A module's place is counted as in a list
 * of 26, whichever way its name counts blocks (Diffusers' or the original's). */
#include "runtime/lora_blocks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
static const char *const base = "BASE", *const mid = "MID";
static const char *const in[] = {"IN00", "IN01", "IN02", "IN03", "IN04", "IN05", "IN06",
                                 "IN07", "IN08", "IN09", "IN10", "IN11"};
static const char *const out[] = {"OUT00", "OUT01", "OUT02", "OUT03", "OUT04", "OUT05",
                                  "OUT06", "OUT07", "OUT08", "OUT09", "OUT10", "OUT11"};
enum { IN_0 = 1, MID_AT = 13, OUT_0 = 14, PLACES = 26 };
static const struct List { int n, place[PLACES]; } lists[] = {
    {26, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25}},
    {25, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25}},
    {17, {0, 2, 3, 5, 6, 8, 9, 13, 17, 18, 19, 20, 21, 22, 23, 24, 25}},
    {20, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22}},
    {12, {0, 5, 6, 8, 9, 13, 14, 15, 16, 17, 18, 19}},
};
/* clang-format on */

static const struct List *list_of(int n) {
    for (size_t i = 0; i < COUNT(lists); i++)
        if (lists[i].n == n) return &lists[i];
    return NULL;
}

bool lora_blocks_known(int n) {
    return list_of(n) != NULL;
}

/* Diffusers' names: three places a level, the sampler third. */
static int level_place(const char *rest, int first) {
    int level, i;
    char kind[16];
    if (sscanf(rest, "%d_%15[a-z]_%d", &level, kind, &i) != 3) return -1;
    if (level < 0 || level > 3 || i < 0 || i > 2) return -1;
    if (!strcmp(kind, "upsamplers") || !strcmp(kind, "downsamplers")) i = 2;
    return first + 3 * level + i;
}

static int place_of(const char *name) {
    static const char unet[] = "lora_unet_";
    if (!strncmp(name, "lora_te", 7)) return 0;
    if (strncmp(name, unet, sizeof unet - 1)) return -1;
    const char *rest = name + sizeof unet - 1;
    int k;
    if (sscanf(rest, "input_blocks_%d_", &k) == 1)
        return k >= 0 && k < 12 ? IN_0 + k : -1;
    if (sscanf(rest, "output_blocks_%d_", &k) == 1)
        return k >= 0 && k < 12 ? OUT_0 + k : -1;
    if (!strncmp(rest, "mid", 3)) return MID_AT; /* mid_block_ or middle_block_ */
    if (!strncmp(rest, "down_blocks_", 12)) return level_place(rest + 12, IN_0 + 1);
    if (!strncmp(rest, "up_blocks_", 10)) return level_place(rest + 10, OUT_0);
    return -1;
}

int lora_block_slot(const char *module, int n) {
    const struct List *l = list_of(n);
    int place = l ? place_of(module) : -1;
    for (int i = 0; place >= 0 && i < n; i++)
        if (l->place[i] == place) return i;
    return -1;
}

const char *lora_slot_name(int n, int slot) {
    const struct List *l = list_of(n);
    int place = l && slot >= 0 && slot < n ? l->place[slot] : -1;
    if (place < 0) return "";
    if (place == 0) return base;
    if (place == MID_AT) return mid;
    return place < MID_AT ? in[place - IN_0] : out[place - OUT_0];
}
