#!/bin/sh
# tests/layering.sh must see what it forbids: small trees, each with one include too many.
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

# expect pass|fail FILE HEADER: a file that includes a header which exists
expect() {
    rm -rf "$dir/tree"
    mkdir -p "$dir/tree/$(dirname "$2")" "$dir/tree/$(dirname "$3")"
    printf '#include <stdio.h>\n  #  include "%s"\n' "$3" >"$dir/tree/$2"
    [ -e "$dir/tree/$3" ] || : >"$dir/tree/$3"
    if "$here/layering.sh" "$dir/tree" >/dev/null 2>&1; then got=pass; else got=fail; fi
    [ $got = "$1" ] || {
        echo "layering_test: $2 including $3: got $got, want $1" >&2
        failed=1
    }
}
expect pass graph/a.c graph/b.h
expect fail graph/a.c ops/b.h
expect pass ops/a.c graph/b.h
expect pass ops/a.c kernels/b.h
expect fail passes/a.c runtime/b.h
expect fail runtime/a.c passes/b.h
expect fail runtime/a.c kernels/b.h
expect pass runtime/a.c kernels/rng.h
expect fail io/a.c runtime/b.h
expect fail cli/a.c kernels/b.h
expect pass cli/a.c runtime/b.h
expect pass kernels/a.c graph/device.h
expect fail kernels/a.c graph/graph.h
expect fail kernels/a.c io/tensors.h
expect pass tests/a.c kernels/b.h
expect fail graph/a.cc runtime/b.h

mkdir -p "$dir/empty"
"$here/layering.sh" "$dir/empty" >/dev/null 2>&1 && {
    echo "layering_test: a tree without files passed" >&2
    failed=1
}
mkdir -p "$dir/gone/graph"
echo '#include "graph/nothing.h"' >"$dir/gone/graph/a.c"
"$here/layering.sh" "$dir/gone" >/dev/null 2>&1 && {
    echo "layering_test: a header that is not there passed" >&2
    failed=1
}
[ $failed = 0 ] && echo "layering_test: 18 cases"
exit $failed
