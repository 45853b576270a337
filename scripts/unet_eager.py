#!/usr/bin/env python3
"""scripts/unet_eager.py FOLDER BATCH SIDE [RUNS]: seconds of one evaluation of a Diffusers
folder's U-Net in PyTorch eager (f32, SDPA), latents of SIDE x SIDE, 77 tokens, as a line of JSON:
what `graphrun bench step lora --forward` is compared with in docs/performance.md."""
import json, statistics, sys, time

import torch
from diffusers import UNet2DConditionModel

folder, batch, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=torch.float32).eval()
x = torch.randn(batch, 4, side, side)
t = torch.full((batch,), 500)
context = torch.randn(batch, 77, unet.config.cross_attention_dim)
seconds = []
with torch.no_grad():
    for _ in range(2 + int(sys.argv[4] if len(sys.argv) > 4 else 20)):
        begin = time.perf_counter()
        unet(x, t, context)
        seconds.append(time.perf_counter() - begin)
print(json.dumps({"median_s": statistics.median(seconds[2:]), "threads": torch.get_num_threads(), "torch": torch.__version__}))
