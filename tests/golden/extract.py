#!/usr/bin/env python3
"""Makes the golden files of the data tests: tests/golden/extract.py GOLDEN_TRAIN_FOLDER

From the reference numbers of sd-scripts (tokenizer.json, token_chunks.json, buckets.json,
batches.json, captions.json, images.json, lr.json, ../lora/block_lr.json): tokenizer.tsv
chunks.tsv buckets.tsv batches.tsv captions.tsv images.tsv lr.tsv block_lr.tsv; from its list of
options (../../reference/training.md, section 1): options.tsv. From the libraries themselves, OpenCV 4.14 and Pillow 11.3:
resize.tsv and pictures/ with pictures.tsv; PyTorch 2.15 and dadaptation 3.2: dadapt.safetensors. Texts are UTF-8 in hexadecimal."""
import itertools
import json
import os
import re
import sys

here = os.path.dirname(os.path.abspath(__file__))


def hexa(text):
    return text.encode("utf-8", "surrogatepass").hex() or "-"


def runs(ids):
    """1 2 2 2 -> 1 2*3"""
    return " ".join(str(i) if n == 1 else f"{i}*{n}"
                    for i, n in ((i, len(list(g))) for i, g in itertools.groupby(ids)))


def write(name, note, rows):
    with open(os.path.join(here, name), "w") as f:
        f.write(f"# {note}; made by extract.py\n")
        for row in rows:
            f.write("\t".join(str(x) for x in row) + "\n")


def tokenizer(golden):
    # left out: a NUL inside a text, and mojibake, which is not repaired
    mojibake = ("caf\u00c3\u00a9 mojibake", "\u00e2\u20ac\u0153quoted\u00e2\u20ac\u009d",
                "l\u2019humanit\u00c3\u00a9")
    cases = json.load(open(golden + "/tokenizer.json"))["cases"]
    kept = [c for c in cases if "\0" not in c["text"] and c["text"] not in mojibake]
    write("tokenizer.tsv", "text, ids without BOS and EOS",
          [(hexa(c["text"]), " ".join(map(str, c["ids"][1:-1])) or "-") for c in kept])
    cases = json.load(open(golden + "/token_chunks.json"))["cases"]
    write("chunks.tsv", "chunks, padding id, text, ids of all rows as id or id*count",
          [((c["max_token_length"] or 75) // 75, 49407 if c["tokenizer"] == "v1" else 0,
            hexa(c["text"]), runs([i for row in c["input_ids"] for i in row]))
           for c in cases])
    weighted = json.load(open(golden + "/token_chunks.json"))["weighted"]
    rows = []
    for c in weighted:
        for key, chunks in (("None", 1), ("225", 3)):
            inner = [w for row in c["weights_" + key] for w in row[1:-1]]
            rows.append((chunks, hexa(c["text"]), runs([i for row in c["ids_" + key] for i in row]),
                         " ".join(f"{len(list(g))}x{w!r}" for w, g in itertools.groupby(inner)),
                         " ".join(f"{hexa(text)}={weight!r}" for text, weight in c["parsed"])))
    write("weights.tsv", "chunks, text, ids of all rows as id or id*count, weights of the inner tokens as "
          "countxweight, pieces as text=weight", rows)


def buckets(golden):
    data = json.load(open(golden + "/buckets.json"))
    rows = []
    for s in data["settings"]:
        rows.append(("rule", *s["resolution"], int(s.get("enable_bucket", True)),
                     int(s.get("bucket_no_upscale", False)), s.get("min_bucket_reso", 256),
                     s.get("max_bucket_reso", 1024), s.get("bucket_reso_steps", 64),
                     " ".join(f"{w}x{h}" for w, h in s.get("predefined") or []) or "-"))
        for a in s["assign"]:
            if a.get("bucket") and min(a["bucket"]) > 0:
                rows.append(("fit", *a["size"], *a["bucket"], *a["resized"]))
            else:
                rows.append(("none", *a["size"]))
    for a in data["adjust_min_max"]:
        result = a["result"] if a["result"] != "error" else (0, 0)
        rows.append(("adjust", *a["resolution"], a["min"], a["max"], a["steps"], *result))
    write("buckets.tsv", "rule: w h enable no_upscale min max step list; fit: image, "
          "bucket, resized; adjust: w h min max step, adjusted or 0 0", rows)


