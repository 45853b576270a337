#!/usr/bin/env bash
# A run that goes on from a saved state ends with the bytes of the run that was never
# interrupted: from states of updates, of epochs' ends, of signals inside an accumulation,
# and after SIGKILL at random moments (KILLS per variant, 2 unless told; `make soak` takes 20
# and all VARIANTS). Another run than the saved one is refused, with what differs.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../pictures.sh"
export SOURCE_DATE_EPOCH=1700000000 # whole files can be compared, metadata and all
RANDOM=${SEED:-1}

model=$tmp/tiny.safetensors
tiny_model "$model"
mkdir -p "$tmp/img/2_cat" "$tmp/img/1_dog"
picture "$tmp/img/2_cat/a" 64 64 'a~ 0' 'a grey cat, sleeping'
picture "$tmp/img/2_cat/b" 80 64 'zzz(((' 'a cat'
picture "$tmp/img/1_dog/c" 64 128 '~~~!!!PPP' 'a dog, running'

variant=() # options of the variant under test
instead= # "exec" in the background: the process that signals go to is then the program's own
start() { # FOLDER options…
    $instead "$GRAPHRUN" train --pretrained_model_name_or_path "$model" --resolution 64 \
        --enable_bucket --min_bucket_reso 32 --max_bucket_reso 128 \
        --bucket_reso_steps 16 --train_data_dir "$tmp/img" --flip_aug --shuffle_caption \
        --seed 3 --network_dim 2 --lr_scheduler cosine --lr_warmup_steps 2 \
        --noise_offset 0.1 --max_train_steps 8 --save_state --save_every_n_steps 1 \
        --output_dir "$@" "${variant[@]}"
}
whole() { sha256sum <"$1/last.safetensors"; }
latest() { # FOLDER: its state of the most updates, or nothing
    find "$1" -maxdepth 1 -name 'at-step*-state' 2>/dev/null | sort | tail -1
}
same() { # FOLDER WHAT: the run in it ended as the whole one did
    [ "$(whole "$tmp/whole")" = "$(whole "$1")" ]
    check "not the bytes of the uninterrupted run: $2" $?
    [ "$(jq_loss "$tmp/whole")" = "$(jq_loss "$1")" ]
    check "not the state of the uninterrupted run: $2" $?
}
jq_loss() { sed -n '/"tensors"/,/}/p' "$1/last-state/train_state.json"; }
uninterrupted() {
    rm -rf "$tmp/whole"
    runs start "$tmp/whole"
    exits 0
}

# ---- states of updates and of epochs: 5 micro-batches each, so the windows are 2 2 1 ----
variant=(--gradient_accumulation_steps 2 --save_every_n_epochs 1
    --network_args conv_dim=1 rank_dropout=0.25 module_dropout=0.1)
uninterrupted
for state in at-step00000004 epoch-000001 at-step00000008; do
    rm -rf "$tmp/to"
    runs start "$tmp/to" --resume "$tmp/whole/$state-state"
    exits 0; says err "goes on from '$tmp/whole/$state-state'"
    same "$tmp/to" "$state"
done

# ---- other options: what may differ, and what may not ----
rm -rf "$tmp/to"
runs start "$tmp/to" --resume "$tmp/whole/at-step00000005-state" --threads 1 \
    --output_name x --gradient_checkpointing --save_precision fp16
exits 0
runs start "$tmp/to" --resume "$tmp/whole/at-step00000005-state" --network_dim 4
exits 2; says err "--network_dim: '2' there, '4' here"
runs start "$tmp/to" --resume "$tmp/whole/at-step00000005-state" --learning_rate 2e-4
exits 2; says err "--learning_rate: '0.0001' there, '0.0002' here"
runs start "$tmp/to" --resume "$tmp/whole/at-step00000005-state" --seed 4
exits 2; says err "has --seed 3, got 4"
runs start "$tmp/to" --resume "$tmp/whole/last-state" --max_train_steps 7
exits 2; says err "is from step 8, and this run ends at 7"
runs start "$tmp/to" --resume "$tmp/whole/last-state" --max_train_steps 9
exits 0; says err "note: the saved run was to make 8 steps, this one makes 9"
echo 'another cat' >"$tmp/img/2_cat/b.caption"
runs start "$tmp/to" --resume "$tmp/whole/at-step00000005-state"
exits 1; says err "the data: not the same"
echo 'a cat' >"$tmp/img/2_cat/b.caption"
"$GRAPHRUN" init-weights unet clip vae_encoder --variant tiny --seed 2 --quiet \
    -o "$tmp/other.safetensors"
runs start "$tmp/to" --resume "$tmp/whole/at-step00000005-state" \
    --pretrained_model_name_or_path "$tmp/other.safetensors"
exits 1; says err "base model 0: not the same"

