#!/bin/sh
# --scale_weight_norms: what the optimizer pass makes of it, as text; a training's log,
# metadata and file; who is refused. The numbers: weight_norms_test.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../pictures.sh"

# ---- a recipe in, the nodes behind the updates out ----
cat >"$tmp/net.yaml" <<'END'
network: net
symbols: {B: batch, C: channels}
inputs: {x: {shape: [B, C]}}
nodes:
  proj: {op: linear, x: x, out: 4, bias: false}
outputs: {y: proj}
END
cat >"$tmp/square.yaml" <<'END'
objective: square
symbols: {B: batch, C: channels, H: height, W: width, N: chunks}
networks: [net]
inputs: {x: {shape: [B, H]}}
nodes:
  y:    {call: net, x: x}
  loss: {op: mean, x: y * y}
loss: loss
END
cat >"$tmp/r.yaml" <<'END'
recipe: r
networks: {net: {use: net.yaml}}
adapters:
  - {use: lora, on: {net: [proj]}, rank: 2, alpha: 4, lr: 0.1}
objective: {use: square.yaml}
optimizer: {use: sgd-nesterov}
train: {scale_weight_norms: 0.5}
END
cat >"$tmp/want" <<'END'
  %22 = pointwise %18 {f="x0", dtype=f32} : f32[2,64]
  %23 = pointwise %20 {f="x0", dtype=f32} : f32[4,2]
  %24 = view %22 {shape=[2,64]} : f32[2,64]
  %25 = view %23 {shape=[4,2]} : f32[4,2]
  %26 = matmul %25, %24 {ta=false, tb=false} : f32[4,64]
  %27 = pointwise %26 {f="x0 * 2", dtype=f32} : f32[4,64]
  %28 = global_norm %27 : f32[]
  %29 = pointwise %28 {f="x0 > 0.5", dtype=f32} : f32[]
  %30 = pointwise %28 {f="min(x0, 0.5)", dtype=f32} : f32[]
  %31 = pointwise %28 {f="where(x0 > 0.5, 0.5 / x0, 1)", dtype=f32} : f32[]
  %32 = pointwise %29, %17 {f="x0 * x1", dtype=f32} : f32[]
  %33 = pointwise %22, %31 {f="x0 * sqrt(x1)", dtype=f32} : f32[2,64]
  %34 = assign %18, %33, %32 : f32[2,64]
  %35 = pointwise %23, %31 {f="x0 * sqrt(x1)", dtype=f32} : f32[4,2]
  %36 = assign %20, %35, %32 : f32[4,2]
  %37 = total %29 : f64[]
  %38 = pointwise %37 {f="x0", dtype=f32} : f32[]
  %39 = total %30 : f64[]
  %40 = pointwise %39 {f="x0 / 1", dtype=f32} : f32[]
  output loss = %6
  output grad_norm = %15
  output ok = %17
  output max_norm.keys_scaled = %38
  output max_norm.average_key_norm = %40
  output max_norm.max_key_norm = %30
}
END
runs "$GRAPHRUN" compile "$tmp/r.yaml" --dump-after=optimizer --no-cache
exits 0
sed -n 's/  # .*//; /%22 = /,$p' "$tmp/out" >"$tmp/got"
mv "$tmp/got" "$tmp/out"
is out "$tmp/want"
# without it: no node more
runs "$GRAPHRUN" compile "$tmp/r.yaml" --dump-after=optimizer --no-cache \
    --set train.scale_weight_norms=0
exits 0
! grep -q assign "$tmp/out"
check "a norm of 0 leaves nodes" $?

# LoKr whose second factor is a product of two: three tensors, each times the cube root
sed -i 's/use: lora/use: lokr/' "$tmp/r.yaml"
runs "$GRAPHRUN" compile "$tmp/r.yaml" --dump-after=optimizer --no-cache
exits 0
[ "$(grep -c 'assign' "$tmp/out")" = 3 ] && [ "$(grep -c 'x0 \* x1 ^ (1 / 3)' "$tmp/out")" = 3 ]
check "not three tensors, each times the cube root" $?

# ---- training ----
model=$tmp/tiny.safetensors
tiny_model "$model"
mkdir -p "$tmp/img/1_cat"
picture "$tmp/img/1_cat/a" 64 64 'a~ 0' 'a grey cat, sleeping'
picture "$tmp/img/1_cat/b" 64 64 'zzz(((' 'a cat'
train() { # NAME options…
    name=$1
    shift
    runs "$GRAPHRUN" train --pretrained_model_name_or_path "$model" --resolution 64 \
        --seed 3 --train_data_dir "$tmp/img" --output_dir "$tmp" --learning_rate 1e-2 \
        --network_dim 3 --network_alpha 2 --max_train_steps 2 --output_name "$name" "$@"
}
train plain --no_metadata
exits 0
train none --no_metadata --scale_weight_norms 0
exits 0
cmp -s "$tmp/plain.safetensors" "$tmp/none.safetensors"
check "a norm of 0 changes the file" $?
train short --scale_weight_norms 0.05 --logging_dir "$tmp/log"
exits 0
cat "$tmp"/log/*/*/log.jsonl >"$tmp/out"
says out '"max_norm/keys_scaled": '
says out '"max_norm/average_key_norm": 0.0'
says out '"max_norm/max_key_norm": 0.05000000'
runs "$GRAPHRUN" info --json "$tmp/short.safetensors"
exits 0; says out '"ss_scale_weight_norms": "0.05"'
# sd-scripts' rule, worked out here from the file of the same update without it: up and down
# of a module that is longer than M are each multiplied by the root of M / length
train before --max_train_steps 1 --network_args conv_dim=2 conv_alpha=3
exits 0
train behind --max_train_steps 1 --network_args conv_dim=2 conv_alpha=3 \
    --scale_weight_norms 0.07 --logging_dir "$tmp/rule"
