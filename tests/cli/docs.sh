#!/bin/sh
# The man page and completions that are made from the tables are accepted by their readers.
. "$(dirname "$0")/lib.sh"

runs "$GRAPHRUN" docs bash
exits 0
cp "$tmp/out" "$tmp/graphrun.bash"
runs bash -n "$tmp/graphrun.bash"
exits 0
complete_line() { # words…: what bash would offer for the last one
    runs bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _graphrun
        printf "%s\n" "${COMPREPLY[@]}"' bash "$tmp/graphrun.bash" "$@"
}
complete_line graphrun tr
says out train
complete_line graphrun train --network_d
says out "--network_dim"
! grep -q learning_rate "$tmp/out"
check "offers what does not fit" $?

runs "$GRAPHRUN" docs man
exits 0; says out ".TH GRAPHRUN 1"; says out "network_dim"
! grep -n '^\.[^A-Z]' "$tmp/out"
check "a line that roff would take for a request" $?
if command -v man >/dev/null; then
    cp "$tmp/out" "$tmp/graphrun.1"
    runs man --warnings -l "$tmp/graphrun.1"
    exits 0; silent err
fi

runs "$GRAPHRUN" docs zsh
exits 0; says out "#compdef graphrun"
if command -v zsh >/dev/null; then
    cp "$tmp/out" "$tmp/_graphrun"
    runs zsh -n "$tmp/_graphrun"
    exits 0
fi
finish
