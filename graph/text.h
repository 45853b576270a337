/* What the printer and the reader of the text IR share. */
#ifndef GRAPHRUN_TEXT_H
#define GRAPHRUN_TEXT_H
#include "graph/graph.h"

/* Length of the longest start of s that needs no quotes as a name: letters, digits and
 * _ . $ / - */
size_t text_word(const char *s);
/* "  # PHASE BLOCK PATH FILE:LINE:COL+LEN" without the unknown parts at its end; nothing for
 * a place of which nothing is known. */
void place_print(Str *s, const Place *at, const char *const *blocks);
#endif
