"""GPTQ as an eager PyTorch loop, in the structure of the original scripts: one Hessian per linear, accumulated sample
by sample in fp32; Cholesky, inverse, Cholesky; a Python loop over columns; the block re-run for every group of linears
(true-sequential) and once more for its outputs. It is the yardstick of bench/compare_cpu.py, not a library."""
import time

import torch


class Hessian:
    def __init__(self, linear):
        self.samples = 0
        self.h = torch.zeros(linear.in_features, linear.in_features)

    def add(self, x):  # x [1, T, K]
        x = x.reshape(-1, x.shape[-1]).t()
        self.h *= self.samples / (self.samples + 1)
        self.samples += 1
        x = (2 / self.samples) ** 0.5 * x.float()
        self.h += x @ x.t()


def grid(w, bits):  # symmetric, per row
    levels = 2**bits - 1
    m = w.abs().amax(1)
    m = torch.where(m == 0, torch.ones_like(m), m)
    return (2 * m / levels)[:, None], (levels + 1) / 2


def quantize_linear(linear, h, bits, group, damping, block=128):
    w = linear.weight.data.clone().float()
    levels = 2**bits - 1
    dead = torch.diag(h) == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    h.diagonal().add_(damping * torch.diag(h).mean())
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    q = torch.zeros_like(w)
    columns = w.shape[1]
    for begin in range(0, columns, block):
        end = min(begin + block, columns)
        part = w[:, begin:end].clone()
        errors = torch.zeros_like(part)
        u = factor[begin:end, begin:end]
        for j in range(end - begin):
            if (begin + j) % group == 0:
                scale, zero = grid(w[:, begin + j : begin + j + group], bits)
            column = part[:, j]
            value = scale[:, 0] * (torch.clamp(torch.round(column / scale[:, 0]) + zero, 0, levels) - zero)
            q[:, begin + j] = value
            error = (column - value) / u[j, j]
            part[:, j:] -= error[:, None] @ u[j, j:][None, :]
            errors[:, j] = error
        w[:, end:] -= errors @ factor[begin:end, end:]
    linear.weight.data = q.to(linear.weight.dtype)


GROUPS = [["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["self_attn.o_proj"],
          ["mlp.gate_proj", "mlp.up_proj"], ["mlp.down_proj"]]


@torch.no_grad()
def quantize(model, windows, bits=4, group=64, damping=0.01):
    """Quantizes a Llama model in place; windows: list of [1, T] id tensors. Returns seconds."""
    start = time.perf_counter()
    inputs = [model.model.embed_tokens(w) for w in windows]
    positions = torch.arange(windows[0].shape[1])[None]
    rotary = model.model.rotary_emb(inputs[0], positions)

    def run(block, x):
        out = block(x, position_embeddings=rotary, position_ids=positions)
        return out[0] if isinstance(out, tuple) else out

    for block in model.model.layers:
        for names in GROUPS:
            linears = {name: block.get_submodule(name) for name in names}
            hessians = {name: Hessian(linear) for name, linear in linears.items()}
            hooks = [linear.register_forward_pre_hook(lambda _, args, n=name: hessians[n].add(args[0].data))
                     for name, linear in linears.items()]
            for x in inputs:
                run(block, x)
            for hook in hooks:
                hook.remove()
            for name, linear in linears.items():
                quantize_linear(linear, hessians[name].h, bits, group, damping)
        inputs = [run(block, x) for x in inputs]
    return time.perf_counter() - start