# ---- states that are none ----
broken() { # SED-SCRIPT: a copy of a state with changed JSON
    rm -rf "$tmp/broken"
    cp -r "$tmp/whole/at-step00000005-state" "$tmp/broken"
    sed -i "$1" "$tmp/broken/train_state.json"
    runs start "$tmp/to" --resume "$tmp/broken"
}
runs start "$tmp/to" --resume "$tmp/nowhere"
exits 1; says err "there is no folder '$tmp/nowhere'"
runs start "$tmp/to" --resume "$tmp/img"
exits 1; says err "it has no train_state.json"
broken 's/graphrun-state/other/'; exits 1; says err "is not a state of graphrun's"
broken 's/"version": 1/"version": 7/'; exits 1; says err "state version 7"
broken 's/"micro_batches": .*/"micro_batches": 2,/'; exits 1; says err "'micro_batches'"
broken 's/"samples": .*/"samples": -4,/'; exits 1; says err "'samples'"
broken 's/"bytes": [0-9]*/"bytes": 5/'; exits 1; says err "says 5"
broken '$d'; exits 2; says err "not valid JSON"
rm -rf "$tmp/broken"
cp -r "$tmp/whole/at-step00000005-state" "$tmp/broken"
printf 'x' | dd of="$tmp/broken/state.safetensors" bs=1 seek=90000 conv=notrunc 2>/dev/null
runs start "$tmp/to" --resume "$tmp/broken"
exits 1; says err "is not as it was written"
# a folder of the user's own is not overwritten
mkdir -p "$tmp/own/at-step00000001-state"
echo mine >"$tmp/own/at-step00000001-state/file"
runs start "$tmp/own"
exits 1; says err "is there and is no state folder"
[ -s "$tmp/own/at-step00000001-state/file" ]
check "the user's file is lost" $?

# ---- a signal inside an accumulation ----
variant=(--gradient_accumulation_steps 50 --max_train_steps 4)
for i in 1 2 3 4; do # one picture four times over: longer epochs
    cp "$tmp/img/1_dog/c.bmp" "$tmp/img/1_dog/d$i.bmp"
    echo 'a dog' >"$tmp/img/1_dog/d$i.caption"
done
uninterrupted
rm -rf "$tmp/to"
ran="graphrun train, SIGTERM"
instead=exec
start "$tmp/to" >"$tmp/out" 2>"$tmp/err" &
instead=
until [ -e "$tmp/to/at-step00000001-state" ]; do
    kill -0 $! 2>/dev/null || break
    sleep 0.02
done
sleep "0.$((RANDOM % 3))"
kill -TERM $!
wait $!
code=$?
exits 143; says err "ended by SIGTERM"
state=$(latest "$tmp/to")
echo "resume: ended with $(grep micro_batches_added_up "$state/train_state.json")"
runs start "$tmp/to" --resume "$state"
exits 0
same "$tmp/to" "after SIGTERM"

# ---- SIGKILL at random moments ----
killed=0
random_kills() { # FOLDER COUNT
    rm -rf "$1"
    left=$2
    while [ "$left" -gt 0 ]; do
        [ -e "$1/last-state" ] && rm -rf "$1" # it was through: once more
        state=$(latest "$1")
        instead=exec
        start "$1" ${state:+--resume "$state"} >"$tmp/out" 2>"$tmp/err" &
        instead=
        wait_ms=$((RANDOM % (span + 1)))
        sleep "$((wait_ms / 1000)).$(printf '%03d' $((wait_ms % 1000)))"
        kill -9 $! 2>/dev/null
        wait $! 2>/dev/null
        [ $? = 137 ] && left=$((left - 1)) && killed=$((killed + 1))
    done
    if [ ! -e "$1/last-state" ]; then
        state=$(latest "$1")
        runs start "$1" ${state:+--resume "$state"}
        exits 0
    fi
    same "$1" "after SIGKILL"
}
for name in ${VARIANTS:-accumulation dylora cached}; do
    case $name in
    lierla) variant=(--network_dropout 0.1) ;;
    c3lier) variant=(--network_args conv_dim=2 conv_alpha=1) ;;
    dylora) variant=(--network_module networks.dylora --network_args unit=1) ;;
    dylora-sdscripts)
        variant=(--network_module networks.dylora --network_args unit=1 --compat sd-scripts)
        ;;
    block)
        variant=(--network_args down_lr_weight=sine up_lr_weight=cosine+.25
            block_dims=2,2,2,2,4,4,4,4,2,2,2,2,2,2,2,2,4,4,4,4,2,2,2,2,2)
        ;;
    accumulation) variant=(--gradient_accumulation_steps 3 --max_train_steps 5) ;;
    cached) # latents on disk, text states kept, last batches of a bucket that are short
        variant=(--cache_latents_to_disk --train_batch_size 2 --network_train_unet_only
            --gradient_accumulation_steps 2 --max_train_steps 6)
        ;;
    averaged) # moments as codes, a running mean, a loss scale
        variant=(--optimizer_type AdamW8bit --network_dim 16 --ema_decay 0.9
            --mixed_precision fp16)
        ;;
    esac
    from=$(date +%s%N)
    uninterrupted
    span=$((($(date +%s%N) - from) / 1000000))
    rm -rf "$tmp"/img/*/.graphrun-latents
    random_kills "$tmp/to" "${KILLS:-2}"
    echo "resume: $name: killed ${KILLS:-2} times, runs of $span ms"
done
echo "resume: $killed times killed"
finish
