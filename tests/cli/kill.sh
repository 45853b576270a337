#!/usr/bin/env bash
# A file is there whole or not at all: the program is killed at random moments while it
# overwrites its output (KILLS times, 25 unless told; `make soak` takes 200), and runs into a
# full disk. Afterwards the output is the old or the new file, byte for byte.
. "$(dirname "$0")/lib.sh"
model=tests/golden/nano/nano-sd.safetensors
mounted=
trap '[ -z "$mounted" ] || umount "$tmp/small"; rm -rf "$tmp"' EXIT
hash() { sha256sum <"$1"; }

convert() { "$GRAPHRUN" convert "$model" "$1" --save_precision "$2" --quiet; }
runs convert "$tmp/old.safetensors" fp16
exits 0
runs convert "$tmp/new.safetensors" float
exits 0
old=$(hash "$tmp/old.safetensors") new=$(hash "$tmp/new.safetensors")
[ "$old" != "$new" ]
check "the two files are equal" $?

# moments between the start and twice the time that a whole run takes
start=$(date +%s%N)
convert "$tmp/out.safetensors" float
span=$((($(date +%s%N) - start) / 500000)) # milliseconds, twice
RANDOM=1 seen_old=0 seen_new=0
for _ in $(seq "${KILLS:-25}"); do
    cp "$tmp/old.safetensors" "$tmp/out.safetensors"
    "$GRAPHRUN" convert "$model" "$tmp/out.safetensors" --save_precision float --quiet &
    wait_ms=$((RANDOM % (span + 1)))
    sleep "$((wait_ms / 1000)).$(printf '%03d' $((wait_ms % 1000)))"
    kill -9 $! 2>/dev/null
    wait $! 2>/dev/null
    case $(hash "$tmp/out.safetensors") in
    "$old") seen_old=$((seen_old + 1)) ;;
    "$new") seen_new=$((seen_new + 1)) ;;
    esac
    rm -f "$tmp"/out.safetensors?* "$tmp"/.out.safetensors*
done

[ $((seen_old + seen_new)) = "${KILLS:-25}" ]
check "after a kill, neither the old nor the new file" $?

# A disk of 2 MiB, where it can be mounted (root); the old file fills most of it.
mkdir "$tmp/small"
if mount -t tmpfs -o size=2m none "$tmp/small" 2>/dev/null; then
    mounted=1
    head -c 1500000 "$tmp/old.safetensors" >"$tmp/small/out.safetensors"
    before=$(hash "$tmp/small/out.safetensors")
    runs convert "$tmp/small/out.safetensors" float
    exits 1
    says err "No space left"
    [ "$(hash "$tmp/small/out.safetensors")" = "$before" ]
    check "the old file is lost" $?
    [ "$(ls -A "$tmp/small")" = out.safetensors ]
    check "left over: $(ls -A "$tmp/small")" $?
else
    echo "kill: no small disk can be mounted here: that part is skipped"
fi
echo "kill: $seen_old times the old file, $seen_new times the new one"
finish
