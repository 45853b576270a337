#!/bin/sh
# A training on a folder of pictures from end to end: files and their names, what is in
# them, missing captions, bad pictures, a signal.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../pictures.sh"

model=$tmp/tiny.safetensors
tiny_model "$model"
mkdir -p "$tmp/img/2_cat" "$tmp/img/1_dog"
picture "$tmp/img/2_cat/a" 64 64 'a~ 0' 'a grey cat, sleeping'
picture "$tmp/img/2_cat/b" 80 64 'zzz(((' 'a cat'
picture "$tmp/img/1_dog/c" 64 64 '~~~!!!PPP' 'a dog, running'

train() { # options…
    runs "$GRAPHRUN" train --pretrained_model_name_or_path "$model" --resolution 64 \
        --seed 3 --network_dim 2 --output_dir "$tmp/to" "$@"
}
names() { # the files of the output folder are WORDS, and nothing else
    got=$(ls "$tmp/to" 2>/dev/null | tr '\n' ' ')
    [ "$got" = "$1" ]
    check "files are '$got', want '$1'" $?
}
has() { # has KEY VALUE: in the metadata, VALUE as JSON text has it
    head -c 20000 "$tmp/to/$file" | grep -aqF -- "\"$1\":\"$2" ||
        head -c 20000 "$tmp/to/$file" | grep -aqF -- "\"$1\": \"$2"
    check "no $1 = $2 in $file" $?
}

# a DreamBooth folder: 2 × 2 + 1 pictures are an epoch of 5 steps
train --train_data_dir "$tmp/img" --output_name cat --max_train_steps 12 \
    --save_every_n_epochs 1 --save_every_n_steps 8 --training_comment 'a test' \
    --metadata_author somebody
exits 0; silent out
says err "pictures: 5 to train on (with repeats), 0 for regularisation"
says err "captions: 3 found, 0 missing"
says err "steps: 12, seed: 3"
names "cat-000001.safetensors cat-000002.safetensors cat-step00000008.safetensors cat.safetensors "
file=cat.safetensors
for key in ss_session_id ss_training_started_at ss_training_finished_at ss_optimizer \
    ss_new_sd_model_hash sshs_model_hash sshs_legacy_hash ss_network_args; do
    has "$key" ''
done
has ss_output_name cat; has ss_network_module networks.lora; has ss_network_dim 2
has ss_network_alpha 1.0; has ss_steps 12; has ss_epoch 3; has ss_num_epochs 3
has ss_max_train_steps 12; has ss_num_train_images 5; has ss_num_batches_per_epoch 5
has ss_seed 3; has ss_learning_rate 0.0001; has ss_resolution '(64, 64)'
has ss_base_model_version sd_v1; has ss_v2 False; has ss_clip_skip 1
has ss_training_comment 'a test'; has ss_flip_aug False
has ss_sd_model_name tiny.safetensors; has ss_max_token_length None
has ss_dataset_dirs '{\"1_dog\": {\"n_repeats\": 1, \"img_count\": 1}, \"2_cat\": '
has ss_tag_frequency '{\"1_dog\": {\"a dog\": 1, \"running\": 1}, \"2_cat\": {'
has ss_bucket_info null; has ss_cache_latents False; has ss_caption_dropout_rate 0.0
has modelspec.author somebody; has modelspec.title cat; has modelspec.resolution 64x64
has ss_graphrun_plan ''; has ss_graphrun_data ''; has ss_graphrun_recipe lora
file=cat-000001.safetensors
has ss_steps 5; has ss_epoch 1
file=cat-step00000008.safetensors
has ss_steps 8; has ss_epoch 1

# a TOML file; names without --output_name; the mirror images
rm -r "$tmp/to"
cat >"$tmp/set.toml" <<END
[general]
resolution = 64
[[datasets]]
batch_size = 2
[[datasets.subsets]]
image_dir = "$tmp/img/2_cat"
num_repeats = 2
flip_aug = true
[[datasets.subsets]]
image_dir = "$tmp/img/1_dog"
END
train --dataset_config "$tmp/set.toml" --max_train_steps 1 --output_name sets
exits 0
file=sets.safetensors
has ss_datasets '[{\"is_dreambooth\": true, \"batch_size_per_device\": 2, \"num_train_images\": 5, '
rm "$tmp/to/sets.safetensors"
train --dataset_config "$tmp/set.toml" --max_train_epochs 2 --save_every_n_epochs 1 \
    --save_every_n_steps 4 --no_metadata
exits 0
says err "pictures encoded 5/5"
says err "batches per epoch: 3, epochs: 2"
names "at-step00000004.safetensors epoch-000001.safetensors last.safetensors "
file=last.safetensors
has ss_network_dim 2
! head -c 20000 "$tmp/to/last.safetensors" | grep -aq ss_steps
check "--no_metadata leaves ss_steps" $?

# what is kept of many files: sd-scripts' rules, for states those of their own; torch's form
rm -r "$tmp/to"
train --train_data_dir "$tmp/img" --max_train_steps 12 --save_model_as ckpt \
    --save_every_n_steps 2 --save_last_n_steps 4 --save_state --save_last_n_steps_state 2 \
    --save_n_epoch_ratio 3 --save_last_n_epochs 1
