/* `key=value` words of the command line as arguments. */
#ifndef GRAPHRUN_SETTING_H
#define GRAPHRUN_SETTING_H
#include "cli/opt.h"

/* Splits each word at its first '='; the value is read as in a graph file: a number, a
 * word, an expression, or a list in brackets. `option`: for messages ("--set"). A key that
 * comes twice takes the later value. */
bool settings(Arena *a, const WordList *words, const char *option, Args *out, Err *e);
#endif
