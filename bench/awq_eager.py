"""AWQ as eager PyTorch, in the structure of the original scripts: all windows as one batch, the inputs of every linear
kept by hooks; for each of 20 ratios the group's weights are replaced, the inspected module runs again and the weights
are put back; the clip search by broadcasting, 256 rows at a time. It is the yardstick of bench/compare_cpu.py, not a
library."""
import time

import torch

RATIOS = 20


def fake_quantize(w, bits, group):  # asymmetric, per row and group
    shape = w.shape
    w = w.reshape(-1, group)
    high, low = w.amax(1, keepdim=True), w.amin(1, keepdim=True)
    levels = 2**bits - 1
    scale = (high - low).clamp(min=1e-5) / levels
    zero = (-torch.round(low / scale)).clamp(0, levels)
    return ((torch.clamp(torch.round(w / scale) + zero, 0, levels) - zero) * scale).reshape(shape)


def search_scales(module, run, linears, x, bits, group):
    """Scales of linears that share input x; run() is the output of the inspected module."""
    with torch.no_grad():
        expected = run()
        a = x.abs().reshape(-1, x.shape[-1]).mean(0)
        saved = {name: value.clone() for name, value in module.state_dict().items()}
        losses, best, chosen = [], float("inf"), None
        for i in range(RATIOS):
            t = a.pow(i / RATIOS).clamp(min=1e-4)
            t = t / (t.max() * t.min()).sqrt()
            for linear in linears:
                linear.weight.mul_(t)
                linear.weight.data = fake_quantize(linear.weight.data, bits, group) / t
            losses.append((expected - run()).float().pow(2).mean().item())
            if losses[-1] < best:
                best, chosen = losses[-1], t
            module.load_state_dict(saved)
    return chosen, losses


def search_clip(w, x, bits, group, tokens=512, steps=10, rows=256):
    x = x.reshape(-1, x.shape[-1])
    x = x[:: max(1, x.shape[0] // tokens)].reshape(1, -1, w.shape[1] // group, group)
    found = []
    for part in w.split(rows):
        part = part.reshape(part.shape[0], 1, -1, group)
        largest = part.abs().amax(-1, keepdim=True)
        expected = (x * part).sum(-1)
        best, limit = torch.full_like(largest, 1e9), largest.clone()
        for i in range(steps):
            candidate = largest * (1 - i / 20)
            q = fake_quantize(torch.minimum(torch.maximum(part, -candidate), candidate), bits, group)
            error = ((x * q).sum(-1) - expected).pow(2).mean(1).reshape(largest.shape)
            limit = torch.where(error < best, candidate, limit)
            best = torch.minimum(error, best)
        found.append(limit.squeeze(1))
    return torch.cat(found)


@torch.no_grad()
def quantize(model, windows, bits=4, group=64, layers=None):
    """Quantizes a Llama model in place; windows: ids [S, T]. Returns seconds and [{layers, best_ratio, loss}]."""
    start, report = time.perf_counter(), []
    hidden = model.model.embed_tokens(windows)
    positions = torch.arange(windows.shape[1])[None]
    rotary = model.model.rotary_emb(hidden, positions)

    for index, block in enumerate(model.model.layers[:layers]):
        attention, mlp = block.self_attn, block.mlp
        named = {name: m for name, m in block.named_modules() if isinstance(m, torch.nn.Linear)}
        inputs = {}
        hooks = [m.register_forward_pre_hook(lambda _, args, n=name: inputs.__setitem__(n, args[0]))
                 for name, m in named.items()]
        out = block(hidden, position_embeddings=rotary, position_ids=positions)
        hidden = out[0] if isinstance(out, tuple) else out
        for hook in hooks:
            hook.remove()

        x_attention, x_mlp = inputs["self_attn.q_proj"], inputs["mlp.gate_proj"]
        run_attention = lambda: attention(x_attention, position_embeddings=rotary, attention_mask=None)[0]
        groups = [(block.input_layernorm, attention, run_attention, ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"])]
        alone = lambda name: (lambda: named[name](inputs[name]))
        if attention.v_proj.weight.shape == attention.o_proj.weight.shape:
            groups.append((attention.v_proj, attention.o_proj, alone("self_attn.o_proj"), ["self_attn.o_proj"]))
        groups.append((block.post_attention_layernorm, mlp, lambda: mlp(x_mlp), ["mlp.gate_proj", "mlp.up_proj"]))
        groups.append((mlp.up_proj, mlp.down_proj, alone("mlp.down_proj"), ["mlp.down_proj"]))

        scales = []
        for _, module, run, names in groups:
            t, losses = search_scales(module, run, [named[n] for n in names], inputs[names[0]], bits, group)
            scales.append(t)
            report.append({"layers": [f"model.layers.{index}.{n}" for n in names],
                           "best_ratio": losses.index(min(losses)) / RATIOS, "loss": losses})
        for (before, _, _, names), t in zip(groups, scales):
            before.weight.div_(t if before.weight.dim() == 1 else t[:, None])
            x = inputs[names[0]] / t
            for name in names:
                named[name].weight.mul_(t)
                inputs[name] = x
        for name, linear in named.items():
            w = linear.weight.data
            if not name.endswith(("q_proj", "k_proj")):
                limit = search_clip(w, inputs[name], bits, group)
                w = torch.minimum(torch.maximum(w.reshape(*limit.shape[:2], group), -limit), limit).reshape(w.shape)
            linear.weight.data = fake_quantize(w, bits, group)
    return time.perf_counter() - start, report
