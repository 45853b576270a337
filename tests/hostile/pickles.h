/* Hostile pickles, each put into an otherwise sound zip of torch.save with one storage "0"
 * of 16 bytes. Octal escapes: a hexadecimal one would swallow the letters behind it. */
#ifndef GRAPHRUN_HOSTILE_PICKLES_H
#define GRAPHRUN_HOSTILE_PICKLES_H
#include <stddef.h>

typedef struct BadPickle {
    const char *name, *bytes;
    size_t n;
    const char *want; /* in the message */
} BadPickle;
#define BYTES(s) s, sizeof(s) - 1

#define TEXT1(c) "X\1\0\0\0" c
#define STORAGE(t, numel)                                                              \
    "(X\7\0\0\0storagectorch\n" t "\nX\1\0\0\0000X\3\0\0\0cpu" numel "tQ"
#define F4   STORAGE("FloatStorage", "K\4")
#define REST "\211ccollections\nOrderedDict\n)RtR"
#define TENSOR(storage, offset, size, stride)                                          \
    "ctorch._utils\n_rebuild_tensor_v2\n(" storage offset size stride REST
#define DICT(item) "\200\2}(" TEXT1("w") item "u."
/* the sound one, which every other differs from in one place */
#define SOUND                TENSOR(F4, "K\0", "K\4\205", "K\1\205")
#define CALLED(module, name) "c" module "\n" name "\n(" TEXT1("x") "tR"

/* Callables that would run code, reach files or the network; REDUCE, and now and then
 * another way to call. */
static const char *const bad_calls[][2] = {
    {"os", "system"},
    {"posix", "system"},
    {"nt", "system"},
    {"os", "execv"},
    {"os.path", "join"},
    {"subprocess", "Popen"},
    {"subprocess", "check_output"},
    {"builtins", "eval"},
    {"builtins", "exec"},
    {"builtins", "getattr"},
    {"builtins", "open"},
    {"builtins", "compile"},
    {"builtins", "__import__"},
    {"builtins", "breakpoint"},
    {"__builtin__", "eval"},
    {"__builtin__", "execfile"},
    {"__builtin__", "apply"},
    {"sys", "exit"},
    {"importlib", "import_module"},
    {"runpy", "_run_code"},
    {"runpy", "run_path"},
    {"webbrowser", "open"},
    {"shutil", "rmtree"},
    {"socket", "create_connection"},
    {"ctypes", "CDLL"},
    {"pty", "spawn"},
    {"pickle", "loads"},
    {"_pickle", "loads"},
    {"marshal", "loads"},
    {"types", "FunctionType"},
    {"types", "CodeType"},
    {"code", "interact"},
    {"timeit", "timeit"},
    {"pdb", "run"},
    {"bdb", "Bdb"},
    {"operator", "attrgetter"},
    {"functools", "partial"},
    {"multiprocessing.util", "spawnv_passfds"},
    {"asyncio.unix_events", "_UnixSubprocessTransport._start"},
    {"io", "open"},
    {"urllib.request", "urlopen"},
    {"pip", "main"},
    {"torch", "load"},
    {"torch.hub", "load"},
    {"torch.utils.cpp_extension", "load"},
    {"torch.storage", "_load_from_bytes"},
    {"numpy.f2py.crackfortran", "getlincoef"},
    {"joblib", "load"},
};

