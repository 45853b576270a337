#!/usr/bin/env bash
# A file or a Diffusers folder is there whole or not at all: the program is killed at random
# moments while it overwrites a file and while it writes a folder (KILLS times each, 10 unless
# told; `make soak` takes 200), is asked to end, and runs into a full disk. Afterwards the
# output is the old or the new one, byte for byte, and what a killed program left is harmless
# and is removed by the next one.
. "$(dirname "$0")/lib.sh"
model=tests/golden/nano/nano-sd.safetensors
kills=${KILLS:-10}
mounted=
trap '[ -z "$mounted" ] || umount "$tmp/small"; rm -rf "$tmp"' EXIT
hash() { sha256sum <"$1"; }
temporary() { find "$1" -maxdepth 1 -name '.graphrun-*'; }

# span COMMAND…: twice the milliseconds that it takes
span() {
    local start
    start=$(date +%s%N)
    "$@"
    echo $((($(date +%s%N) - start) / 500000))
}
# strike SIGNAL SPAN COMMAND…: sends it at a moment within SPAN; $code: the exit status
strike() {
    local signal=$1 wait_ms=$((RANDOM % ($2 + 1)))
    shift 2
    "$@" 2>/dev/null &
    sleep "$((wait_ms / 1000)).$(printf '%03d' $((wait_ms % 1000)))"
    kill "-$signal" $! 2>/dev/null
    wait $! 2>/dev/null
    code=$?
}

# ---- a file ----
convert() { exec "$GRAPHRUN" convert "$model" "$1" --save_precision "$2" --quiet; }
runs "$GRAPHRUN" convert "$model" "$tmp/old.safetensors" --save_precision fp16
exits 0
runs "$GRAPHRUN" convert "$model" "$tmp/new.safetensors" --save_precision float
exits 0
old=$(hash "$tmp/old.safetensors") new=$(hash "$tmp/new.safetensors")
[ "$old" != "$new" ]
check "the two files are equal" $?

RANDOM=1 seen_old=0 seen_new=0 left=0
took=$(span "$GRAPHRUN" convert "$model" "$tmp/out.safetensors" --quiet)
for _ in $(seq "$kills"); do
    cp "$tmp/old.safetensors" "$tmp/out.safetensors"
    strike KILL "$took" convert "$tmp/out.safetensors" float
    case $(hash "$tmp/out.safetensors") in
    "$old") seen_old=$((seen_old + 1)) ;;
    "$new") seen_new=$((seen_new + 1)) ;;
    esac
    [ -z "$(temporary "$tmp")" ] || left=$((left + 1))
    rm -f "$tmp"/.graphrun-*
done
[ $((seen_old + seen_new)) = "$kills" ]
check "after a kill, neither the old nor the new file" $?
echo "kill: $seen_old times the old file, $seen_new times the new one, $left times a temporary one"

# ---- a folder ----
lora=$tmp/lora.safetensors
runs "$GRAPHRUN" convert "$model" "$tmp/rounded.safetensors" --save_precision bf16
exits 0
runs "$GRAPHRUN" extract --model_org "$model" --model_tuned "$tmp/rounded.safetensors" \
    --dim 2 --save_to "$lora"
exits 0
mkdir "$tmp/at"
folder() { exec "$GRAPHRUN" convert "$model" "$tmp/at/folder" --quiet; }
merged() {
    exec "$GRAPHRUN" merge --sd_model "$model" --models "$lora" --ratios 1 \
        --save_to "$tmp/at/merged" --quiet
}
runs "$GRAPHRUN" convert "$model" "$tmp/whole" --quiet
exits 0
took=$(span "$GRAPHRUN" convert "$model" "$tmp/timed" --quiet)
none=0 whole=0 left=0
for _ in $(seq "$kills"); do
    strike KILL "$took" folder
    if [ ! -e "$tmp/at/folder" ]; then
        none=$((none + 1))
    elif diff -r "$tmp/whole" "$tmp/at/folder" >/dev/null; then
        whole=$((whole + 1))
    fi
    [ -z "$(temporary "$tmp/at")" ] || left=$((left + 1))
    rm -rf "$tmp/at/folder" "$tmp"/at/.graphrun-*
