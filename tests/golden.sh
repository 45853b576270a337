#!/bin/sh
# Golden files of the passes: tests/golden_ir/*.gr hold "# RUN: ARGUMENTS", an input graph,
# "# OUT" and what `graphrun ARGUMENTS FILE` must print for the input, byte for byte; a
# failing command's message counts as its output.
# tests/golden.sh [--update] [FILE...]   $GRAPHRUN is the program
cd "$(dirname "$0")/.." || exit 2
program=${GRAPHRUN:-build/graphrun}
update=
[ "$1" = --update ] && { update=1; shift; }
[ $# -gt 0 ] || set -- tests/golden_ir/*.gr
[ -x "$program" ] || { echo "golden: no program '$program'" >&2; exit 2; }
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

for file in "$@"; do
    name=$(basename "$file" .gr)
    run=$(sed -n 's/^# RUN: //p' "$file" | head -n 1)
    [ -n "$run" ] || { echo "$file: no '# RUN:' line" >&2; failed=$((failed + 1)); continue; }
    sed '/^# OUT$/,$d' "$file" >"$work/$name.gr"
    sed '1,/^# OUT$/d' "$file" >"$work/want"
    # shellcheck disable=SC2086  # the arguments are words
    (cd "$work" && "$program" $run "$name.gr" >got 2>&1)
    if [ "$update" ]; then
        { cat "$work/$name.gr"; echo "# OUT"; cat "$work/got"; } >"$work/new"
        cmp -s "$work/new" "$file" || { cp "$work/new" "$file"; echo "$file: rewritten"; }
        passed=$((passed + 1))
    elif diff -u "$work/want" "$work/got" >"$work/diff"; then
        passed=$((passed + 1))
    else
        echo "$file: the output differs (- expected, + got)" >&2
        sed 1,2d "$work/diff" >&2
        failed=$((failed + 1))
    fi
done
echo "golden: $passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
