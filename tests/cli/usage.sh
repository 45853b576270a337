#!/bin/sh
# The command line as such: commands, help, version, unknown words, exit codes.
. "$(dirname "$0")/lib.sh"
top=$PWD

runs "$GRAPHRUN"
exits 2; silent out; says err "usage: graphrun COMMAND"
runs "$GRAPHRUN" --help
exits 0; silent err; says out "  train "
runs "$GRAPHRUN" help train
exits 0; says out "usage: graphrun train [RECIPE] [options]"; says out "--network_dim N"
cp "$tmp/out" "$tmp/help"
runs "$GRAPHRUN" train --nonsense --help
exits 0; is out "$tmp/help"
runs "$GRAPHRUN" train -h
exits 0; is out "$tmp/help"

runs "$GRAPHRUN" --version
exits 0; silent err
says out "graphrun 0."; says out "commit: "; says out "backends: cpu"
says out "instruction set: "; says out "libyaml "; says out "schema version: "
says out "plan version: "

runs "$GRAPHRUN" trian
exits 2; silent out; says err "error: unknown command 'trian'; did you mean 'train'?"
runs "$GRAPHRUN" help trian
exits 2; says err "unknown command 'trian'"

# judged from the command line alone: exit 2, nothing on stdout, nothing written
cd "$tmp" || exit 1
runs "$GRAPHRUN" train --network_dmi 4
exits 2; silent out; says err "unknown option '--network_dmi'; did you mean '--network_dim'?"
runs "$GRAPHRUN" train --network_dim four
exits 2; says err "--network_dim: got 'four', want an integer"
runs "$GRAPHRUN" train --network-dim
exits 2; says err "--network_dim wants a value"
runs "$GRAPHRUN" train --network_args conv_dmi=4
exits 2; says err "did you mean 'conv_dim'?"
runs "$GRAPHRUN" train --save_model_as zip
exits 2; says err "--save_model_as: got 'zip', want one of safetensors, ckpt, pt"
runs "$GRAPHRUN" train --deepspeed
exits 2; says err "--deepspeed is not supported"
runs "$GRAPHRUN" train --fp8_base --network_dmi 4 --in_jsn x --zero_stage 2
exits 2; says err "--fp8_base is not supported"
says err "error: unknown option '--network_dmi'; did you mean '--network_dim'?"
says err "error: unknown option '--in_jsn'; did you mean '--in_json'?"
says err "error: --zero_stage is not supported"
runs "$GRAPHRUN" train a.yaml b.yaml
exits 2; says err "'train' takes at most 1 word, got 2"
[ "$(ls | sort | tr '\n' ' ')" = "err help out " ]
check "something was written" $?

# train's options in the original's groups, each group and each option once
runs "$GRAPHRUN" train --help
exits 0
sed -n 's/^\([a-z][a-z :,-]*\):$/\1/p' "$tmp/out" | sed '/^all commands/,$d' >"$tmp/groups"
cat >"$tmp/want" <<'END'
model
model metadata
dataset
dataset, beyond sd-scripts
dataset config
training: the run
masked loss
custom training: weights of losses and captions
training: noise and loss
training: files
training: samples
training: logs
optimizer
network
validation
beyond sd-scripts
END
diff "$tmp/want" "$tmp/groups" >"$tmp/err"
check "other groups" $?
[ -z "$(grep -o '^  --[a-z0-9_]*' "$tmp/out" | sort | uniq -d)" ]
check "an option is listed twice" $?
sed -n '/^network:/,/^$/p' "$tmp/out" >"$tmp/network"
mv "$tmp/network" "$tmp/out"
says out '  --unet_lr '; says out '  --save_model_as '; says out '  --scale_weight_norms '
# the whole help screen of a small command
runs "$GRAPHRUN" docs --help
exits 0
cat >"$tmp/want" <<'END'
usage: graphrun docs man|bash|zsh [options]
Prints the man page or a shell's completion.

all commands:
  --threads N                     worker threads; 0: all cores (default 0)
  --json                          results as JSON, for programs
  --quiet                         no progress and no notes
  --verbose                       say more about what is done
  --help                          this text
END
is out "$tmp/want"
runs "$GRAPHRUN" docs
exits 2; says err "'docs' wants man|bash|zsh"

# output that cannot be written is a failure
if [ -w /dev/full ]; then
    "$GRAPHRUN" --help >/dev/full 2>"$tmp/err"
    code=$?
    ran="graphrun --help >/dev/full"
    exits 1; says err "cannot write to stdout"
fi
# a graph file that is inside the program, by its path or its name
runs "$GRAPHRUN" graphs show adapters/lora.yaml
exits 0; is out "$top/graphs/adapters/lora.yaml"
runs "$GRAPHRUN" graphs show recipes/lora
exits 0; is out "$top/graphs/recipes/lora.yaml"
runs "$GRAPHRUN" graphs show loha
exits 0; is out "$top/graphs/adapters/loha.yaml"
runs "$GRAPHRUN" graphs show lora
exits 2; says err "'lora' is 'adapters/lora.yaml' and 'recipes/lora.yaml': say which"
runs "$GRAPHRUN" graphs show lohaa
exits 2; says err "no 'lohaa'; did you mean 'loha'?"
finish
