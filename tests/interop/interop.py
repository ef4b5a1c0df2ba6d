"""Opens exports of ptq with other software, and what other software wrote with ptq, and compares logits; started by
run.sh. Every line of the table says who read the weights beside ptq:

  compressed-tensors   transformers + compressed-tensors load the directory as it is
  GPTQModel            GPTQModel loads the directory as it is
  AutoAWQ unpacking    AutoAWQ's own packing_utils.dequantize_gemm, result put into transformers' model
  formula              the layout's published formula, written again here in torch, put into transformers' model

and how far its logits are from those of `ptq logits`, relative to the logits' spread (rms / standard deviation). Weights
alone must agree to rounding (1e-5 in float32). W8A8 is run twice: with ptq's rule for activations (absmax / 127) added to
the loaded weights, where only codes on the edge may flip, and with compressed-tensors' own (absmax / 127.5), which is
another quantizer of the same quality: that distance is compared with the distance to the unquantized model.
Exit status 1 if a line fails, also if nothing could be run.
"""
import argparse
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM,
                          PreTrainedTokenizerFast)

LENGTH, WINDOWS = 48, 8
EXACT = 1e-5  # float32, sums in another order
HALF = 8 * 2**-11 * 8**0.5  # computed in float16: 8 u sqrt(4 layers), the bound of ptq verify-export
FLIPS = 1e-2  # int8 activations, codes at the edge
rows, notes = [], []


def make_models(work):
    """Random models with every size a multiple of 32 (GPTQ's readers), grouped heads; and OPT with biases."""
    torch.manual_seed(1)
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=320, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
                                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
                                         initializer_range=0.08))
    opt = OPTForCausalLM(OPTConfig(vocab_size=320, hidden_size=128, ffn_dim=256, num_hidden_layers=2,
                                   num_attention_heads=4, max_position_embeddings=128, word_embed_proj_dim=128,
                                   init_std=0.08))
    for name, parameter in opt.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.05)
    # GPTQModel does not load a directory without a tokenizer.
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(320)}, unk_token="w0"))
    models = {}
    for name, model in (("llama", llama), ("opt", opt)):
        models[name] = work / "models" / name
        model.save_pretrained(models[name])
        PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", pad_token="w0").save_pretrained(models[name])
    stories = pathlib.Path(os.environ.get("PTQ_MODELS", "")) / "stories260K"
    if (stories / "config.json").exists():
        models["stories260K"] = stories
    else:
        notes.append("stories260K: PTQ_MODELS is not set or has none; left out")
    return models


def ids_file(path, seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 320, (WINDOWS, LENGTH), generator=generator)
    path.write_text("\n".join(" ".join(map(str, row.tolist())) for row in ids) + "\n")
    return ids


class Runner:
    def __init__(self, ptq, work):
        self.ptq, self.work = ptq, work
        self.calibration, self.test = work / "calibration.txt", work / "test.txt"
        ids_file(self.calibration, 1)
        self.ids = ids_file(self.test, 2)

    def run(self, *arguments):
        done = subprocess.run([self.ptq, *map(str, arguments), "--progress", "none"], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"ptq {' '.join(map(str, arguments))}: exit {done.returncode}: {done.stderr.strip()}")

    def export(self, model, name, *options):
        out = self.work / "exports" / name
        shutil.rmtree(out, ignore_errors=True)
        out.parent.mkdir(exist_ok=True)
        if "rtn" not in options and "w8a8" not in options:
            options += ("--calibration", f"ids:{self.calibration}")
        self.run("quantize", model, out, *options)
        return out

    def logits(self, directory):
        file = self.work / "logits.safetensors"
        self.run("logits", directory, "--ids", self.test, "--out", file)
        tensors = load_file(file)
        return torch.stack([tensors[f"logits.{i}"] for i in range(WINDOWS)])

    def hf_logits(self, model):
        with torch.no_grad():
            return model(self.ids).logits.float()


def distance(a, b):
    return ((a - b).pow(2).mean().sqrt() / b.std()).item()


