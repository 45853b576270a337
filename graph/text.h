/* What the printer and the reader of the text IR share. */
#ifndef GRAPHRUN_TEXT_H
#define GRAPHRUN_TEXT_H
#include "graph/base.h"

/* Length of the longest start of s that needs no quotes as a name: letters, digits and
 * _ . $ / - */
size_t text_word(const char *s);
#endif
