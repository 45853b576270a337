/* Tables of names in pickles. A name in neither table is opaque (io/pickle.h). */
#include "io/pickle_globals.h"

#include <string.h>

typedef struct Element {
    const char *storage, *dtype; /* in module torch */
    DType type;
    int bytes;
} Element;

static const Element elements[] = {
    {"FloatStorage", "float32", F32, 4},
    {"HalfStorage", "float16", F16, 2},
    {"BFloat16Storage", "bfloat16", BF16, 2},
    {"DoubleStorage", "float64", F64, 8},
    {"LongStorage", "int64", I64, 8},
    {"IntStorage", "int32", I32, 4},
    {"ByteStorage", "uint8", U8, 1},
    {"BoolStorage", "bool", U8, 1},
    {"ShortStorage", "int16", DTYPES, 2},
    {"CharStorage", "int8", DTYPES, 1},
    {"ComplexFloatStorage", "complex64", DTYPES, 8},
    {"ComplexDoubleStorage", "complex128", DTYPES, 16},
    {"", "float8_e4m3fn", DTYPES, 1},
    {"", "float8_e5m2", DTYPES, 1},
    {"", "uint16", DTYPES, 2},
    {"", "uint32", DTYPES, 4},
    {"", "uint64", DTYPES, 8},
};

static const struct {
    const char *module, *name;
    int kind;
} known[] = {
    {"torch._utils", "_rebuild_tensor", GLOBAL_TENSOR},
    {"torch._utils", "_rebuild_tensor_v2", GLOBAL_TENSOR},
    {"torch._utils", "_rebuild_tensor_v3", GLOBAL_TENSOR_V3},
    {"torch._utils", "_rebuild_parameter", GLOBAL_PARAMETER},
    {"torch._utils", "_rebuild_parameter_with_state", GLOBAL_PARAMETER},
    {"torch._tensor", "_rebuild_from_type_v2", GLOBAL_FROM_TYPE},
    {"collections", "OrderedDict", GLOBAL_DICT},
    {"torch.storage", "UntypedStorage", GLOBAL_UNTYPED},
    {"torch", "UntypedStorage", GLOBAL_UNTYPED},
    {"collections", "Counter", GLOBAL_HARMLESS},
    {"torch", "Size", GLOBAL_HARMLESS},
    {"torch", "Tensor", GLOBAL_HARMLESS},
    {"torch", "device", GLOBAL_HARMLESS},
    {"torch.nn.parameter", "Parameter", GLOBAL_HARMLESS},
    {"torch.serialization", "_get_layout", GLOBAL_HARMLESS},
    {"_codecs", "encode", GLOBAL_HARMLESS},
};

/* Only these of Python's own; everything else of builtins is refused. */
static const char *const harmless_builtins[] = {
    "set",   "frozenset", "bytearray", "bytes",   "complex", "object",
    "int",   "long",      "bool",      "float",   "str",     "list",
    "tuple", "dict",      "slice",     "unicode", NULL};

/* Modules with everything below them. Sources: the rule of the format's reference (os,
 * posix, nt, sys, subprocess, shutil, socket, runpy, webbrowser, importlib) and the
 * standard modules whose functions take code, commands, files or addresses. */
static const char *const forbidden_modules[] = {
    "os",
    "posix",
    "posixpath",
    "nt",
    "ntpath",
    "sys",
    "subprocess",
    "_posixsubprocess",
    "shutil",
    "socket",
    "_socket",
    "socketserver",
    "ssl",
    "runpy",
    "webbrowser",
    "importlib",
    "_frozen_importlib",
    "imp",
    "pkgutil",
    "zipimport",
    "zipfile",
    "tarfile",
    "commands",
    "popen2",
    "pty",
    "platform",
    "ctypes",
    "_ctypes",
    "cffi",
    "pickle",
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "shelve",
    "marshal",
    "types.CodeType",
    "types.FunctionType",
    "types.MethodType",
    "_thread",
    "threading",
    "multiprocessing",
    "concurrent",
    "asyncio",
    "signal",
    "code",
    "codeop",
    "timeit",
    "bdb",
    "pdb",
    "trace",
    "profile",
    "cProfile",
    "doctest",
    "unittest",
    "pydoc",
    "operator",
    "_operator",
    "functools",
    "_functools",
    "inspect",
    "io",
    "_io",
    "tempfile",
    "glob",
    "fileinput",
    "linecache",
    "urllib",
    "urllib2",
    "http",
    "httplib",
    "ftplib",
    "smtplib",
    "telnetlib",
    "xmlrpc",
    "requests",
    "aiohttp",
    "pip",
    "setuptools",
    "distutils",
    "ensurepip",
    "venv",
    "idlelib",
    "lib2to3",
    "atexit",
    "gc",
    "site",
    "antigravity",
    "torch.hub",
    "torch.load",
    "torch.package",
    "torch.jit",
    "torch.ops",
    "torch.classes",
    "torch.distributed",
    "torch.multiprocessing",
    "torch.utils",
    "torch._dynamo",
    "torch._inductor",
    "torch.fx",
    "torch.serialization.load",
    "torch.storage._load_from_bytes",
    "numpy.load",
    "numpy.f2py",
    "numpy.testing",
    "numpy.distutils",
    "numpy.core.records.fromfile",
    NULL,
};

/* `name` is `under` or lies below it */
static bool below(const char *name, const char *under) {
    size_t n = strlen(under);
    return !strncmp(name, under, n) && (!name[n] || name[n] == '.');
}

static bool is_builtin_module(const char *module) {
    return !strcmp(module, "builtins") || !strcmp(module, "__builtin__") ||
           !strcmp(module, "__builtins__");
}

bool pickle_forbidden(const char *module, const char *name) {
    if (is_builtin_module(module)) {
        for (const char *const *p = harmless_builtins; *p; p++)
            if (!strcmp(*p, name)) return false;
        return true;
    }
    char both[1100];
    size_t n = strlen(module), k = strlen(name);
    if (n + k + 2 > sizeof both) return true;
    memcpy(both, module, n);
    both[n] = '.';
    memcpy(both + n + 1, name, k + 1);
    for (const char *const *p = forbidden_modules; *p; p++)
        if (below(both, *p)) return true;
    return false;
}

int pickle_global(const char *module, const char *name) {
    for (size_t i = 0; i < COUNT(known); i++)
        if (!strcmp(known[i].module, module) && !strcmp(known[i].name, name))
            return known[i].kind;
    if (is_builtin_module(module)) return GLOBAL_HARMLESS;
    for (size_t i = 0; !strcmp(module, "torch") && i < COUNT(elements); i++) {
        if (!strcmp(elements[i].storage, name)) return GLOBAL_STORAGE + (int)i;
        if (!strcmp(elements[i].dtype, name)) return GLOBAL_DTYPE + (int)i;
    }
    return 0;
}

static bool element(int i, DType *dtype, int *item_bytes) {
    if (i < 0 || i >= (int)COUNT(elements)) return false;
    *dtype = elements[i].type;
    *item_bytes = elements[i].bytes;
    return true;
}

bool pickle_storage_type(int global, DType *dtype, int *item_bytes) {
    *dtype = DTYPES;
    *item_bytes = 1;
    return global == GLOBAL_UNTYPED ||
           element(global - GLOBAL_STORAGE, dtype, item_bytes);
}

bool pickle_dtype(int global, DType *dtype, int *item_bytes) {
    return element(global - GLOBAL_DTYPE, dtype, item_bytes);
}