def record(what, reader, value, bound):
    ok = value <= bound  # false for NaN
    rows.append((what, reader, f"{value:.2e}", f"{bound:.2e}", "ok" if ok else "FAILED"))
    return ok


def load(directory):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


# --- readers -----------------------------------------------------------------------------------------------------------

def unpack(words, bits, count, dim):
    """The codes along `dim`: code j in bits [j * bits, (j + 1) * bits) of the words taken as one little-endian number."""
    words = words.movedim(dim, 0).to(torch.int64) & 0xFFFFFFFF
    codes = []
    for j in range(count):
        word, shift = divmod(j * bits, 32)
        value = words[word] >> shift
        if shift + bits > 32:
            value = value | (words[word + 1] << (32 - shift))
        codes.append(value & ((1 << bits) - 1))
    return torch.stack(codes).movedim(0, dim)


def gptq_weight(t, module, config):
    """w[k, n] = scales[g_idx[k], n] (q - z), z stored minus one in v1; returned as [N, K]."""
    bits, n, k = config["bits"], t[module + ".qweight"].shape[1], t[module + ".g_idx"].shape[0]
    zeros = unpack(t[module + ".qzeros"], bits, n, 1) + (1 if config["checkpoint_format"] == "gptq" else 0)
    codes = unpack(t[module + ".qweight"], bits, k, 0)
    group = t[module + ".g_idx"].long()
    return ((codes - zeros[group]).float() * t[module + ".scales"].float()[group]).T.contiguous()


def autoawq_weight(packing):
    def weight(t, module, config):
        words, zeros, scales = (t[f"{module}.{name}"] for name in ("qweight", "qzeros", "scales"))
        return packing.dequantize_gemm(words, zeros, scales.float(), config["bits"], config["group_size"]).T.contiguous()
    return weight


def awq_weight(t, module, config):
    """w[k, n] = scales[k // group, n] (q - z); position i of a word holds output 8c + [0,2,4,6,1,3,5,7][i]."""
    def outputs(words):
        mixed = unpack(words, 4, words.shape[1] * 8, 1).reshape(words.shape[0], -1, 8)
        return mixed[..., [0, 4, 1, 5, 2, 6, 3, 7]].reshape(words.shape[0], -1)
    group = config["group_size"]
    zeros = outputs(t[module + ".qzeros"]).repeat_interleave(group, 0)
    scales = t[module + ".scales"].float().repeat_interleave(group, 0)
    return ((outputs(t[module + ".qweight"]) - zeros).float() * scales).T.contiguous()


def expanded(directory, weight, work):
    """A floating-point copy of a packed checkpoint that transformers loads without knowing the format."""
    config = json.loads((directory / "config.json").read_text())
    quantization = config.pop("quantization_config")
    tensors, out = load_file(directory / "model.safetensors"), {}
    parts = (".qweight", ".qzeros", ".scales", ".g_idx")
    for name, value in tensors.items():
        if name.endswith(".qweight"):
            module = name.removesuffix(".qweight")
            out[module + ".weight"] = weight(tensors, module, quantization)
        elif not name.endswith(parts):
            out[name] = value.float()
    copy = work / "expanded"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    (copy / "config.json").write_text(json.dumps(config))
    save_file(out, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def with_our_activations(model):
    """Turns off the library's quantization of activations and adds ptq's: scale = max(absmax, 1e-5) / 127 per token."""
    def quantize(module, inputs):
        x = inputs[0]
        scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-5) / 127
        return ((x / scale).round() * scale,) + inputs[1:]
    count = 0
    for module in model.modules():
        if getattr(module, "quantization_scheme", None) is not None:
            module.quantization_enabled = False
            module.register_forward_pre_hook(quantize)
            count += 1
    assert count, "no module is quantized: the quantization_config was not understood"


# --- the cases -----------------------------------------------------------------------------------------------------------

