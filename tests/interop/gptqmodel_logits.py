"""Logits of a GPTQ checkpoint by GPTQModel, in an environment of its own: gptqmodel_logits.py DIR IDS OUT."""
import sys

import torch
from gptqmodel import BACKEND, GPTQModel
from safetensors.torch import save_file

directory, ids, out = sys.argv[1:]
model = GPTQModel.load(directory, device="cpu", backend=BACKEND.TORCH, dtype=torch.float16)
rows = torch.tensor([[int(i) for i in line.split()] for line in open(ids) if line.strip()])
with torch.no_grad():
    save_file({"logits": model.model(rows).logits.float().contiguous()}, out)
