# Sourced by the scripts of this folder. $GRAPHRUN: the program; $tmp: a folder that goes
# away at the end. Each script ends with `finish`.
set -u
: "${GRAPHRUN:?set GRAPHRUN to the program}"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0
failed=0

# runs COMMAND…: keeps stdout in $tmp/out, stderr in $tmp/err, the exit status in $code
runs() {
    "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    code=$?
    ran=$*
}

check() { # check WHAT STATUS: status 0 is a pass
    if [ "$2" = 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf '%s: %s\n' "$ran" "$1"
        sed 's/^/    out: /' "$tmp/out" | head -20
        sed 's/^/    err: /' "$tmp/err" | head -20
    fi
}

exits() { # exits CODE
    [ "$code" = "$1" ]
    check "exit status $code, want $1" $?
}
says() { # says out|err TEXT: somewhere in it
    grep -qF -- "$2" "$tmp/$1"
    check "std$1 does not say '$2'" $?
}
silent() { # silent out|err
    [ ! -s "$tmp/$1" ]
    check "std$1 is not empty" $?
}
is() { # is out|err FILE: the same bytes
    diff -u "$2" "$tmp/$1"
    check "std$1 is not $2" $?
}

finish() {
    echo "$(basename "$0"): $passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
    exit $?
}