def compressed_tensors(r, models):
    cases = [("llama", "W4A16 g64 sym", "gptq --bits 4 --group 64"),
             ("llama", "W4A16 g64 asym act-order", "gptq --bits 4 --group 64 --asym --act-order"),
             ("llama", "W4A16 g32 asym", "awq --bits 4 --group 32"),
             ("llama", "W8A16 rows", "rtn --bits 8 --group -1"),
             ("opt", "W4A16 g64 asym", "gptq --bits 4 --group 64 --asym"),
             ("stories260K", "W4A16 rows asym", "gptq --bits 4 --group -1 --asym")]
    for model, name, options in cases:
        if model not in models:
            continue
        what = f"{model} compressed-tensors {name}"
        out = r.export(models[model], "ct", "--method", *options.split(), "--format", "compressed-tensors")
        record(what, "compressed-tensors", distance(r.hf_logits(load(out)), r.logits(out)), EXACT)
    for model in models:
        plain = r.hf_logits(load(models[model]))
        for method in ("w8a8", "smoothquant"):
            what = f"{model} compressed-tensors W8A8 {method}"
            out = r.export(models[model], "int8", "--method", method, "--format", "compressed-tensors")
            ours, loaded = r.logits(out), load(out)
            library = r.hf_logits(loaded)
            with_our_activations(loaded)
            record(what + ", absmax / 127", "compressed-tensors weights", distance(r.hf_logits(loaded), ours), FLIPS)
            record(what + ", as is", "compressed-tensors", distance(library, ours), 2 * distance(ours, plain))


def gptq(r, models, python):
    cases = [("llama", "4 bits g64 sym", "gptq --bits 4 --group 64"),
             ("llama", "4 bits g64 sym act-order", "gptq --bits 4 --group 64 --act-order"),
             ("llama", "8 bits rows sym", "rtn --bits 8 --group -1"),
             ("llama", "3 bits g32 sym", "rtn --bits 3 --group 32"),
             ("llama", "2 bits g32 sym", "rtn --bits 2 --group 32"),
             ("opt", "4 bits g64 sym", "gptq --bits 4 --group 64")]
    v2 = [("llama", "4 bits g64 asym act-order", "gptq --bits 4 --group 64 --asym --act-order"),
          ("llama", "4 bits g64 asym", "awq --bits 4 --group 64")]
    for layout, list_of in (("gptq", cases), ("gptq-v2", v2)):
        for model, name, options in list_of:
            what = f"{model} {layout} {name}"
            out = r.export(models[model], layout, "--method", *options.split(), "--format", layout)
            ours = r.logits(out)
            record(what, "formula", distance(r.hf_logits(load(expanded(out, gptq_weight, r.work))), ours), EXACT)
            if python:
                gptqmodel(r, what, out, ours, python)


def run_gptqmodel(python, script, what, product, *arguments):
    """Runs a script of this directory in GPTQModel's environment; false, with a note, if it left no product."""
    done = subprocess.run([python, pathlib.Path(__file__).with_name(script), *arguments], capture_output=True, text=True)
    if not product.exists():
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        notes.append(f"{what}: GPTQModel did not do it: {lines[-1][:200]}")
    return product.exists()


def gptqmodel(r, what, out, ours, python):
    file = r.work / "gptqmodel.safetensors"
    file.unlink(missing_ok=True)
    if run_gptqmodel(python, "gptqmodel_logits.py", what, file, out, r.test, file):
        record(what, "GPTQModel", distance(load_file(file)["logits"], ours), HALF)


# --- the other way: checkpoints of other tools, read by ptq ----------------------------------------------------------------

def written_by_gptqmodel(r, models, python):
    for grid, order in (("sym", "plain"), ("asym", "act-order")):
        what = f"llama, GPTQModel's own 4 bits g32 {grid} {order}"
        out = r.work / "exports" / "by-gptqmodel"
        shutil.rmtree(out, ignore_errors=True)
        if run_gptqmodel(python, "gptqmodel_quantize.py", what, out / "model.safetensors", models["llama"],
                         r.calibration, out, grid, order):
            gptqmodel(r, what, out, r.logits(out), python)


