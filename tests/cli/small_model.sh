#!/bin/sh
# model/, the small model that the demo adapts: within its limits of size, known by its shape,
# its tokenizer its own; it draws, and what it draws depends on the prompt.
. "$(dirname "$0")/lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$tmp" || exit 1
bytes=$(du -sb "$top/model" | cut -f1)
[ "$bytes" -le 20000000 ]
check "model/ has $bytes bytes, at most 20 MB are wanted" $?
for prompt in 'red heart' 'green apple' 'red heart'; do
    runs "$GRAPHRUN" generate --ckpt "$top/model" --prompt "$prompt --d 1" --W 64 --H 64 --steps 6 \
        --sampler euler_a --scale 3 --sequential_file_name --outdir .
    exits 0
done
cmp -s im_000001.png im_000003.png && ! cmp -s im_000001.png im_000002.png
check "the prompt does not matter, or something else does" $?
runs "$GRAPHRUN" generate --ckpt "$top/model" --prompt 'quixotic zeppelins' --W 64 --H 64 --steps 1 \
    --outdir words
exits 0 # words that no caption has are spelt
runs "$GRAPHRUN" convert "$top/model" one.safetensors
exits 0
says err 'holds no tokenizer'
finish
