#!/usr/bin/env bash
# Samples while training: files as sd-scripts names them, the LoRA of the moment in them, the
# trained file untouched by them, and a strip per prompt.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../small_training.sh"
export GRAPHRUN_CACHE= SOURCE_DATE_EPOCH=0

small_base
printf '# comment\na cat --w 64 --h 70 --s 3 --d 5 --l 3\nsomething else --w 64 --h 64 --s 2\n' \
    >"$tmp/prompts.txt"
train plain
exits 0
train drawn --sample_prompts "$tmp/prompts.txt" --sample_every_n_steps 1 --sample_at_first \
    --sample_sampler euler --learning_rate 0.01
exits 0
mv "$tmp/drawn.safetensors" "$tmp/fast.safetensors"
when=19700101000000
for step in 000000 000001 000002; do
    [ -f "$tmp/sample/drawn_${step}_00_${when}_5.png" ] &&
        [ -f "$tmp/sample/drawn_${step}_01_$when.png" ]
    check "no samples of step $step: $(ls "$tmp/sample")" $?
done
[ "$(ls -A "$tmp/sample" | wc -l)" = 8 ]
check "other files than 6 pictures and 2 strips: $(ls -A "$tmp/sample")" $?
! cmp -s "$tmp/sample/drawn_000000_00_${when}_5.png" "$tmp/sample/drawn_000002_00_${when}_5.png"
check "two steps at 0.01 do not show in the sample" $?

# the last sample is what generate draws with the saved LoRA
runs "$GRAPHRUN" generate --ckpt "$tmp/base.safetensors" --W 64 --H 64 --steps 3 --scale 3 \
    --seed 5 --prompt "a cat" --sampler euler --network_weights "$tmp/fast.safetensors" \
    --max_embeddings_multiples 3 --outdir "$tmp/again"
exits 0
pixels() { python3 - "$1" "$2" <<'P'
import sys, zlib, struct
def idat(p):
    b, i, out = open(p, 'rb').read(), 8, b''
    while i < len(b):
        n, k = struct.unpack('>I4s', b[i:i + 8])
        if k == b'IDAT': out += b[i + 8:i + 8 + n]
        i += 12 + n
    return zlib.decompress(out)
sys.exit(idat(sys.argv[1]) != idat(sys.argv[2]))
P
}
pixels "$tmp/again/im_${when}_000_5.png" "$tmp/sample/drawn_000002_00_${when}_5.png"
check "generate draws another picture with the saved LoRA" $?

# samples change nothing in the training
train drawn --sample_prompts "$tmp/prompts.txt" --sample_every_n_epochs 1
exits 0
cmp -s "$tmp/plain.safetensors" "$tmp/drawn.safetensors"
check "the LoRA of a run with samples is another one" $?
[ -f "$tmp/sample/drawn_e000001_01_$when.png" ]
check "no sample of epoch 1: $(ls "$tmp/sample")" $?

# judged before the first step
train bad --sample_prompts "$tmp/prompts.txt"
exits 2; says err "say when"
train bad --sample_every_n_steps 1
exits 2; says err "no --sample_prompts"
train bad --sample_prompts "$tmp/none.txt" --sample_every_n_steps 1
exits 1; says err "none.txt"
train bad --sample_prompts "$tmp/prompts.txt" --sample_every_n_steps 1 --sample_sampler eular
exits 2; says err "eular"
finish
