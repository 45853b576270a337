#!/usr/bin/env bash
# The same plan from 100 processes: other numbers of threads, freshly dirtied memory, other
# folders and environments; every file has the same bytes. With checkpoints and with a
# memory budget too, where a solver searches.
. "$(dirname "$0")/lib.sh"
export GRAPHRUN_CACHE=
root=$PWD
model=$root/tests/golden/nano/nano-sd.safetensors
mkdir -p "$tmp/elsewhere"

compile() { # compile NAME OPTION…
    local name=$1
    shift
    "$GRAPHRUN" compile lora --set "pretrained_model_name_or_path=$model" \
        --set 'data.resolution=[64,64]' --set network_train_text_encoder_only=true \
        -o "$tmp/$name.plan" --quiet "$@" >"$tmp/$name.out" 2>&1
}

many() { # many COUNT OPTION…: the first plan against COUNT others
    local n=$1 different=0
    shift
    compile first "$@" || { check "does not compile" 1; return; }
    for ((i = 1; i <= n; i++)); do
        local in=$root
        ((i % 2)) && in=$tmp/elsewhere
        (cd "$in" && MALLOC_PERTURB_=$((i * 37 % 255 + 1)) NOISE=$(seq -s. "$i") \
            compile "other$((i % 2))" --threads $((1 + i % 7)) "$@")
        cmp -s "$tmp/first.plan" "$tmp/other$((i % 2)).plan" || different=$((different + 1))
    done
    [ "$different" = 0 ]
    check "$different of $n plans differ" $?
}

ran=compile
: >"$tmp/out" >"$tmp/err"
many 100
many 12 --gradient_checkpointing
least=$("$GRAPHRUN" compile lora --set "pretrained_model_name_or_path=$model" \
    --set 'data.resolution=[64,64]' --set network_train_text_encoder_only=true \
    --memory_budget 1MiB 2>&1 | sed -n 's/.*at least \([0-9.]*\) MiB are needed.*/\1/p')
many 12 --memory_budget "$(awk "BEGIN { print $least * 1.02 }")MiB"
finish
