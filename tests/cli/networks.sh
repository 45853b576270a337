#!/usr/bin/env bash
# Networks as sd-scripts makes them from --network_dim, --network_alpha and --network_args
# (golden/lora's networks.json, 19 cases): the names, ranks, alphas, shapes and blocks of all
# modules, and which rates they learn at under five combinations of learning rates. One
# combination per case; all of them with ALL=1.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../pictures.sh"

tiny_model "$tmp/tiny.safetensors"
mkdir -p "$tmp/img/1_cat"
picture "$tmp/img/1_cat/a" 64 64 'a~ 0' 'a cat'
cat >"$tmp/compare.py" <<'END'
import collections, gzip, json, subprocess, sys
program, golden, tmp, every = sys.argv[1:]
cases = json.load(gzip.open(golden))
bad = runs = 0

def dry(case, lr):
    words = [program, "train", "--dry-run", "--json", "--quiet", "--seed", "1", "--resolution", "64",
             "--pretrained_model_name_or_path", tmp + "/tiny.safetensors", "--train_data_dir", tmp + "/img",
             "--max_train_steps", "1", "--output_dir", tmp + "/to", "--learning_rate", str(lr["learning_rate"])]
    for key in ("unet_lr", "text_encoder_lr"):
        words += ["--" + key, str(lr[key])] if lr[key] is not None else []
    for key in ("network_dim", "network_alpha"):
        words += ["--" + key, str(case[key])] if case[key] is not None else []
    if case["network_args"]:
        words += ["--network_args", *(f"{k}={v}" for k, v in case["network_args"].items())]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)

def same(name, what, got, want):
    global bad
    if got != want:
        bad += 1
        odd = sorted(map(str, set(got) ^ set(want)))[:4]
        print(f"{name}: {what}: {len(got)}, want {len(want)}; only in one: {odd}")

for i, (name, case) in enumerate(cases.items()):
    combinations = list(case["optimizer_groups"].items())
    for kind, lr in combinations if every else [combinations[i % len(combinations)]]:
        runs += 1
        j = dry(case, lr)
        # of a network whose rate is 0 graphrun makes none, sd-scripts makes them and leaves them be
        off = ["lora_te_"] if lr["text_encoder_lr"] == 0 else []
        want = {(n, d, a, tuple(down), tuple(up), block) for n, d, a, down, up, block in case["modules"]
                if not n.startswith(tuple(off))}
        got = {(m["name"], m["dim"], m["alpha"], tuple(m["tensors"]["lora_down.weight"]),
                tuple(m["tensors"]["lora_up.weight"]), m["block"]) for m in j["modules"]}
        same(name, kind + ", modules", got, want)
        # by network and rate, to 9 digits
        want, got = collections.Counter(), collections.Counter()
        for g in lr["groups"]:
            network = "text_encoder" if g["name"].startswith("textencoder") else "unet"
            want[network, f"{g['lr']:.9g}"] += g["elements"]
        for g in j["groups"]:
            got[g["network"], f"{g['lr']:.9g}"] += g["parameters"]
        same(name, kind + ", groups", set(got.items()), set(want.items()))
print(f"{len(cases)} cases, {runs} dry runs, {bad} differ")
sys.exit(bad > 0)
END
runs python3 "$tmp/compare.py" "$GRAPHRUN" tests/golden/networks.json.gz "$tmp" "${ALL:-}"
exits 0
says out "19 cases"
says out " 0 differ"
cat "$tmp/out"
finish
