#!/usr/bin/env python3
"""Trains one miniature model on the generated world and writes it in Hugging Face layout.

    train.py llama-gqa|opt [--out DIR] [--steps N] [--seed S] [--threads N]

Needs torch, transformers and sentencepiece (versions in README.md). Everything printed also goes to OUT/train.log.
The quantization program never needs this script: the weights it wrote are part of the repository.
"""
import argparse
import io
import json
import math
import pathlib
import platform
import time

import sentencepiece
import torch
import transformers

import world

HERE = pathlib.Path(__file__).resolve().parent
SEQLEN, BATCH, VOCAB, PEAK_RATE, WARMUP = 128, 16, 1536, 3e-3, 100
SHARED = dict(vocab_size=VOCAB, hidden_size=128, num_hidden_layers=3, num_attention_heads=4,
              max_position_embeddings=SEQLEN, bos_token_id=1, eos_token_id=2, pad_token_id=2)


def new_model(family):
    if family == "opt":
        return transformers.OPTForCausalLM(transformers.OPTConfig(
            **SHARED, ffn_dim=512, word_embed_proj_dim=128, activation_function="relu", dropout=0.0,
            attention_dropout=0.0, layerdrop=0.0, init_std=0.04))
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        **SHARED, num_key_value_heads=2, intermediate_size=256, rms_norm_eps=1e-5, tie_word_embeddings=True,
        initializer_range=0.04))


def train_tokenizer(path):
    """SentencePiece BPE with byte fallback and no normalisation; newline is the byte piece <0x0A>, as in Llama."""
    model = io.BytesIO()
    texts = (line for text in world.documents("tokenizer", 14_000) for line in text.split("\n"))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts, model_writer=model, model_type="bpe", vocab_size=VOCAB, byte_fallback=True,
        character_coverage=1.0, normalization_rule_name="identity", remove_extra_whitespaces=False,
        required_chars="".join(map(chr, range(33, 127))), num_threads=1, minloglevel=1)
    path.write_bytes(model.getvalue())


def token_stream(tokenizer, texts, draw):
    """BOS, one or more texts, each ended by a newline; then BOS again ... Windows are cut from this stream."""
    ids, group = [], []
    for text in texts:
        group.append(text + "\n")
        if draw.chance(0.4):
            ids += [tokenizer.bos_id()] + tokenizer.encode("".join(group))
            group = []
    return torch.tensor(ids)


def perplexity(model, tokenizer, windows=60):
    """English stories that training never saw, one after the other, cut into windows."""
    text = "\n".join(world.documents("held-out", 400, "story", "en"))
    ids = torch.tensor([tokenizer.bos_id()] + tokenizer.encode(text))[:windows * SEQLEN].view(windows, SEQLEN)
    with torch.no_grad():
        logits = model(ids).logits[:, :-1]
    return math.exp(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).item())


def arc_accuracy(model, tokenizer):
    """Share of items whose right option has the highest log-likelihood, and the same per character."""
    plain = per_character = 0
    items = world.arc_items()
    for item in items:
        context = [tokenizer.bos_id()] + tokenizer.encode(item["context"])
        rows = [[tokenizer.bos_id()] + tokenizer.encode(item["context"] + " " + c) for c in item["choices"]]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        with torch.no_grad():
            log_p = model(ids).logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        scores = [log_p[i, len(context) - 1:len(row) - 1].sum().item() for i, row in enumerate(rows)]
        normed = [s / len(c) for s, c in zip(scores, item["choices"])]
        plain += scores.index(max(scores)) == item["gold"]
        per_character += normed.index(max(normed)) == item["gold"]
    return 100 * plain / len(items), 100 * per_character / len(items)


def rate(step, steps):
    """Warm-up, constant to 40 % of the steps, then linear to 5 %."""
    if step < WARMUP:
        return PEAK_RATE * (step + 1) / WARMUP
    done = max(0.0, (step / steps - 0.4) / 0.6)
    return PEAK_RATE * (1 - 0.95 * done)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=("llama-gqa", "opt"))
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    out = args.out or HERE / "models" / args.family
    out.mkdir(parents=True, exist_ok=True)
    log_file = open(out / "train.log", "w", encoding="utf-8")
    start = time.monotonic()

    def log(line):
        print(line, flush=True)
        print(line, file=log_file, flush=True)

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    log(f"{args.family}: {args.steps} steps of {BATCH} x {SEQLEN} tokens, seed {args.seed}, {args.threads} thread(s)")
    log(f"python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"sentencepiece {sentencepiece.__version__}")
    train_tokenizer(out / "tokenizer.model")
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(out / "tokenizer.model"))
    stream = token_stream(tokenizer, world.training_documents(), world.Draw("groups"))
    needed = args.steps * BATCH * SEQLEN
    log(f"{world.TRAINING_DOCUMENTS} documents, {len(stream)} tokens, {needed} of them used, each once")
    if len(stream) < needed:
        raise SystemExit(f"train.py: {needed} tokens needed, raise TRAINING_DOCUMENTS in world.py")
    # Rows of a batch come from far apart, so that one batch holds BATCH independent places of the stream.
    rows = stream[:needed].view(BATCH, args.steps, SEQLEN)

    model = new_model(args.family).train()
    log(f"{sum(p.numel() for p in model.parameters())} parameters")
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                                  lr=PEAK_RATE, betas=(0.9, 0.95))
    total = 0.0
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, args.steps)
        batch = rows[:, step]
        loss = model(batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
        if (step + 1) % 250 == 0:
            acc, norm = arc_accuracy(model.eval(), tokenizer)
            log(f"step {step + 1:5d}  loss {total / 250:.4f}  stories perplexity {perplexity(model, tokenizer):.3f}  "
                f"arc acc {acc:.1f} acc_norm {norm:.1f}  {time.monotonic() - start:.0f} s")
            total = 0.0
            model.train()

    model.eval().half().save_pretrained(out, safe_serialization=True)
    (out / "generation_config.json").unlink(missing_ok=True)
    (out / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
         "add_bos_token": True, "add_eos_token": False, "legacy": True, "clean_up_tokenization_spaces": False,
         "model_max_length": SEQLEN}, indent=2) + "\n")
    stored = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    acc, norm = arc_accuracy(stored, tokenizer)
    log(f"stored fp16 weights, computed in fp32: stories perplexity {perplexity(stored, tokenizer):.4f}  "
        f"arc acc {acc:.2f} acc_norm {norm:.2f} of {len(world.arc_items())} items")
    log(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
