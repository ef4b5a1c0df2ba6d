#!/usr/bin/env python3
"""Trains one miniature model on the generated world and writes it in Hugging Face layout.

    train.py opt|llama|llama3|mistral|cohere [--out DIR] [--steps N] [--seed S] [--threads N]

Needs torch, transformers, tokenizers and sentencepiece (versions in README.md). Products are computed in bfloat16,
everything else in float32. Everything printed also goes to OUT/train.log. OUT/resume.pt holds the state of an
unfinished training: the same command continues it, with the same result. The quantization program never needs this
script: the weights it wrote are part of the repository.
"""
import argparse
import json
import math
import pathlib
import platform
import time

import sentencepiece
import tokenizers
import torch
import transformers

import families
import tasks
import vocabulary
import world
from chance import Draw

HERE = pathlib.Path(__file__).resolve().parent
SEQLEN, BATCH, PEAK_RATE, WARMUP, REPORT = families.POSITIONS, 16, 3e-3, 100, 250


def token_stream(encoder, texts, needed):
    """BOS, one or more texts, each ended by a newline or (a quarter of the groups) a blank line; then BOS again ...
    Windows are cut from this stream, so that text with and without BOS in front is familiar."""
    draw = Draw("groups")
    ids, group = [], []
    for text in texts:
        group.append(text)
        if draw.chance(0.4):
            end = "\n\n" if draw.chance(0.25) else "\n"
            ids += [encoder.bos] + encoder.encode("".join(text + end for text in group))
            group = []
            if len(ids) >= needed:
                return torch.tensor(ids)
    raise SystemExit(f"train.py: {needed} tokens needed, {len(ids)} there; raise TRAINING_DOCUMENTS in world.py")


def perplexity(model, encoder, windows=60):
    """English stories that training never saw, one after the other, cut into windows."""
    text = "\n".join(world.documents("held-out", 400, "story", "en"))
    ids = torch.tensor([encoder.bos] + encoder.encode(text))[:windows * SEQLEN].view(windows, SEQLEN)
    with torch.no_grad():
        logits = model(ids).logits[:, :-1]
    return math.exp(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).item())


def scores(model, rows, batch=64):
    """rows: (ids, number of them that are context). The log-likelihood of the rest of every row."""
    result = []
    for begin in range(0, len(rows), batch):
        part = rows[begin:begin + batch]
        width = max(len(ids) for ids, _ in part)
        ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in part])
        with torch.no_grad():
            log_p = model(ids).logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        result += [log_p[i, context - 1:len(ids) - 1].sum().item() for i, (ids, context) in enumerate(part)]
    return result


def accuracy(model, encoder, items):
    """Per cent of the items whose right choice has the highest log-likelihood."""
    asked = [tasks.requests(item) for item in items]
    rows = [([encoder.bos] + encoder.encode(context + end), 1 + len(encoder.encode(context)))
            for requests, _ in asked for context, end in requests]
    values = iter(scores(model, rows))
    right = 0
    for requests, gold in asked:
        found = [next(values) for _ in requests]
        right += found.index(max(found)) == gold
    return 100 * right / len(items)


def measure(model, encoder):
    model.eval()
    parts = [f"stories perplexity {perplexity(model, encoder):.3f}"]
    parts += [f"{name} {accuracy(model, encoder, items()):.1f}" for name, items in tasks.TASKS.items()]
    model.train()
    return "  ".join(parts)


def rate(step, steps):
    """Warm-up, constant to 40 % of the steps, then linear to 5 %."""
    if step < WARMUP:
        return PEAK_RATE * (step + 1) / WARMUP
    done = max(0.0, (step / steps - 0.4) / 0.6)
    return PEAK_RATE * (1 - 0.95 * done)


def new_optimizer(model):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                             lr=PEAK_RATE, betas=(0.9, 0.95), fused=True)


def train(model, encoder, rows, steps, resume, log):
    """Rows of a batch come from far apart, so that one batch holds BATCH independent places of the stream."""
    optimizer = new_optimizer(model)
    first, before = 0, 0.0
    if resume.exists():
        state = torch.load(resume)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, before = state["step"], state["seconds"]
        log(f"continued after step {first}")
    start, total = time.monotonic() - before, 0.0
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        batch = rows[:, step]
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch).logits
        last = torch.full((BATCH, 1), -100)  # nothing follows the last token: cross_entropy leaves it out
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1),
                                                 torch.cat([batch[:, 1:], last], 1).flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
        if (step + 1) % REPORT == 0:
            seconds = time.monotonic() - start
            log(f"step {step + 1:5d}  loss {total / REPORT:.4f}  {measure(model, encoder)}  {seconds:.0f} s")
            total = 0.0
            part = resume.with_suffix(".part")
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1,
                        "seconds": seconds}, part)
            part.replace(resume)


def write_reference(directory, kind):
    """reference.json: what transformers makes of the stored files, for the tests: ids of a text in every language with
    its BOS, and the log-probability of each id after the first in the first window."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, use_fast=kind != "sentencepiece")
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    text = "\n".join(next(world.parallel_documents("reference", 1)).values())
    ids = tokenizer(text)["input_ids"]
    window = torch.tensor([ids[:SEQLEN]])
    with torch.no_grad():
        log_p = model(window).logits[0, :-1].log_softmax(-1).gather(1, window[0, 1:, None])[:, 0]
    (directory / "reference.json").write_text(json.dumps(
        {"text": text, "ids": ids, "log_p": [round(p, 6) for p in log_p.tolist()]}) + "\n")
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=list(families.TOKENIZER))
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    out = args.out or HERE / "models" / args.family
    out.mkdir(parents=True, exist_ok=True)
    resume = out / "resume.pt"
    log_file = open(out / "train.log", "a" if resume.exists() else "w", encoding="utf-8")

    def log(line):
        print(line, flush=True)
        print(line, file=log_file, flush=True)

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # gradients of the softmax are full of them, and they are slow
    torch.manual_seed(args.seed)
    kind = families.TOKENIZER[args.family]
    if not resume.exists():
        log(f"{args.family}: {args.steps} steps of {BATCH} x {SEQLEN} tokens, seed {args.seed}, "
            f"{args.threads} thread(s)")
        log(f"python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}, "
            f"tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}")
        vocabulary.train(kind, out, SEQLEN)
    encoder = vocabulary.Encoder(kind, out)
    needed = args.steps * BATCH * SEQLEN
    rows = token_stream(encoder, world.training_documents(), needed)[:needed].view(BATCH, args.steps, SEQLEN)

    model = families.new_model(args.family).train()
    model.set_attn_implementation("eager")  # at 128 positions twice as fast as the fused kernel's backward pass
    if not resume.exists():
        log(f"{sum(p.numel() for p in model.parameters())} parameters, {needed} tokens, each used once")
    train(model, encoder, rows, args.steps, resume, log)

    model.half().save_pretrained(out, safe_serialization=True)
    (out / "generation_config.json").unlink(missing_ok=True)
    stored = write_reference(out, kind)
    log(f"stored fp16 weights, computed in fp32: {measure(stored, encoder)}")
    resume.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
