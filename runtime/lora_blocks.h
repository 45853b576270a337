/* Lists of block weights: 12, 17, 20, 25 or 26 numbers, one per slot.
 *
 *   26  BASE IN00 … IN11 MID OUT00 … OUT11      (BASE: the text encoder)
 *   25  the same without BASE: the text encoder keeps its whole weight
 *   17  BASE IN01 IN02 IN04 IN05 IN07 IN08 MID OUT03 … OUT11  (SD's blocks with attention)
 *   20  BASE IN00 … IN08 MID OUT00 … OUT08      (SDXL)
 *   12  BASE IN04 IN05 IN07 IN08 MID OUT00 … OUT05   (SDXL's blocks with attention)
 * Modules in blocks without a slot keep their whole weight. */
#ifndef GRAPHRUN_LORA_BLOCKS_H
#define GRAPHRUN_LORA_BLOCKS_H
#include "graph/base/base.h"

bool lora_blocks_known(int n);
/* Which of n weights belongs to a module; -1: none. */
int lora_block_slot(const char *module, int n);
const char *lora_slot_name(int n, int slot); /* "IN04" */
#endif