exits 0
python3 - "$tmp/before.safetensors" "$tmp/behind.safetensors" "$tmp"/rule/*/*/log.jsonl \
    >"$tmp/out" 2>"$tmp/err" <<'END'
import array, json, math, sys
M = 0.07
def tensors(path):
    data = open(path, "rb").read()
    n = int.from_bytes(data[:8], "little")
    head = json.loads(data[8:8 + n])
    def read(x):
        a, b = x["data_offsets"]
        return x["shape"], array.array("f", data[8 + n + a:8 + n + b])
    return {k: read(x) for k, x in head.items() if k != "__metadata__"}
def gram(rows): # products of every two rows
    return [[math.fsum(x * y for x, y in zip(a, b)) for b in rows] for a in rows]
before, behind = tensors(sys.argv[1]), tensors(sys.argv[2])
lengths, scaled, worst = [], 0, 0
for key in before:
    if not key.endswith(".alpha"): continue
    name = key[:-6]
    (shape, down), (_, up) = (before[name + x] for x in (".lora_down.weight", ".lora_up.weight"))
    r, row = shape[0], math.prod(shape[1:])
    # |up down|^2 = the sum of the products of both Gram matrices
    d, u = gram([down[i * row:(i + 1) * row] for i in range(r)]), gram([up[i::r] for i in range(r)])
    square = math.fsum(d[i][j] * u[i][j] for i in range(r) for j in range(r))
    length = before[key][1][0] / r * math.sqrt(max(square, 0))
    ratio = min(1, M / length) if length else 1
    scaled += ratio < 1
    lengths.append(length * ratio)
    for x, values in ((".lora_down.weight", down), (".lora_up.weight", up)):
        for a, b in zip(values, behind[name + x][1]):
            worst = max(worst, abs(b - a * math.sqrt(ratio)) / max(abs(a), 1e-12))
log = {}
for line in open(sys.argv[3]): log.update(json.loads(line))
got = [log["max_norm/" + x] for x in ("keys_scaled", "average_key_norm", "max_key_norm")]
want = [scaled, sum(lengths) / len(lengths), max(lengths)]
print("modules", len(lengths), "scaled", scaled, "worst", worst, got, want)
assert 20 < scaled < len(lengths) - 20, scaled
assert worst < 1e-6 and got[0] == want[0]
assert all(abs(a - b) <= 1e-6 * b for a, b in zip(got[1:], want[1:]))
END
check "not sd-scripts' rule" $?
# the updates before a state was saved, and those behind it: the same bytes
train whole --scale_weight_norms 0.05 --save_every_n_steps 1 --save_state --no_metadata
exits 0
train whole --scale_weight_norms 0.05 --no_metadata --output_dir "$tmp/on" \
    --resume "$tmp/whole-step00000001-state"
exits 0
cmp -s "$tmp/whole.safetensors" "$tmp/on/whole.safetensors"
check "a resumed run gives other bytes" $?
# who has no norm, and what is no norm
train dy --network_module networks.dylora --scale_weight_norms 1
exits 2; says err "adapter 'dylora' has no 'norm', which scale_weight_norms limits"
train neg --scale_weight_norms -1
exits 2
cat >"$tmp/bad.yaml" <<'END'
adapter: bad
args: {rank: 4}
wraps: [linear]
nodes:
  down:  {op: linear, x: x, out: $rank, bias: false, init: kaiming_uniform}
  up:    {op: linear, x: down, out: $out, bias: false, init: zeros}
output: {add: up}
norm: {of: down.weight * 2, scale: [down.weight, op.weight]}
save: {kohya: {down.weight: down.weight, up.weight: up.weight}}
END
runs "$GRAPHRUN" check "$tmp/bad.yaml"
exits 2; says err "bad.yaml:8:50: error: no node owns a tensor 'op.weight'; did you mean 'up.weight'?"
sed -i 's/op.weight/up.weight/; s/of: down.weight/of: dawn.weight/' "$tmp/bad.yaml"
runs "$GRAPHRUN" check "$tmp/bad.yaml"
exits 2; says err "no value 'dawn.weight' here; did you mean 'down.weight'?"
finish
