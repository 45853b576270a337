#!/bin/sh
# Who may include whom. The table below is the law; every #include "ROOM/…" of every C file
# is held against it, and includes that name no room are refused too.
# tests/layering.sh [ROOT]: another tree than this one, for the script's own test.
cd "${1:-$(dirname "$0")/..}" || exit 2

# file pattern: rooms (or parts of them, or single headers) it may include; "graph/." are
# the files of graph/ that are in no part of it
allowed() {
    case $1 in
    graph/base/*) echo "graph/base" ;;
    graph/plan/*) echo "graph/base graph/. graph/plan" ;;
    graph/lang/*) echo "graph/base graph/. graph/lang" ;;
    graph/*) echo "graph/base graph/." ;;
    ops/*) echo "graph ops kernels" ;;
    kernels/*) echo "graph kernels ops/ops.def" ;;
    passes/*) echo "graph ops passes kernels/rng.h" ;;
    io/*) echo "graph io kernels/rng.h" ;;
    runtime/cuda.c) echo "graph runtime kernels/gpu_host.h" ;; # launches by name
    runtime/*) echo "graph ops io runtime kernels/rng.h" ;;
    cli/version.c) echo "graph cli built.h kernels/isa.h" ;; # names the instruction set
    cli/*) echo "graph ops io passes runtime cli built.h kernels/rng.h" ;;
    tests/*) echo "graph ops kernels passes io runtime cli tests built.h" ;;
    esac
}

# kernels see a Call: types, tensors, random numbers, formulas; never a node or a file
kernel_headers="graph/base/base.h graph/type.h graph/device.h graph/op.h graph/lang/expr.h"

bad=0
complain() {
    echo "layering: $1 includes $2: $3" >&2
    bad=1
}

check_file() {
    room=${1%%/*}
    rooms=$(allowed "$1")
    for header in $(sed -n 's/^[ \t]*#[ \t]*include[ \t]*"\([^"]*\)".*/\1/p' "$1"); do
        case $header in
        */* | built.h) ;;
        *) header=${1%/*}/$header ;; # beside the file
        esac
        target=${header%%/*}
        part=${header%/*}
        [ "$part" != "$target" ] || part=$target/.
        case " $rooms " in
        *" $target "* | *" $part "* | *" $header "*) ;;
        *) complain "$1" "$header" "$room may include $rooms" ;;
        esac
        if [ "$room" = kernels ] && [ "$target" = graph ]; then
            case " $kernel_headers " in
            *" $header "*) ;;
            *) complain "$1" "$header" "a kernel sees a Call, never a node or a file" ;;
            esac
        fi
        # a header of the project is named from the root, and is there
        [ "$header" = built.h ] || [ -f "$header" ] ||
            complain "$1" "$header" "there is no such file"
    done
}

n=0
for f in $(find graph ops kernels passes io runtime cli tests -name '*.[ch]' -o -name '*.cc' \
    -o -name '*.cu' 2>/dev/null | sort); do
    check_file "$f"
    n=$((n + 1))
done
[ "$n" -gt 0 ] || { echo "layering: no source files found" >&2; exit 1; }
[ "$bad" = 0 ] && echo "layering: $n files keep to the table"
exit "$bad"
