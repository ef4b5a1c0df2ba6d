#!/usr/bin/env python3
"""Speed of ptq on the CPU against what a user would pick instead, measured in one run on one machine.

    python3 -m venv VENV && VENV/bin/pip install torch==2.9.1 transformers==4.57.6 lm-eval==0.4.9.2 safetensors
    VENV/bin/python bench/compare_cpu.py MODEL --data DIR [--build build/bench] [--only ppl,choice,gptq,awq,tokenize,inspect]

MODEL is a Llama-architecture directory in Hugging Face layout (docs/performance.md uses SmolLM2-135M made by
reproduce/smollm2.py --regauge 1); DIR holds the data sets ($PTQ_DATA). Writes a Markdown table and, with --json, every
figure. Both sides use the same number of threads and the same windows, documents and calibration ids."""
import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

here = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(here))


def wikitext(data):
    lines = (data / "wikitext2" / "wiki.test.raw").read_text(encoding="utf-8").split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    return "\n\n".join("" if not line.strip() else line + "\n" for line in lines)


def ptq(args, *command, dtype="fp32"):
    """Runs ptq, returns (wall seconds, standard output)."""
    full = [str(args.build / "ptq"), *map(str, command), "--dtype", dtype, "--threads", str(args.threads), "--progress", "none"]
    start = time.perf_counter()
    done = subprocess.run(full, capture_output=True, text=True)
    wall = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"compare_cpu: {' '.join(full)}: {done.stderr.strip()}")
    return wall, done.stdout


def products(args, *extra):
    out = subprocess.run([str(args.build / "ptq_products"), str(args.model), *map(str, extra)], capture_output=True, text=True,
                         env={**os.environ, "OMP_NUM_THREADS": str(args.threads)})
    if out.returncode:
        sys.exit(f"compare_cpu: ptq_products: {out.stderr.strip()}")
    return json.loads(out.stdout)


def load(args, dtype):
    import torch
    from transformers import AutoModelForCausalLM
    torch.set_num_threads(args.threads)
    return AutoModelForCausalLM.from_pretrained(args.model, dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]).eval()


def perplexity(args, report):
    import torch
    from transformers import AutoTokenizer
    ids = torch.tensor(AutoTokenizer.from_pretrained(args.model)(wikitext(args.data))["input_ids"])
    windows, seqlen = args.windows, 2048
    for dtype in args.dtypes:
        pure = products(args, "--dtype", dtype, "--seqlen", seqlen)
        with tempfile.TemporaryDirectory() as tmp:
            ptq(args, "eval", args.model, "--metrics", "ppl", "--seqlen", seqlen, "--windows", windows, "--data",
                             args.data, "--json", f"{tmp}/r.json", dtype=dtype)
            result = json.load(open(f"{tmp}/r.json"))
        ours = result["timing"]["ppl"] / windows
        model = load(args, dtype)
        nll, times = [], []
        with torch.no_grad():
            for w in range(windows):
                x = ids[w * seqlen : (w + 1) * seqlen][None]
                start = time.perf_counter()
                logits = model(x, use_cache=False).logits[0, :-1].float()
                nll.append(torch.nn.functional.cross_entropy(logits, x[0, 1:]).item())
                times.append(time.perf_counter() - start)
        theirs = statistics.median(times)
        report(f"perplexity {dtype}: ptq tokens/s", seqlen / ours)
        report(f"perplexity {dtype}: transformers tokens/s", seqlen / theirs)
        report(f"perplexity {dtype}: ratio to transformers", theirs / ours)
        report(f"perplexity {dtype}: time / pure product time", ours / pure["seconds"])
        report(f"perplexity {dtype}: ptq value", result["metrics"]["ppl"]["value"])
        report(f"perplexity {dtype}: transformers value", float(torch.tensor(nll).double().mean().exp()))
        report(f"perplexity {dtype}: weights MiB", result["provenance"]["weight_bytes"] / 2**20)
        report(f"perplexity {dtype}: peak MiB", result["provenance"]["peak_memory_bytes"] / 2**20)