def batches(golden):
    data = json.load(open(golden + "/batches.json"))
    rows = []
    for c in data["epoch_arithmetic"]:
        rows.append(("epoch", c["batch_size"], c["batches_per_epoch"],
                     " ".join(f"{w}x{h}*{n}" for (w, h), n in c["images"])))
    for c in data["reg_balancing"]:
        rows.append(("reg", c["num_train_images_with_repeats"],
                     " ".join(map(str, c["reg_repeats_in"])),
                     " ".join(map(str, c["reg_repeats_effective"]))))
    write("batches.tsv", "epoch: batch size, batches, images; reg: training images with "
          "repeats, repeats of the reg images, after balancing", rows)


def captions(golden):
    data = json.load(open(golden + "/captions.json"))
    rows = []
    for c in data["cases"]:
        o = {**data["defaults"], **c["options"]}
        text = lambda key: hexa(o[key] or "")
        rows.append((hexa(c["caption"]), int(o["shuffle_caption"]), int(o["enable_wildcard"]), o["keep_tokens"],
                     text("caption_separator"), text("keep_tokens_separator"), text("secondary_separator"),
                     text("caption_prefix"), text("caption_suffix"), o["caption_dropout_rate"],
                     o["caption_dropout_every_n_epochs"], o["caption_tag_dropout_rate"], o["token_warmup_min"],
                     o["token_warmup_step"], c["epoch"], c["step"], c["max_train_steps"],
                     " ".join(map(str, c["random"])) or "-", " ".join(map(str, c["choice"])) or "-", c["shuffle"],
                     c["left_random"], c["left_choice"], hexa(c["result"])))
    write("captions.tsv", "caption, shuffle, wildcard, keep_tokens, separator, keep separator, secondary, prefix, "
          "suffix, dropout rate, every n epochs, tag dropout rate, warm-up min, warm-up step, epoch, step, max steps, "
          "uniform draws, choices, what the shuffle does, draws and choices left over, result", rows)


def images(golden):
    rows = []
    for case, c in enumerate(json.load(open(golden + "/images.json"))):
        options = dict(zip(c["argv"], c["argv"][1:]))
        rows.append(("case", case, c["num_train_images"], c["num_reg_images"],
                     c["batches_per_epoch"], int("--bucket_no_upscale" in c["argv"]),
                     options.get("--train_batch_size", 1)))
        rows.append(("tags", json.dumps(c["tag_frequency"])))
        for i in c["images"]:
            rows.append(("image", i["path"], *i["size"], i["repeats"], *i["bucket"],
                         *i["resized"], hexa(i["caption"])))
    for root, _, files in os.walk(golden + "/images"):
        for f in sorted(files):
            if f.endswith(".caption"):
                path = os.path.join(root, f)
                rows.append(("caption", os.path.relpath(path, golden + "/images"),
                             open(path, "rb").read().hex()))
    write("images.tsv", "case: training images, reg images, batches, no_upscale, batch "
          "size; image: path, size, repeats, bucket, resized, caption; caption: file", rows)


def pixels(w, h, seed):
    import numpy as np
    x = seed
    out = []
    for _ in range(w * h * 3):
        x = (x * 1664525 + 1013904223) % 2**32
        out.append(x >> 24)
    return np.array(out, dtype=np.uint8).reshape(h, w, 3)


def resize():
    import cv2
    from PIL import Image
    filters = [("area", cv2.INTER_AREA), ("lanczos", None), ("linear", cv2.INTER_LINEAR),
               ("cubic", cv2.INTER_CUBIC), ("nearest", cv2.INTER_NEAREST_EXACT)]
    sizes = [(12, 8, 6, 4), (12, 9, 4, 3), (13, 11, 7, 5), (9, 7, 9, 3), (5, 4, 9, 11),
             (11, 6, 5, 8), (1, 1, 3, 2), (3, 2, 1, 1), (16, 3, 5, 3)]
    rows = []
    for seed, (w, h, ow, oh) in enumerate(sizes):
        a = pixels(w, h, seed)
        for name, f in filters:
            out = (cv2.resize(a, (ow, oh), interpolation=f) if f is not None else
                   __import__("numpy").array(Image.fromarray(a).resize((ow, oh), Image.LANCZOS)))
            rows.append((name, seed, w, h, ow, oh, out.tobytes().hex()))
    write("resize.tsv", "filter, seed of the picture, its size, new size, pixels", rows)


