/* Files of adapters that have tensors of their own, as merge, info and diff take them. */
#ifndef GRAPHRUN_ADAPTER_FILE_H
#define GRAPHRUN_ADAPTER_FILE_H
#include "cli/opt.h"
#include "graph/lang/doc.h"
#include "runtime/model_adapter.h"

typedef struct AdapterFile AdapterFile;
/* Takes `file` over, also on failure. adapter: a name or path of its graph file, which is
 * believed; NULL: 'lora' for a plain LoRA, else the shipped one whose `save:` lines fit every
 * module (none, or several: an error that names them). args: of the adapter, where the file
 * does not tell them. */
AdapterFile *adapter_file_open(TensorFile *file, const char *adapter, const Args *args,
                               Err *e);
AdapterFile *adapter_file_at(const char *path, const char *adapter, const Args *args,
                             Err *e);
/* What --adapter says of file i: one word for all, or one each; NULL: nothing, or "auto". */
const char *adapter_word(const WordList *words, int i);
/* Only to be looked at: *fits names the shipped adapters that it may be of ("" if none). */
AdapterFile *adapter_file_show(TensorFile *file, const char **fits, Err *e);
void adapter_file_close(AdapterFile *f);
/* Are there modules by kohya's names with tensors that are no plain LoRA's? */
bool adapter_file_is(const TensorFile *f);
/* Bytes of the module's name that a key begins with; 0: it belongs to none or to all. */
size_t adapter_module_bytes(const char *key);
/* Entries of one module follow each other from `first` on, as long as they are `of` it. */
int adapter_file_first(const TensorFile *f, const char *module);
bool adapter_file_of(const TensorFile *f, int i, const char *module);
const ModelAdapter *adapter_file_layers(const AdapterFile *f);
const Doc *adapter_file_doc(const AdapterFile *f); /* NULL: only to be looked at */
/* Arguments of a module: those given, and what its tensors tell. */
bool adapter_file_args(const AdapterFile *f, Arena *a, const char *module, Args *out,
                       Err *e);
#endif
