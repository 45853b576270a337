#!/bin/sh
# The validation loss: pictures held out, the same number for the same weights however
# often it is taken, the training untouched by it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../pictures.sh"

model=$tmp/tiny.safetensors
tiny_model "$model"
mkdir -p "$tmp/img/2_cat" "$tmp/reg/1_animal"
for i in a b c d; do picture "$tmp/img/2_cat/$i" 64 64 "a~ 0$i" 'a grey cat'; done
picture "$tmp/reg/1_animal/r" 64 64 'zzz(((' 'an animal'

train() { # options…
    runs "$GRAPHRUN" train --pretrained_model_name_or_path "$model" --resolution 64 \
        --train_data_dir "$tmp/img" --seed 3 --network_dim 2 --learning_rate 1e-3 \
        --output_dir "$tmp/to" --output_name cat --max_train_steps 4 "$@"
    losses=$(grep -a '^validation: ' "$tmp/err" | sed 's/.*step/step/')
    sum=$("$GRAPHRUN" info --json "$tmp/to/cat.safetensors" 2>/dev/null |
        grep -o '"sshs_model_hash"[^,}]*')
}

train --validation_split 0.25 --validate_every_n_steps 2
exits 0
says err "pictures: 6 to train on (with repeats), 0 for regularisation"
says err "held out for validation: 1 pictures"
often=$losses often_sum=$sum
[ "$(echo "$often" | wc -l)" = 2 ]
check "validated after 2 and 4 updates: $often" $?
train --validation_split 0.25 --validate_every_n_epochs 5
[ "$losses" = "$(echo "$often" | tail -1)" ]
check "the last loss alone is '$losses', after others '$often'" $?
[ "$sum" = "$often_sum" ] && [ -n "$sum" ]
check "validating changed the training: '$sum', '$often_sum'" $?

# another seed of the split: another noise, perhaps another picture
train --validation_split 0.25 --validation_seed 9 --max_validation_steps 1
exits 0
[ -n "$losses" ] && [ "$losses" != "$(echo "$often" | tail -1)" ]
check "--validation_seed changes nothing: $losses" $?

# regularisation pictures stay; TOML has the same keys; dropouts are off
train --reg_data_dir "$tmp/reg" --validation_split 0.5
exits 0
says err "held out for validation: 2 pictures"
cat >"$tmp/set.toml" <<END
[general]
resolution = 64
validation_split = 0.25
validation_seed = 3
[[datasets]]
[[datasets.subsets]]
image_dir = "$tmp/img/2_cat"
shuffle_caption = true
END
runs "$GRAPHRUN" train --pretrained_model_name_or_path "$model" \
    --dataset_config "$tmp/set.toml" --seed 3 --network_dim 2 --network_dropout 0.5 \
    --max_train_steps 2 --output_dir "$tmp/to" --output_name cat --network_train_unet_only
exits 0
says err "held out for validation: 1 pictures"

train --validate_every_n_steps 2
exits 2; says err "there is nothing to validate with: give --validation_split"
train --validation_split 0.05
exits 1; says err "validation_split holds out no picture"
train --validation_split 1.5
exits 2; says err "--validation_split: got '1.5', want 0 … 0.99"

# the split decides what is trained on: to go on without it is to be told of it by name
train --validation_split 0.25 --save_state_on_train_end
exits 0
train --resume "$tmp/to/cat-state"
exits 2; says err "--validation_split: '0.25' there, '0' here"
finish
