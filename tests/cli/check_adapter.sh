#!/bin/sh
# `check ADAPTER` runs it on small layers: every shipped adapter changes nothing before it
# has learnt and can be merged; one that does otherwise is told so.
. "$(dirname "$0")/lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)

runs "$GRAPHRUN" check "$top"/graphs/adapters/*.yaml
exits 0; silent err
[ "$(grep -c ': changes nothing at the start; can be merged$' "$tmp/out")" = \
    "$(find "$top/graphs/adapters" -name '*.yaml' | wc -l)" ]
check "not every shipped adapter is proved" $?

cat >"$tmp/loud.yaml" <<'END'
adapter: loud
args: {rank: 4}
wraps: [linear, conv2d]
nodes:
  lora_down: {op: like, x: x, out: $rank, bias: false}
  lora_up:   {op: linear, x: lora_down, out: $out, bias: false}
output: {add: lora_up}
save:
  kohya: {lora_down.weight: lora_down.weight, lora_up.weight: lora_up.weight}
END
runs "$GRAPHRUN" check "$tmp/loud.yaml"
exits 2
says err "loud.yaml:1:1: error: adapter 'loud' changes a linear before it has learnt: by"

sed 's/adapter: loud/adapter: bent/; s/x: lora_down, out: $out, bias: false/x: silu(lora_down), out: $out, bias: false, init: zeros/' \
    "$tmp/loud.yaml" >"$tmp/bent.yaml"
runs "$GRAPHRUN" check "$tmp/bent.yaml"
exits 0
says out "(adapter bent): changes nothing at the start; cannot be merged, it is not affine in its input"

# a bend that only convolutions have is found too
sed -i 's/wraps: .*/wraps: [conv2d]/' "$tmp/bent.yaml"
runs "$GRAPHRUN" check "$tmp/bent.yaml"
exits 0
says out "cannot be merged"

# a tensor that cannot learn: where its way ends
sed 's/output: .*/output: {add: plain}/
     s/  lora_up: .*/&\n  plain: {op: like, x: x, out: $out, init: zeros}/' "$tmp/loud.yaml" >"$tmp/idle.yaml"
runs "$GRAPHRUN" check "$tmp/idle.yaml"
exits 2
says err "lora_down.weight' has no gradient path to an output"
says err "note: the path ends at"

# in a recipe, a layer that nothing uses keeps its modules: they are saved, never trained
printf 'recipe: skipping\nfrom: [lora.yaml]\noptions: {clip_skip: 2}\n' >"$tmp/skipping.yaml"
runs "$GRAPHRUN" check "$tmp/skipping.yaml"
exits 0
says out "skipping.yaml: ok (recipe skipping)"
finish