static const BadPickle bad_pickles[] = {
    /* other ways to a call */
    {"newobj", BYTES("\200\2}(" TEXT1("w") "cos\nsystem\n)\201u."), "call 'os.system'"},
    {"build", BYTES("\200\2cos\nsystem\n}b."), "call 'os.system'"},
    {"stack-global", BYTES("\200\4\214\2os\214\6system\223\214\4true\205R."),
     "call 'os.system'"},
    {"memoized-name", BYTES("\200\2X\2\0\0\0osq\0X\6\0\0\0systemq\1h\0h\1\223."),
     "call 'os.system'"},
    {"inst", BYTES("(S'true'\nios\nsystem\n."), "opcode STRING"},
    {"obj", BYTES("\200\2(K\1o."), "opcode OBJ"},
    {"ext1", BYTES("\200\2\202\1."), "opcode EXT1"},
    {"newobj-ex", BYTES("\200\4}}}\222."), "opcode NEWOBJ_EX"},
    {"protocol-0", BYTES("I1\n."), "opcode INT"},
    {"persid-text", BYTES("P0\n."), "opcode PERSID"},
    {"pop",
     BYTES("\200\2K\1"
           "0."),
     "opcode POP"},
    {"dup",
     BYTES("\200\2K\1"
           "2."),
     "opcode DUP"},
    {"no-opcode", BYTES("\200\2\377."), "no opcode 0xff"},
    {"call-of-a-number", BYTES("\200\2K\1)R."), "an integer is called"},
    {"call-of-a-tensor", BYTES("\200\2" SOUND ")R."), "a tensor is called"},
    {"call-without-tuple", BYTES("\200\2cnumpy\ndtype\nK\1R."), "want a tuple"},
    {"opaque-top", BYTES("\200\2cnumpy\ndtype\n)R."), "an object of 'numpy.dtype'"},
    {"nested-call", BYTES(DICT("cnumpy\ndtype\n(" CALLED("os", "system") "tR")),
     "call 'os.system'"},
    {"from-type-of-itself",
     BYTES(DICT("ctorch._tensor\n_rebuild_from_type_v2\n"
                "(ctorch._tensor\n_rebuild_from_type_v2\nN)NtR")),
     "_rebuild_from_type_v2 without"},
    {"name-with-zero", BYTES("\200\2co\0s\nsystem\n."), "holds a zero byte"},
    {"name-empty", BYTES("\200\2c\nsystem\n."), "is empty"},
    /* the machine */
    {"empty", BYTES(""), "is cut off"},
    {"no-stop", BYTES("\200\2}"), "is cut off"},
    {"protocol-9", BYTES("\200\11N."), "protocol 9"},
    {"stack-empty", BYTES("\200\2\205."), "the stack is empty"},
    {"stop-on-nothing", BYTES("\200\2."), "ends with 0 values"},
    {"stop-on-two", BYTES("\200\2NN."), "ends with 2 values"},
    {"no-mark", BYTES("\200\2t."), "no mark"},
    {"mark-guards", BYTES("\200\2K\1(\205."), "the stack is empty"},
    {"memo-unset", BYTES("\200\2h\7."), "memo entry 7 was never set"},
    {"memo-huge", BYTES("\200\2Nr\377\377\377\177."), "memo index 2147483647"},
    {"text-beyond-end", BYTES("\200\2X\377\377\377\177abc."),
     "a text of 2147483647 bytes"},
    {"frame-beyond-end", BYTES("\200\4\225\377\377\377\377\377\377\377\377."),
     "a frame"},
    {"key-without-value", BYTES("\200\2}(K\1u."), "has no value"},
    {"items-into-number", BYTES("\200\2K\1(K\1K\2u."), "items are added to an integer"},
    {"state-into-number", BYTES("\200\2K\1}b."), "state is given to an integer"},
    {"dict-of-number", BYTES("\200\2ccollections\nOrderedDict\nK\1\205R."),
     "OrderedDict of an integer"},
    /* storages and tensors */
    {"persid-number", BYTES("\200\2K\1Q."), "a persistent id is not"},
    {"persid-module", BYTES("\200\2(X\6\0\0\0modulectorch\nFloatStorage\nNNNtQ."),
     "a persistent id is not"},
    {"storage-of-text", BYTES("\200\2(X\7\0\0\0storageX\1\0\0\0xNNNtQ."),
     "a storage of type text"},
    {"numel-negative",
     BYTES(DICT(TENSOR(STORAGE("FloatStorage", "J\377\377\377\377"), "K\0", "K\1\205",
                       "K\1\205"))),
     "no sensible number"},
    {"numel-giant",
     BYTES(
         DICT(TENSOR(STORAGE("FloatStorage", "\212\10\377\377\377\377\377\377\377\177"),
                     "K\0", "K\1\205", "K\1\205"))),
     "no sensible number"},
    {"numel-beyond-entry",
     BYTES(DICT(TENSOR(STORAGE("FloatStorage", "K\5"), "K\0", "K\5\205", "K\1\205"))),
     "the file 16"},
    {"type-beyond-entry",
     BYTES(DICT(TENSOR(STORAGE("DoubleStorage", "K\4"), "K\0", "K\4\205", "K\1\205"))),
     "the file 16"},
    {"storage-missing",
     BYTES(DICT(TENSOR("(X\7\0\0\0storagectorch\nFloatStorage\nX\6\0\0\0../../"
                       "X\3\0\0\0cpuK\4tQ",
                       "K\0", "K\4\205", "K\1\205"))),
     "'../../' has no entry"},
    {"offset-beyond", BYTES(DICT(TENSOR(F4, "K\1", "K\4\205", "K\1\205"))),
     "reaches beyond"},
    {"last-beyond-by-one", BYTES(DICT(TENSOR(F4, "K\1", "K\2\205", "K\3\205"))),
     "reaches beyond"},
    {"offset-negative",
     BYTES(DICT(TENSOR(F4, "J\377\377\377\377", "K\4\205", "K\1\205"))), "not made of"},
    {"stride-beyond", BYTES(DICT(TENSOR(F4, "K\0", "K\2K\2\206", "K\3K\1\206"))),
     "reaches beyond"},
    {"stride-negative",
     BYTES(DICT(TENSOR(F4, "K\0", "K\4\205", "J\377\377\377\377\205"))),
     "whole number from 0 up"},
    {"stride-giant",
     BYTES(DICT(
         TENSOR(F4, "K\0", "K\4\205", "\212\10\377\377\377\377\377\377\377\177\205"))),
     "too large"},
    {"size-giant",
     BYTES(DICT(TENSOR(F4, "K\0", "\212\10\0\0\0\0\0\0\0\100\205", "K\0\205"))),
     "too large"},
    {"size-product-giant",
     BYTES(DICT(
         TENSOR(F4, "K\0", "J\377\377\377\177J\377\377\377\177\206", "K\0K\0\206"))),
     "too large"},
    {"size-expanded",
     BYTES(DICT(TENSOR(F4, "K\0", "J\377\377\377\177\205", "K\0\205"))),
     "reaches beyond"},
    {"sizes-without-strides", BYTES(DICT(TENSOR(F4, "K\0", "K\2K\2\206", "K\1\205"))),
     "2 sizes and 1 strides"},
    {"dimensions-8",
     BYTES(DICT(TENSOR(F4, "K\0", "(K\1K\1K\1K\1K\1K\1K\1K\1t",
                       "(K\1K\1K\1K\1K\1K\1K\1K\1t"))),
     "8 sizes"},
    {"name-twice", BYTES("\200\2}(" TEXT1("w") SOUND TEXT1("w") SOUND "u."),
     "two tensors are called 'w'"},
    {"name-with-zero-byte", BYTES("\200\2}(X\2\0\0\0w\0" SOUND "u."), "zero byte"},
    /* what is in it */
    {"no-tensors", BYTES("\200\2}(" TEXT1("w") "K\1u."), "it holds no tensors"},
    {"top-is-a-number", BYTES("\200\2K\1."), "want a dict of tensors"},
    {"state-dict-is-a-number", BYTES("\200\2}(X\12\0\0\0state_dictK\1u."),
     "'state_dict' is not a dict"},
};
#endif
