#!/usr/bin/env python3
"""Makes tests/golden/models: three tiny random checkpoints with what transformers computes from them, in the layout of
the larger set that $PTQ_GOLDEN/models holds. Run with transformers 4.57.6, torch 2.9.1, safetensors:

    python3 tests/golden/make_models.py tests/golden/models
"""
import json
import math
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

CONFIGS = {
    "llama-gqa": dict(model_type="llama", hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6,
                      num_key_value_heads=2, vocab_size=131, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=5e5),
    "opt": dict(model_type="opt", hidden_size=48, ffn_dim=96, num_hidden_layers=2, num_attention_heads=4, vocab_size=127,
                max_position_embeddings=64, word_embed_proj_dim=48, bos_token_id=2, eos_token_id=2, pad_token_id=1),
    "cohere": dict(model_type="cohere", hidden_size=40, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                   vocab_size=139, max_position_embeddings=64, logit_scale=0.0625, rope_theta=8e6, bos_token_id=5,
                   eos_token_id=3, pad_token_id=0),
}
POSITIONS = [0, 1, 7, 20]


def forward(model, ids):
    hidden, hooks = {}, []
    decoder = model.model.decoder if hasattr(model.model, "decoder") else model.model
    for i, block in enumerate(decoder.layers):
        if i == 0:
            hooks.append(block.register_forward_pre_hook(
                lambda m, a, k: hidden.__setitem__("hidden.embed", (a[0] if a else k["hidden_states"]).clone()), with_kwargs=True))
            for name, linear in block.named_modules():
                if isinstance(linear, torch.nn.Linear):
                    hooks.append(linear.register_forward_pre_hook(
                        lambda m, a, n=name: hidden.__setitem__(f"act.{n}", a[0][0].reshape(-1, a[0].shape[-1]).clone()
                                                                if a[0].dim() == 3 else a[0][: ids.shape[1]].clone())))
        hooks.append(block.register_forward_hook(
            lambda m, a, out, i=i: hidden.__setitem__(f"hidden.block{i}", (out[0] if isinstance(out, tuple) else out).clone())))
    hooks.append(model.lm_head.register_forward_pre_hook(lambda m, a: hidden.__setitem__("hidden.lm_head_in", a[0].clone())))
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return logits, hidden


def make(name, settings, out):
    torch.manual_seed(sum(map(ord, name)))
    settings = dict(settings)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            scale = 1.5 / math.sqrt(p.shape[-1]) if p.dim() == 2 else 0.1
            p.copy_((1.0 if key.endswith("norm.weight") else 0.0) + scale * torch.randn_like(p))
            p.copy_(p.half().float())
    ids = torch.randint(0, config.vocab_size, (2, 23), dtype=torch.int64)
    ids[0, 0], ids[1, -1] = 0, config.vocab_size - 1
    logits, hidden = forward(model, ids)
    exact, exact_hidden = forward(model.double(), ids)
    noise = (logits.double() - exact).abs().max().item()
    hidden_noise = max(((v.double() - exact_hidden[k]).abs().max() / exact_hidden[k].abs().max()).item() for k, v in hidden.items())
    model.float()

    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    positions = torch.tensor(POSITIONS, dtype=torch.int32)
    tensors = {"input_ids": ids.int(), "logits": logits, "positions": positions}
    for key, value in hidden.items():
        tensors[key] = value[:, POSITIONS] if key.startswith("hidden.") else value
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "golden.safetensors")
    (out / "golden.json").write_text(json.dumps({
        "tolerance": {"logits_abs": 10 * noise, "hidden_rel_to_max": 10 * hidden_noise},
        "noise": {"logits_abs": noise, "hidden_rel_to_max": hidden_noise}}, indent=1) + "\n")
    print(name, "fp32-fp64", noise, hidden_noise)


if __name__ == "__main__":
    for name, settings in CONFIGS.items():
        make(name, settings, pathlib.Path(sys.argv[1]) / name)