done
[ $((none + whole)) = "$kills" ]
check "after a kill, a folder that is not whole" $?
echo "kill: $none times no folder, $whole times a whole one, $left times a temporary one"

# What is left is removed by the next writer if it is old and nobody has it locked.
mkdir -p "$tmp"/at/.graphrun-1-{0,1,2}.tmp/unet "$tmp/at/.graphrun-notes.tmp"
echo half >"$tmp/at/.graphrun-1-0.tmp/unet/model.safetensors"
echo half >"$tmp/at/.graphrun-1-3.tmp"
touch -d '3 hours ago' "$tmp"/at/.graphrun-1-{0,1,3}.tmp "$tmp/at/.graphrun-notes.tmp"
runs flock "$tmp/at/.graphrun-1-1.tmp" "$GRAPHRUN" convert "$model" "$tmp/at/folder" --quiet
exits 0
there=$(temporary "$tmp/at" | sort | sed 's/.*graphrun-//' | tr '\n' ' ')
[ "$there" = "1-1.tmp 1-2.tmp notes.tmp " ]
check "not the locked one, the new one and one with another name, but $there" $?
rm -rf "$tmp"/at/.graphrun-*

# A folder that is not empty is never written over; an empty one takes the new one's place.
runs "$GRAPHRUN" convert "$model" "$tmp/at/folder"
exits 1
says err "it is there and not empty"
diff -r "$tmp/whole" "$tmp/at/folder" >/dev/null
check "a folder that was there has changed" $?
rm -rf "$tmp/at/folder"
mkdir -p "$tmp/at/folder"
runs "$GRAPHRUN" convert "$model" "$tmp/at/folder/" --quiet
exits 0
diff -r "$tmp/whole" "$tmp/at/folder"
check "the folder in the place of an empty one is another" $?

# Asked to end, by any of the signals: no temporary folder, and the exit status says so.
ended=0 done=0 wrong=0
for _ in $(seq "$kills"); do
    for what in folder merged; do
        signal=$(echo INT TERM HUP | cut -d' ' -f$((RANDOM % 3 + 1)))
        rm -rf "$tmp/at/folder" "$tmp/at/merged"
        # a program in the background does not hear SIGINT unless it is told to
        strike "$signal" "$took" env --default-signal=INT bash -c \
            "$(declare -f $what); GRAPHRUN=$GRAPHRUN model=$model lora=$lora tmp=$tmp; $what"
        [ -z "$(temporary "$tmp/at")" ] || wrong=1
        case $code in
        0) done=$((done + 1)) ;;
        129 | 130 | 143) ended=$((ended + 1)) ;;
        *) wrong=1 ;;
        esac
        [ ! -e "$tmp/at/folder" ] || diff -r "$tmp/whole" "$tmp/at/folder" >/dev/null ||
            wrong=1
    done
done
[ "$wrong" = 0 ] && [ $((ended + done)) = $((2 * kills)) ]
check "after a signal, a temporary folder or another exit status" $?
echo "kill: $ended times ended by a signal, $done times done before it came"

# ---- a full disk ----
# One of 2 MiB, where it can be mounted (root); the old file fills most of it.
mkdir "$tmp/small"
full() { # full NAME: the run failed, and NAME is all that is there
    exits 1
    says err "No space left"
    there=$(ls -A "$tmp/small")
    [ "$there" = "$1" ]
    check "there is $there" $?
}
if mount -t tmpfs -o size=2m none "$tmp/small" 2>/dev/null; then
    mounted=1
    head -c 1500000 "$tmp/old.safetensors" >"$tmp/small/out.safetensors"
    before=$(hash "$tmp/small/out.safetensors")
    runs "$GRAPHRUN" convert "$model" "$tmp/small/out.safetensors" --save_precision float
    full out.safetensors
    [ "$(hash "$tmp/small/out.safetensors")" = "$before" ]
    check "the old file is lost" $?
    runs "$GRAPHRUN" convert "$model" "$tmp/small/folder"
    full out.safetensors
    runs "$GRAPHRUN" merge --sd_model "$model" --models "$lora" --ratios 1 \
        --save_to "$tmp/small/folder"
    full out.safetensors
else
    echo "kill: no small disk can be mounted here: that part is skipped"
fi
finish
