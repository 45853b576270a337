/* `graphrun --version`: what this program is made of. */
#ifndef GRAPHRUN_CLI_VERSION_H
#define GRAPHRUN_CLI_VERSION_H
#include "graph/base/base.h"

/* Version, commit, backends, instruction set in use, libraries, schema and plan versions;
 * one per line. */
void version_print(Str *s);
/* The instruction set in use. */
const char *version_isa(void);
/* "0.1.0 COMMIT" */
const char *version_text(void);
#endif