exits 0
says err "removed: $tmp/to/at-step00000006.ckpt"
names "at-step00000008.ckpt at-step00000010-state at-step00000010.ckpt \
at-step00000012-state at-step00000012.ckpt epoch-000002-state epoch-000002.ckpt \
last-state last.ckpt "
runs "$GRAPHRUN" info "$tmp/to/last.ckpt"
exits 0; says out "204 modules"

# logs: a TensorBoard file and lines of JSON, two per update and one per epoch
rm -r "$tmp/to"
train --train_data_dir "$tmp/img" --max_train_steps 3 --gradient_accumulation_steps 2 \
    --logging_dir "$tmp/log" --log_prefix run- --text_encoder_lr 1e-5 \
    --network_args down_lr_weight=sine
exits 0
log=$(echo "$tmp"/log/run-*/network_train/log.jsonl)
[ "$(grep -c '"loss/current"' "$log")" = 5 ] && [ "$(grep -c epoch_average "$log")" = 1 ]
check "not 5 micro-batches and one epoch in the log" $?
logged() { # TAG…
    for tag in "$@"; do
        grep -aq "$tag" "$tmp"/log/*/network_train/events.out.tfevents.* &&
            grep -q "\"$tag\": [0-9]" "$log"
        check "$tag is not logged" $?
    done
}
logged loss/average lr/textencoder lr/unet_block1 lr/unet_block12 lr/unet_block24 norm/grad_norm
! grep -q '"lr/unet"' "$log"
check "a rate of the whole U-Net is logged beside those of its blocks" $?
cp "$log" "$tmp/out"
says out '"lr/textencoder": 9.99999'
says out '"lr/unet_block12": 9.99999' # in f32, 1e-4 times a weight of 1 at the middle
# with LoRA+ the tensors that learn faster; the rate that an optimizer finds
rm -r "$tmp/log" "$tmp/to"
train --train_data_dir "$tmp/img" --max_train_steps 1 --logging_dir "$tmp/log" --learning_rate 1 \
    --optimizer_type prodigy --network_args loraplus_unet_lr_ratio=4 --vae "$model"
exits 0
log=$(echo "$tmp"/log/*/network_train/log.jsonl)
logged lr/textencoder lr/unet 'lr/unet plus' 'lr/d\*lr/unet' 'lr/d\*lr/unet plus'
grep '"lr/unet": 1, ' "$log" >"$tmp/out"
says out '"lr/unet plus": 4, '
file=last.safetensors
! grep -aq ss_vae_name "$tmp/to/$file"
check "the base's own VAE is named" $?
cp "$model" "$tmp/other.safetensors"
rm -r "$tmp/to"
train --train_data_dir "$tmp/img" --max_train_steps 1 --vae "$tmp/other.safetensors"
exits 0
has ss_vae_name other.safetensors
has ss_new_vae_hash "$(sha256sum <"$tmp/other.safetensors" | cut -c 1-64)"
has ss_vae_hash "$(tail -c +1048577 "$model" | head -c 65536 | sha256sum | cut -c 1-8)"

# captions; nothing is written then
rm -r "$tmp/to"
mkdir -p "$tmp/bare/1_x"
bmp "$tmp/bare/1_x/p.bmp" 64 64 'none'
train --train_data_dir "$tmp/bare" --max_train_steps 1
exits 1; says err "no caption file found"; says err "--allow_missing_captions"
names ""
train --train_data_dir "$tmp/bare" --max_train_steps 1 --allow_missing_captions
exits 0; says err "captions: 0 found, 1 missing"
names "last.safetensors "

# a picture that was cut off
rm -r "$tmp/to"
bmp "$tmp/img/2_cat/whole.bmp" 64 64 'cut'
head -c 5000 "$tmp/img/2_cat/whole.bmp" >"$tmp/img/2_cat/cut.bmp"
rm "$tmp/img/2_cat/whole.bmp"
train --train_data_dir "$tmp/img" --max_train_steps 1
exits 1; says err "2_cat/cut.bmp: BMP cut off: 5000 bytes, want 12342"
says err "--skip_bad_images"
names ""
train --train_data_dir "$tmp/img" --max_train_steps 1 --skip_bad_images
exits 0; says err "left out: $tmp/img/2_cat/cut.bmp: BMP cut off"
names "last.safetensors "
rm "$tmp/img/2_cat/cut.bmp"

# a signal ends the run after the step it came in, with a file
rm -r "$tmp/to"
ran="graphrun train, SIGINT"
"$GRAPHRUN" train --pretrained_model_name_or_path "$model" --resolution 64 --seed 3 \
    --train_data_dir "$tmp/img" --output_dir "$tmp/to" --output_name halted \
    --max_train_steps 1000000 --save_every_n_steps 1 >"$tmp/out" 2>"$tmp/err" &
child=$!
until [ -e "$tmp/to/halted-step00000002.safetensors" ]; do
    kill -0 $child 2>/dev/null || break
    sleep 0.1
done
kill -INT $child
wait $child
code=$?
exits 130; says err "ended by SIGINT after"
last=$(sed -n 's/^ended by SIGINT after \([0-9]*\) of.*/\1/p' "$tmp/err")
[ -s "$(printf '%s/to/halted-step%08d.safetensors' "$tmp" "${last:-0}")" ]
check "no file of step ${last:-0}" $?
finish