def requests(data, limit):
    lines = lambda *path: [json.loads(x) for x in open(data.joinpath(*path), encoding="utf-8").read().splitlines()[:limit]]
    out = {"arc_challenge": [], "piqa": [], "winogrande": []}
    for d in lines("arc_challenge", "test.jsonl"):
        context = f"Question: {d['question']['stem']}\nAnswer:"
        out["arc_challenge"] += [(context, " " + c["text"]) for c in d["question"]["choices"]]
    for d in lines("piqa", "dev.jsonl"):
        out["piqa"] += [(f"Question: {d['goal']}\nAnswer:", " " + s) for s in (d["sol1"], d["sol2"])]
    for d in lines("winogrande", "dev.jsonl"):
        at = d["sentence"].index("_")
        out["winogrande"] += [(d["sentence"][:at] + o, " " + d["sentence"][at + 1 :].strip()) for o in (d["option1"], d["option2"])]
    return out


def choice(args, report):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer
    tasks = requests(args.data, args.limit)
    for dtype in args.dtypes:
        with tempfile.TemporaryDirectory() as tmp:
            ptq(args, "eval", args.model, "--metrics", ",".join(tasks), "--limit", args.limit, "--data", args.data, "--json",
                f"{tmp}/r.json", dtype=dtype)
            timing = json.load(open(f"{tmp}/r.json"))["timing"]
        ours = sum(timing[t] for t in tasks)
        lm = HFLM(pretrained=load(args, dtype), tokenizer=AutoTokenizer.from_pretrained(args.model), batch_size=16, max_length=2048)
        start = time.perf_counter()
        for task, pairs in tasks.items():
            lm.loglikelihood([Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)], disable_tqdm=True)
        theirs = time.perf_counter() - start
        report(f"multiple choice {dtype}: ptq seconds", ours)
        report(f"multiple choice {dtype}: lm-eval seconds", theirs)
        report(f"multiple choice {dtype}: ratio to lm-eval", theirs / ours)


def gptq(args, report):
    import torch
    import gptq_eager
    samples, seqlen = 16, 512
    with tempfile.TemporaryDirectory() as tmp:
        ids = f"{tmp}/ids.txt"
        ptq(args, "calibration", "c4", "--model", args.model, "--samples", samples, "--seqlen", seqlen, "--data",
                         args.data, "--out", ids)
        windows = [torch.tensor([[int(x) for x in line.split()]]) for line in open(ids)]
        theirs = gptq_eager.quantize(load(args, "fp32"), windows)
        report("gptq fp32: eager PyTorch seconds", theirs)
        for dtype in args.dtypes:
            pure = products(args, "--dtype", dtype, "--seqlen", seqlen, "--gptq", samples)
            _, printed = ptq(args, "quantize", args.model, f"{tmp}/out-{dtype}", "--method", "gptq", "--calibration", f"ids:{ids}",
                             "--group", 64, "--force", dtype=dtype)
            seconds = json.load(open(f"{tmp}/out-{dtype}/ptq.json"))["seconds"]
            ours = sum(seconds.values()) - seconds["write"]  # the other side writes nothing; reading weights counts
            report(f"gptq {dtype}: ptq seconds", ours)
            report(f"gptq {dtype}: ratio to eager PyTorch fp32", theirs / ours)
            report(f"gptq {dtype}: time / pure product time", ours / pure["seconds"])
            for part in ("load", "forward", "hessian", "factor", "sweep"):
                report(f"gptq {dtype}: share of {part}", seconds[part] / ours)
            report(f"gptq {dtype}: peak MiB", float(re.search(r"peak memory (\d+) MiB", printed).group(1)))


