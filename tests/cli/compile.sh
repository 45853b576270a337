#!/bin/sh
# graphrun compile: plan files, their totals, the cache, the messages.
. "$(dirname "$0")/lib.sh"
export GRAPHRUN_CACHE="$tmp/cache"
nano=tests/golden/nano/nano-sd.safetensors
compile() {
    runs "$GRAPHRUN" compile lora --set "pretrained_model_name_or_path=$nano" \
        --set 'data.resolution=[64,64]' "$@"
}
same() { # same A B: equal files
    cmp -s "$1" "$2"
    check "$1 and $2 differ" $?
}

# without a checkpoint: the variants are named in the recipe
runs "$GRAPHRUN" compile sd15-lora -o "$tmp/sd15.plan" --json
exits 0
for key in activation_peak_bytes saved_bytes arena_bytes lower_bound_bytes weights_bytes \
    total_bytes flops nodes steps compile_ms; do
    grep -Eq "\"$key\": [0-9.]+" "$tmp/out"
    check "no number '$key' in the totals" $?
done
says out '{"totals": {'
says out '"cached": false}}'
silent err
runs "$GRAPHRUN" compile sd15-lora -o "$tmp/sd15b.plan" --json
says out '"cached": true}}'
same "$tmp/sd15.plan" "$tmp/sd15b.plan"

# the same plan in other processes, with other numbers of threads, cached or not
compile -o "$tmp/a.plan"
exits 0
compile -o "$tmp/b.plan" --no-cache --threads 1
compile -o "$tmp/c.plan" --no-cache --threads 7
compile -o "$tmp/d.plan"
says out 'found in the cache'
for x in b c d; do same "$tmp/a.plan" "$tmp/$x.plan"; done

# a learning rate is not part of a plan; a rank, a shape and a pass are
n=$(ls "$tmp/cache/plans" | wc -l)
compile --set learning_rate=0.01 --json
says out '"cached": true'
compile --set unet_lr=0.01 --json # another number of rates
says out '"cached": false'
compile --set unet_lr=0.02 --json
says out '"cached": true'
compile --set network_dim=8 --json
says out '"cached": false'
compile --set 'data.resolution=[64,128]' --json
says out '"cached": false'
compile --disable-pass=simplify --json
says out '"cached": false'
compile --exact --json
says out '"cached": false'
[ "$(ls "$tmp/cache/plans" | wc -l)" = $((n + 5)) ]
check "five more plans in the cache" $?

# a plan for a GPU is another one, is kept beside it, and needs no GPU
n=$(ls "$tmp/cache/plans" | wc -l)
compile --device cuda -o "$tmp/gpu.plan" --json
exits 0
says out '"cached": false'
[ "$(ls "$tmp/cache/plans" | wc -l)" = $((n + 1)) ]
check "one more plan in the cache" $?
runs "$GRAPHRUN" inspect "$tmp/gpu.plan" --part nodes
exits 0
grep -q 'linear/cuda' "$tmp/out"
check "products by a CUDA kernel" $?
if grep -Eq '/(ref|panels|avx2|rows|flash) ' "$tmp/out"; then check "a kernel of the CPU in a CUDA plan" 1; fi
compile --device gpu
exits 2
says err "want one of cpu, cuda"

# what `train` gives while the text encoder is not trained
runs "$GRAPHRUN" compile sd15-lora --set network_train_unet_only=true --device cuda \
    --set network_dim=16 --mixed_precision fp16 --given text --json
exits 0
steps=$(sed 's/.*"steps": \([0-9]*\).*/\1/' "$tmp/out")
[ "$steps" -gt 500 ] && [ "$steps" -le 1000 ]
check "a captured step of SD 1.5 has $steps steps, want at most 1000" $?
runs "$GRAPHRUN" compile sd15-lora --given no_such
exits 2
says err "no node 'no_such' to give"

# a damaged file in the cache costs a compilation and a warning
for f in "$tmp"/cache/plans/*; do printf x | dd of="$f" bs=1 seek=900 conv=notrunc 2>"$tmp/err"; done
compile -o "$tmp/e.plan" --json
exits 0
says err 'warning: the cached plan'
says err 'is compiled again'
says out '"cached": false'
same "$tmp/a.plan" "$tmp/e.plan"
compile --json
silent err
says out '"cached": true'

# a cache that cannot be written, and none at all
GRAPHRUN_CACHE=/proc/none compile --json
exits 0
says err 'warning: the plan is not cached'
GRAPHRUN_CACHE='' compile --json
exits 0
silent err
says out '"cached": false'

# eight processes at once, with an empty cache
rm -rf "$tmp/cache"
for i in 1 2 3 4 5 6 7 8; do
    "$GRAPHRUN" compile lora --set "pretrained_model_name_or_path=$nano" \
        --set 'data.resolution=[64,64]' -o "$tmp/race$i.plan" >"$tmp/race$i.out" 2>&1 &
done
wait
for i in 1 2 3 4 5 6 7 8; do same "$tmp/a.plan" "$tmp/race$i.plan"; done
[ "$(ls -A "$tmp/cache/plans" | wc -l)" = 1 ]
check "one plan and no temporary file" $?

# what can be asked for
compile --explain=memory
says out 'most in step'
says out 'saved for the backward pass'
compile --explain
says out 'work by block'
compile
says out 'no file was asked for (-o PLAN)'
compile -o "$tmp/f.plan"
says out "written to $tmp/f.plan"

# a plan from the cache explains as much as one just compiled
for part in "" =nodes =why:unet.conv_in; do
    compile --no-cache --gradient_checkpointing --mixed_precision fp16 "--explain$part"
    exits 0
    mv "$tmp/out" "$tmp/cold"
    [ -n "$part" ] || compile --gradient_checkpointing --mixed_precision fp16
    compile --gradient_checkpointing --mixed_precision fp16 "--explain$part"
    is out "$tmp/cold"
done
compile --gradient_checkpointing --mixed_precision fp16 --explain=casts
says out 'casts inserted'
says out 'kernels between types'
compile --gradient_checkpointing --explain=recompute
says out 'steps run again'
says out '  90 % '
says out '  --gradient_checkpointing'
compile --explain=recompute
says out 'nothing is computed twice'
compile --explain=fusion
says out 'near misses'
says out 'SAVED_FOR_BWD'
compile --explain=why:unet.conv_inn
exits 2
says err "did you mean 'unet.conv_in'?"
compile --json --explain
says out '"compile_ms"'
says out '"fusion": {"groups"'
compile --dump-after=simplify
exits 0
says out 'graph lora {'

# messages
compile --explain=everything
exits 2
says err 'everything'
compile --dump-after=simplfy
exits 2
says err "no pass 'simplfy'; did you mean 'simplify'?"
compile --disable-pass=none
exits 2
compile --set 'data.resolution=[64]'
exits 2
says err "want 2"
compile -o "$tmp/no/such/folder/x.plan"
exits 1
runs "$GRAPHRUN" compile nosuch
exits 2
finish
