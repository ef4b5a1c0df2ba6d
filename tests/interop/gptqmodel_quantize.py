"""Quantizes a model with GPTQModel, for ptq to read: gptqmodel_quantize.py MODEL IDS OUT sym|asym plain|act-order."""
import os
import sys

os.cpu_count = lambda: 8  # GPTQModel 7.7 asks for more workers than it makes on a machine of two cores

from gptqmodel import GPTQModel, QuantizeConfig  # noqa: E402

model, ids, out, grid, order = sys.argv[1:]
rows = [[int(i) for i in line.split()] for line in open(ids) if line.strip()]
config = QuantizeConfig(bits=4, group_size=32, sym=grid == "sym", desc_act=order == "act-order")
model = GPTQModel.load(model, config, device="cpu")
model.quantize([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows], batch_size=1)
model.save(out)