def pictures():
    import numpy as np
    from PIL import Image
    folder = os.path.join(here, "pictures")
    os.makedirs(folder, exist_ok=True)
    rgb = pixels(9, 7, 5)
    soft = np.stack([np.add.outer(np.arange(14) * 9, np.arange(17) * 5) % 256,
                     np.add.outer(np.arange(14) * 3, np.arange(17) * 8) % 256,
                     np.add.outer(255 - np.arange(14) * 7, np.arange(17)) % 256], -1)
    rgba = np.concatenate([rgb, pixels(9, 7, 9)[..., :1]], -1)
    noise, smooth = Image.fromarray(rgba), Image.fromarray(soft.astype(np.uint8))
    made = []

    def save(name, image, **options):
        image.save(os.path.join(folder, name), **options)
        made.append(name)

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        save(f"{mode.lower()}.png", noise.convert(mode))
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        save(f"{mode.lower()}.bmp", noise.convert(mode))
    save("smooth.jpg", smooth, quality=90, subsampling=2)
    save("progressive.jpg", smooth, quality=60, progressive=True)
    save("grey.jpg", smooth.convert("L"))
    save("cmyk.jpg", smooth.convert("CMYK"))
    save("rgb.webp", smooth, lossless=False, quality=80)
    save("alpha.webp", noise, lossless=True, exact=True)
    rows = []
    for name in made:
        a = np.array(Image.open(os.path.join(folder, name)).convert("RGB"))
        rows.append((name, a.shape[1], a.shape[0], a.tobytes().hex()))
    write("pictures.tsv", "file in pictures/, size, pixels as Pillow reads them", rows)


def learning_rates(golden):
    rows = []
    for c in json.load(open(golden + "/lr.json"))["cases"]:
        o = c["options"]
        rules = [a.split("=", 1)[1].strip("'") for a in o.get("lr_scheduler_args", [])]
        keys = ("lr_warmup_steps", "lr_decay_steps", "lr_scheduler_num_cycles", "lr_scheduler_power",
                "lr_scheduler_timescale", "lr_scheduler_min_lr_ratio")
        rows.append((o["lr_scheduler"], c["base_lr"], c["max_train_steps"], *[o.get(k, "-") for k in keys],
                     *(rules or ["-"]), " ".join(repr(x) for x in c["lr"])))
    write("lr.tsv", "schedule, learning rate, steps, warm-up, decay, cycles, power, timescale, smallest part, "
          "rules, rates", rows)


def safetensors(path):
    import numpy as np
    data = open(path, "rb").read()
    n = int.from_bytes(data[:8], "little")
    types = {"F32": np.float32, "U8": np.uint8, "I32": np.int32}
    tensors = {}
    for key, t in json.loads(data[8:8 + n]).items():
        if key != "__metadata__":
            a, b = (8 + n + x for x in t["data_offsets"])
            tensors[key] = np.frombuffer(data[a:b], types[t["dtype"]]).reshape(t["shape"])
    return tensors


def write_safetensors(name, tensors):
    names = {"float32": "F32", "uint8": "U8", "int32": "I32"}
    header, blobs, at = {}, [], 0
    for key in sorted(tensors):
        raw = tensors[key].tobytes()
        header[key] = {"dtype": names[str(tensors[key].dtype)], "shape": list(tensors[key].shape),
                       "data_offsets": [at, at + len(raw)]}
        blobs.append(raw)
        at += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(here, name), "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def optimizers(golden):
    # of the large tensor c only what 8 bits and the skipped step need
    large = {"p0.c", "adamw.p6.c", "adamw_skip.p6.c", "adamw8bit.p1.c", "adamw8bit.p6.c",
             *(f"g{k}.c" for k in range(1, 7)), "adamw8bit.state1.c", "adamw8bit.state2.c",
             "adamw8bit.absmax1.c", "adamw8bit.absmax2.c"}
    t = safetensors(golden + "/optimizers.safetensors")
    write_safetensors("optimizers.safetensors",
                      {k: v for k, v in t.items() if not k.endswith(".c") or k in large})