def first_layers(model, layers, to):
    """The same checkpoint with fewer blocks: both sides then do the same, smaller work."""
    to.mkdir()
    for file in model.iterdir():
        if file.name != "config.json":
            (to / file.name).symlink_to(file.resolve())
    config = json.loads((model / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    return to


def awq(args, report):
    import torch
    import awq_eager
    samples, seqlen = 16, 512
    with tempfile.TemporaryDirectory() as tmp:
        args = argparse.Namespace(**{**vars(args), "model": first_layers(args.model, args.awq_layers, pathlib.Path(tmp) / "model")})
        report("awq: blocks", args.awq_layers)
        ids = f"{tmp}/ids.txt"
        ptq(args, "calibration", "c4", "--model", args.model, "--samples", samples, "--seqlen", seqlen, "--data",
                         args.data, "--out", ids)
        windows = torch.tensor([[int(x) for x in line.split()] for line in open(ids)])
        theirs, searches = awq_eager.quantize(load(args, "fp32"), windows)
        report("awq fp32: eager PyTorch seconds", theirs)
        for dtype in args.dtypes:
            pure = products(args, "--dtype", dtype, "--seqlen", seqlen, "--awq", samples)
            ptq(args, "quantize", args.model, f"{tmp}/out-{dtype}", "--method", "awq", "--calibration", f"ids:{ids}",
                "--group", 64, "--force", dtype=dtype)
            card = json.load(open(f"{tmp}/out-{dtype}/ptq.json"))
            seconds = card["seconds"]
            ours = sum(seconds.values()) - seconds["write"]  # the other side writes nothing; reading weights counts
            report(f"awq {dtype}: ptq seconds", ours)
            report(f"awq {dtype}: ratio to eager PyTorch fp32", theirs / ours)
            report(f"awq {dtype}: time / pure product time", ours / pure["seconds"])
            for part in ("load", "forward", "search", "sweep"):
                report(f"awq {dtype}: share of {part}", seconds[part] / ours)
            same = [mine["best_ratio"] == other["best_ratio"] for mine, other in zip(card["awq"], searches, strict=True)]
            report(f"awq {dtype}: share of groups with the same best ratio", sum(same) / len(same))


def tokenize(args, report):
    with tempfile.TemporaryDirectory() as tmp:
        path = pathlib.Path(tmp) / "wikitext.txt"
        path.write_bytes(wikitext(args.data).encode())
        report("tokenize WikiText-2 seconds (whole command)",
               min(ptq(args, "tokenize", args.model, "--file", path, "--hash")[0] for _ in range(3)))


def inspect(args, report):
    report("inspect seconds (whole command)", min(ptq(args, "inspect", args.model)[0] for _ in range(5)))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model", type=pathlib.Path)
    ap.add_argument("--data", type=pathlib.Path, default=os.environ.get("PTQ_DATA"), required="PTQ_DATA" not in os.environ)
    ap.add_argument("--build", type=pathlib.Path, default=here.parent / "build" / "bench")
    ap.add_argument("--threads", type=int, default=os.cpu_count())
    ap.add_argument("--dtypes", default="fp32,bf16", type=lambda s: s.split(","))
    ap.add_argument("--windows", type=int, default=4)
    ap.add_argument("--limit", type=int, default=100)
    ap.add_argument("--awq-layers", type=int, default=3, help="blocks of the model that AWQ is timed on: the eager search takes "
                    "half a minute a block")
    ap.add_argument("--only", default="inspect,tokenize,ppl,choice,gptq,awq")
    ap.add_argument("--json", type=pathlib.Path)
    args = ap.parse_args()

    cpu = next((x.split(":")[1].strip() for x in open("/proc/cpuinfo") if x.startswith("model name")), platform.processor())
    flags = next((x for x in open("/proc/cpuinfo") if x.startswith("flags")), "")
    isa = "AMX" if "amx_bf16" in flags else "AVX-512 with bf16" if "avx512_bf16" in flags else "AVX-512" if "avx512f" in flags else "AVX2"
    figures = {"cpu": cpu, "isa": isa, "threads": args.threads}
    print(f"CPU: {cpu} ({isa}), {args.threads} threads\n\n| measured | value |\n| --- | --- |")

    def report(name, value):
        figures[name] = value
        print(f"| {name} | {value:.4g} |", flush=True)

    parts = {"inspect": inspect, "tokenize": tokenize, "ppl": perplexity, "choice": choice, "gptq": gptq, "awq": awq}
    for part in args.only.split(","):
        parts[part](args, report)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