def written_by_compressed_tensors(r, models):
    """Rounds to nearest with the library's grids and saves with its compressor."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (QuantizationArgs, QuantizationConfig, QuantizationScheme,
                                                 apply_quantization_config)
    from compressed_tensors.quantization.utils import calculate_qparams
    tokens = QuantizationArgs(num_bits=8, strategy="token", dynamic=True)
    cases = [("pack-quantized 4 bits g32 sym", QuantizationArgs(num_bits=4, strategy="group", group_size=32), None),
             ("pack-quantized 4 bits g32 asym",
              QuantizationArgs(num_bits=4, strategy="group", group_size=32, symmetric=False), None),
             ("pack-quantized 8 bits rows", QuantizationArgs(num_bits=8, strategy="channel"), None),
             ("int-quantized", QuantizationArgs(num_bits=8, strategy="channel"), tokens)]
    for name, weights, inputs in cases:
        what = f"llama, the library's own {name}"
        model = load(models["llama"])
        scheme = QuantizationScheme(targets=["Linear"], weights=weights, input_activations=inputs)
        apply_quantization_config(model, QuantizationConfig(
            config_groups={"group_0": scheme}, ignore=["lm_head"], quantization_status="frozen",
            format="int-quantized" if inputs else "pack-quantized"))
        for module in model.modules():
            if getattr(module, "quantization_scheme", None) is None:
                continue
            w = module.weight.data
            groups = w.reshape(w.shape[0], -1, weights.group_size or w.shape[1])
            scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), weights)
            module.weight_scale.data.copy_(scale.reshape(module.weight_scale.shape))
            module.weight_zero_point.data.copy_(zero.reshape(module.weight_zero_point.shape))
        compressor = ModelCompressor.from_pretrained_model(model)
        compressor.compress_model(model)
        out = r.work / "exports" / "by-compressed-tensors"
        shutil.rmtree(out, ignore_errors=True)
        model.save_pretrained(out)
        compressor.update_config(out)
        loaded = load(out)
        if inputs:
            with_our_activations(loaded)
        record(what, "compressed-tensors", distance(r.hf_logits(loaded), r.logits(out)), FLIPS if inputs else EXACT)


def awq(r, models, packing):
    for model, options in (("llama", "awq --bits 4 --group 64"), ("llama", "gptq --bits 4 --group 32 --asym"),
                           ("opt", "awq --bits 4 --group 128")):
        what = f"{model} awq {options}"
        out = r.export(models[model], "awq", "--method", *options.split(), "--format", "awq")
        ours = r.logits(out)
        record(what, "formula", distance(r.hf_logits(load(expanded(out, awq_weight, r.work))), ours), EXACT)
        if packing:
            copy = expanded(out, autoawq_weight(packing), r.work)
            record(what, "AutoAWQ unpacking", distance(r.hf_logits(load(copy)), ours), EXACT)


def autoawq_packing(work):
    """AutoAWQ's packing_utils without the package, whose import needs CUDA's compiler."""
    archives = sorted((work / "autoawq").glob("*.tar.gz"))
    if not archives:
        notes.append("AutoAWQ: its sources are not there; only the formula was run")
        return None
    with tarfile.open(archives[-1]) as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith("awq/utils/packing_utils.py"))
        source = archive.extractfile(member).read()
    path = work / "packing_utils.py"
    path.write_bytes(source)
    spec = importlib.util.spec_from_file_location("packing_utils", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ptq", required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--gptqmodel", help="python of an environment that has GPTQModel")
    a = parser.parse_args()
    torch.set_num_threads(2)
    models = make_models(a.work)
    r = Runner(a.ptq, a.work)
    compressed_tensors(r, models)
    gptq(r, models, a.gptqmodel)
    awq(r, models, autoawq_packing(a.work))
    written_by_compressed_tensors(r, models)
    if a.gptqmodel:
        written_by_gptqmodel(r, models, a.gptqmodel)
    if not a.gptqmodel:
        notes.append("GPTQModel: not installed; GPTQ exports were read with the formula only")
    notes.append("vLLM, ExLlama and AutoAWQ's kernels need a GPU; not run")

    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in [("export", "read by", "distance", "bound", "")] + rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    for note in notes:
        print("note:", note)
    failed = sum(row[4] != "ok" for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} agree")
    sys.exit(1 if failed or not rows else 0)


if __name__ == "__main__":
    main()