def adaptive():
    # gradients that mostly agree, so that d grows in six steps
    import numpy as np
    import torch
    import dadaptation
    from dadaptation.experimental import DAdaptAdanIP
    runs = {"dadapt_sgd": (dadaptation.DAdaptSGD, {}),
            "dadapt_sgd_momentum": (dadaptation.DAdaptSGD, dict(momentum=0.5, weight_decay=0.1)),
            "dadapt_adagrad": (dadaptation.DAdaptAdaGrad, {}),
            "dadapt_adagrad_momentum": (dadaptation.DAdaptAdaGrad, dict(momentum=0.5, weight_decay=0.1)),
            "dadapt_adan": (dadaptation.DAdaptAdan, {}),
            "dadapt_adan_no_prox": (dadaptation.DAdaptAdan, dict(weight_decay=0.3, no_prox=True)),
            "dadapt_adan_ip": (DAdaptAdanIP, {}),
            "momentum": (torch.optim.SGD, dict(momentum=0.9, weight_decay=0.05))}
    rng = np.random.default_rng(20261125)
    shapes = {"a": (7, 5), "b": (12,)}
    draw = lambda shape: rng.standard_normal(shape).astype(np.float32)
    t = {"p0." + n: draw(s) for n, s in shapes.items()}
    way = {n: draw(s) for n, s in shapes.items()}
    for k in range(1, 7):
        t.update({f"g{k}.{n}": way[n] + np.float32(0.3) * draw(s) for n, s in shapes.items()})
    for run, (kind, options) in runs.items():
        p = {n: torch.nn.Parameter(torch.tensor(t["p0." + n])) for n in shapes}
        optimizer = kind(list(p.values()), lr=0.01 if run == "momentum" else 1.0,
                         **({} if run == "momentum" else {"d0": 1e-3}), **options)
        for k in range(1, 7):
            for n in shapes:
                p[n].grad = torch.tensor(t[f"g{k}.{n}"])
            optimizer.step()
            t.update({f"{run}.p{k}.{n}": p[n].detach().numpy().copy() for n in shapes})
        if run != "momentum":
            print(run, "d grew to", optimizer.param_groups[0]["d"])
    write_safetensors("dadapt.safetensors", t)


def losses(golden):
    import numpy as np
    write_safetensors("noise_ops.safetensors", safetensors(golden + "/noise_ops.safetensors"))
    d = json.load(open(golden + "/loss_weights.json"))
    t = {"timesteps": np.array(d["timesteps"], np.int32)}
    for k in ("pred", "target"):
        t[k] = np.array(d[k], np.float32).reshape(d["shape"])
    rows = []
    for c in d["cases"]:
        o = ["prediction=v"] if c.get("v_param") else []
        if c["kind"] == "loss":
            o += [f"{k}={c[k]}" for k in ("loss_type", "huber_schedule", "huber_c", "huber_scale")]
        else:
            o.append(f"{c['kind']}={c.get('gamma', c.get('value', 'true'))}")
        rows.append((c["kind"], " ".join("--set " + x for x in o),
                     " ".join(repr(x) for x in c.get("weight", c.get("loss")))))
    write_safetensors("losses.safetensors", t)
    write("losses.tsv", "kind, arguments of ddpm.yaml, weights by timestep (kind loss: losses of "
          "the three samples at timesteps 10, 400, 900)", rows)


def block_weights(golden):
    rows = [(" ".join(f"{k}={v}" for k, v in c["args"].items()), " ".join(repr(w) for w in c["weights"]))
            for c in json.load(open(golden + "/../lora/block_lr.json"))]
    write("block_lr.tsv", "network_args, weights of the 25 blocks", rows)


def options(golden):
    text = open(golden + "/../../reference/training.md").read()
    text = text[text.index("## 1. Command line"):text.index("Start-up checks that stop")]
    table, data = text.split("Dataset options on the command line")
    # of rows with several marks: what the A or B of the mark stands for
    marked = {"--logging_dir": "A", "--log_prefix": "A", "--log_with": "C", "--log_tracker_name": "C",
              "--initial_epoch": "C", "--initial_step": "C", "--skip_until_initial_step": "C"}
    several = {"--validation_*": ["--validation_seed", "--validation_split"],
               "--validate_every_n_*": ["--validate_every_n_steps", "--validate_every_n_epochs"],
               "down_/mid_/up_lr_weight": [p + "_lr_weight" for p in ("down", "mid", "up")],
               "..._state": ["--save_last_n_epochs_state", "--save_last_n_steps_state"]}
    rows = {}
    for line in table.splitlines():
        cells = line.split("|")
        mark = cells[-3].strip() if line.startswith("| `--") else ""
        for name in re.findall(r"`(--[\w*]+|\.\.\._state)`", cells[1]) if mark else ():
            for n in several.get(name, [name]):
                rows[n] = marked.get(n) or mark.split("/")[-1]
        if "`--network_args`" in line:
            for key in cells[-2].strip().split(", "):
                rows.update(("--network_args " + n, mark) for n in several.get(key, [key]))
    for name in re.findall(r"`(--\w+)`", data):
        rows.setdefault(name, "A")
    rows["--cache_info"] = "C"  # reads the same files with and without
    write("options.tsv", "option of train_network, mark: A must be there, B is useful, C has no effect or is refused",
          rows.items())


if __name__ == "__main__":
    for part in (tokenizer, buckets, batches, captions, images, learning_rates, optimizers, losses,
                 block_weights, options):
        part(sys.argv[1])
    resize()
    pictures()
    adaptive()
