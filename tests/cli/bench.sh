#!/bin/sh
# `bench`: JSON lines with the numbers that are promised, for a small recipe. How fast it is
# is not asked here.
. "$(dirname "$0")/lib.sh"

cat >"$tmp/small.yaml" <<'END'
recipe: small
from: [lora.yaml]
options: {pretrained_model_name_or_path: ""}
networks:
  unet:         {use: unet, variant: tiny}
  text_encoder: {use: clip, variant: tiny}
  vae_encoder:  {use: vae_encoder, variant: tiny}
data: {resolution: [64, 64]}
END

number() { # number KEY LINE: a number above 0
    sed -n "$2p" "$tmp/out" | grep -Eq "\"$1\": [0-9.]*[1-9]"
    check "line $2 has no number '$1'" $?
}

runs "$GRAPHRUN" bench step "$tmp/small.yaml" --runs 2
exits 0; silent err
[ "$(wc -l <"$tmp/out")" = 1 ]
check "step: one line" $?
says out '"recipe": "small"'
for key in median_s rss_mb planned_mb gflops share_of_peak; do number "$key" 1; done

runs "$GRAPHRUN" bench kernels "$tmp/small.yaml" --runs 1 --exact
exits 0; silent err
number peak_gflops 1
number peak_gb_per_s 1
says out '"op": "conv2d", "kernel": "ref"'
for key in count ms gb_per_s share_of_peak; do number "$key" 2; done

# every step of the plan is in one of the lines
steps=$("$GRAPHRUN" compile "$tmp/small.yaml" --exact --json | sed -n 's/.*"steps": \([0-9]*\).*/\1/p')
sum=$(sed -n 's/.*"count": \([0-9]*\).*/\1/p' "$tmp/out" | awk '{ s += $1 } END { print s }')
[ "$steps" = "$sum" ]
check "counts add up to $sum, the plan has $steps steps" $?

runs "$GRAPHRUN" bench step "$tmp/small.yaml" --forward --runs 2
exits 0; silent err
says out '"recipe": "unet"'
for key in median_s rss_mb planned_mb gflops share_of_peak; do number "$key" 1; done

runs "$GRAPHRUN" bench steps
exits 2
says err "bench: got 'steps', want 'step' or 'kernels'"
finish
