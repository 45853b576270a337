#!/bin/sh
# --config_file and --output_config: options as TOML.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../pictures.sh"
model=$tmp/tiny.safetensors
tiny_model "$model"

cat >"$tmp/a.toml" <<END
[model]
pretrained_model_name_or_path = "$model"
[network.deeper]
network_dim = 6
network_alpha = 3
network_args = ["conv_dim=2", "conv_alpha=1"]
network_train_unet_only = true
xformers = true
[rates]
learning_rate = 2e-5
seed = 4
max_train_steps = 20
flip_aug = false
resolution = 64
END
dry() { runs "$GRAPHRUN" train --dry-run "$@"; }
dry --config_file "$tmp/a" # without its ending
exits 0; says err "note: --xformers has no effect"
says out "      6      3      0.5 IN01     2e-05"; says out "steps: 20"
dry --config_file "$tmp/a.toml" --network_dim 2 --quiet
exits 0; says out "      2      3      1.5 IN01     2e-05"; silent err

wrong() { # TOML-LINE MESSAGE
    printf '%s\n' "$1" >"$tmp/w.toml"
    dry --config_file "$tmp/w.toml"
    exits 2; says err "$2"
}
wrong 'network_dmi = 4' "w.toml:1:1: error: no option 'network_dmi'; did you mean 'network_dim'?"
wrong 'flip_aug = 1' "w.toml:1:12: error: 'flip_aug' is an integer, want true or false"
wrong 'network_dim = "four"' "--network_dim: got 'four', want an integer"
says err "note: with the options of '$tmp/w.toml'"
wrong 'fp8_base = true' "--fp8_base is not supported"
wrong 'seed = 1979-05-27' "is no value of an option"
wrong 'seed = ' "w.toml:1"
dry --config_file "$tmp/nowhere.toml"
exits 1; says err "nowhere.toml"

# what is written reads back as the same options
runs "$GRAPHRUN" train --network_dim 6 --network_args conv_dim=2 --seed 4 --flip_aug \
    --training_comment 'a "quoted" text' --unet_lr 1e-5 --config_file "$tmp/b" --output_config
exits 0
cat >"$tmp/want" <<END
flip_aug = true
seed = 4
network_dim = 6
network_args = ["conv_dim=2"]
unet_lr = 1e-05
training_comment = "a \"quoted\" text"
END
cp "$tmp/b.toml" "$tmp/out"
is out "$tmp/want"
runs "$GRAPHRUN" train --config_file "$tmp/b.toml" --output_config
exits 1; says err "exists"
runs "$GRAPHRUN" train --output_config
exits 2; says err "--output_config wants --config_file"
finish
