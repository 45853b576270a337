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
    status=$? # $? behind a text with a command in it would be the command's
    check "no samples of step $step: $(ls "$tmp/sample")" $status
done
[ "$(ls -A "$tmp/sample" | wc -l)" = 8 ]
status=$?
check "other files than 6 pictures and 2 strips: $(ls -A "$tmp/sample")" $status
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
status=$?
check "no sample of epoch 1: $(ls "$tmp/sample")" $status

# the same prompts as tables: the same pictures
cat >"$tmp/prompts.toml" <<'END'
[prompt]
width = 64
height = 64

[[prompt.subset]]
prompt = "a cat"
height = 70
sample_steps = 3
seed = 5
scale = 3

[[prompt.subset]]
prompt = "something else"
sample_steps = 2
END
cat >"$tmp/prompts.json" <<'END'
["a cat --w 64 --h 70 --s 3 --d 5 --l 3",
 {"prompt": "something else", "width": 64, "height": 64, "sample_steps": 2, "seed": null}]
END
for form in toml json; do
    train "$form" --sample_prompts "$tmp/prompts.$form" --sample_every_n_steps 2 \
        --sample_sampler euler --learning_rate 0.01
    exits 0
    for end in "00_${when}_5" "01_$when"; do
        pixels "$tmp/sample/drawn_000002_$end.png" "$tmp/sample/${form}_000002_$end.png"
        check "prompts as $form: another picture $end" $?
    done
done
printf '[prompt]\nwidth = 64\n[[prompt.subset]]\nprompt = "x"\nsample_step = 3\n' >"$tmp/bad.toml"
train bad --sample_prompts "$tmp/bad.toml" --sample_every_n_steps 1
exits 2; says err "bad.toml:5:1: error: no key 'sample_step' in a prompt; did you mean 'sample_steps'?"
printf '[{"prompt": "x", "seed": "5"}]' >"$tmp/bad.json"
train bad --sample_prompts "$tmp/bad.json" --sample_every_n_steps 1
exits 2; says err "bad.json:1:26: error: 'seed' is a text, want an integer"
printf '[prompt]\nprompt = "x"\n' >"$tmp/bad.toml"
train bad --sample_prompts "$tmp/bad.toml" --sample_every_n_steps 1
exits 2; says err "[prompt] has no [[prompt.subset]]"

# a recipe with two kinds of adapters: what is drawn is what generate draws with both files
cat >"$tmp/mixed.yaml" <<'END'
recipe: mixed
from: [lora.yaml]
adapters:
  - {use: lora, on: {text_encoder: [attention]}, lr: $text_encoder_lr, rank: 2, alpha: 2}
  - {use: lokr, on: {unet: [attention]}, lr: $unet_lr, rank: 2, alpha: 2}
END
sampled="--sample_prompts $tmp/prompts.txt --sample_every_n_steps 2 --sample_sampler euler"
mixed() { # NAME OPTION…
    name=$1
    shift
    runs "$GRAPHRUN" train "$tmp/mixed.yaml" --allow_missing_captions --resolution 64 \
        --pretrained_model_name_or_path "$tmp/base.safetensors" --no_metadata \
        --train_data_dir "$tmp/pictures" --max_train_steps 2 --seed 7 --output_dir "$tmp" \
        --learning_rate 0.01 --output_name "$name" "$@"
}
# shellcheck disable=SC2086
mixed both $sampled
exits 0
python3 - "$tmp/both.safetensors" "$tmp" <<'P'
import json, struct, sys
b = open(sys.argv[1], 'rb').read()
n = struct.unpack('<Q', b[:8])[0]
head, data = json.loads(b[8:8 + n]), b[8 + n:]
for name, test in (('te', True), ('unet', False)):
    part, out = {}, b''
    for key, t in head.items():
        if key == '__metadata__' or key.startswith('lora_te') != test: continue
        x = data[t['data_offsets'][0]:t['data_offsets'][1]]
        part[key] = dict(t, data_offsets=[len(out), len(out) + len(x)])
        out += x
    text = json.dumps(part).encode()
    open(f'{sys.argv[2]}/{name}.safetensors', 'wb').write(struct.pack('<Q', len(text)) + text + out)
P
check "the mixed file cannot be cut in two" $?
again() { # FILE… : the first prompt with these networks
    rm -rf "$tmp/again"
    runs "$GRAPHRUN" generate --W 64 --H 64 --steps 3 --scale 3 --seed 5 --prompt "a cat" \
        --sampler euler --max_embeddings_multiples 3 --outdir "$tmp/again" "$@"
    exits 0
}
again --ckpt "$tmp/base.safetensors" --network_weights "$tmp/te.safetensors" "$tmp/unet.safetensors" \
    --network_module networks.lora lycoris.kohya
pixels "$tmp/again/im_${when}_000_5.png" "$tmp/sample/both_000002_00_${when}_5.png"
check "generate draws another picture with the two files" $?

# networks that are trained themselves: with the model of the moment
runs "$GRAPHRUN" train finetune --pretrained_model_name_or_path "$tmp/base.safetensors" \
    --train_data_dir "$tmp/pictures" --allow_missing_captions --resolution 64 \
    --max_train_steps 2 --seed 7 --no_metadata --output_dir "$tmp" --output_name whole \
    --learning_rate 1e-3 --sample_at_first $sampled
exits 0
again --ckpt "$tmp/whole.safetensors"
pixels "$tmp/again/im_${when}_000_5.png" "$tmp/sample/whole_000002_00_${when}_5.png"
check "generate draws another picture with the saved model" $?
! pixels "$tmp/sample/whole_000000_00_${when}_5.png" "$tmp/sample/whole_000002_00_${when}_5.png"
check "two steps do not show in the sample of a trained model" $?
[ ! -e "$tmp/sample/.now" ]
check "the files of the moment are still there" $?
again --ckpt "$tmp/base.safetensors" --clip_skip 2
runs "$GRAPHRUN" generate --ckpt "$tmp/base.safetensors" --prompt x --clip_skip 24
exits 2; says err "--clip_skip: got 24, 'text_encoder' has"

# SIGINT while it draws: before the next run of the sampler, with the state saved
printf 'a cat --w 64 --h 64 --s 1000\n' >"$tmp/long.txt"
for first in --sample_at_first --quiet; do
    rm -rf "$tmp/stop"
    "$GRAPHRUN" train --pretrained_model_name_or_path "$tmp/base.safetensors" \
        --train_data_dir "$tmp/pictures" --allow_missing_captions --resolution 64 \
        --network_dim 4 --max_train_steps 9 --seed 7 --output_dir "$tmp/stop" \
        --sample_prompts "$tmp/long.txt" --sample_every_n_steps 1 $first \
        >"$tmp/out" 2>"$tmp/err" </dev/null &
    pid=$!
    ran="SIGINT while samples are drawn ($first)"
    while kill -0 $pid 2>/dev/null && [ ! -d "$tmp/stop/sample/.now" ]; do sleep 0.1; done
    sleep 1
    kill -INT $pid
    wait $pid
    code=$?
    exits 130
    [ "$(ls -A "$tmp/stop/sample")" = "" ]
    status=$?
    check "what is left of the samples: $(ls -A "$tmp/stop/sample")" $status
done
[ -d "$tmp"/stop/*-state ]
status=$?
check "no state was saved: $(ls "$tmp/stop")" $status

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
