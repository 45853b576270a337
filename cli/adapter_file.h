/* Files of adapters that have tensors of their own, as merge takes them. */
#ifndef GRAPHRUN_ADAPTER_FILE_H
#define GRAPHRUN_ADAPTER_FILE_H
#include "graph/doc.h"
#include "runtime/model_adapter.h"

typedef struct AdapterFile AdapterFile;
/* Takes `file` over, also on failure. adapter: a name or path of its graph file; NULL: the
 * shipped one whose `save:` lines fit every module (none, or several: an error that names
 * them). args: of the adapter, where the file does not tell them. */
AdapterFile *adapter_file_open(TensorFile *file, const char *adapter, const Args *args,
                               Err *e);
void adapter_file_close(AdapterFile *f);
const ModelAdapter *adapter_file_layers(const AdapterFile *f);
const Doc *adapter_file_doc(const AdapterFile *f);
/* Arguments of a module: those given, and what its tensors tell. */
bool adapter_file_args(const AdapterFile *f, Arena *a, const char *module, Args *out,
                       Err *e);
#endif
