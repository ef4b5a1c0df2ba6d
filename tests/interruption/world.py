"""A grid that takes a fraction of a second: a random Llama of two layers with a byte-level tokenizer, a text, a
calibration text, and grids of a few cells or a few dozen. Standard library only."""
import json
import random
import struct

WIDTH, FFN, HEADS, LAYERS, VOCAB = 16, 32, 2, 2, 256

HEAD = """models = "models"
data = "data"

[[metric]]
name = "ppl"
text = "text.txt"
seqlen = 32

[[model]]
name = "tiny"
path = "tiny"

[[method]]
name = "FP"
method = "full-precision"

[[method]]
name = "GPTQ"
method = "gptq"
scheme = "w4a16-g16-asym"

[[method]]
name = "AWQ"
method = "awq"
scheme = "w4a16-g16-asym"

[[method]]
name = "SmoothQuant"
method = "smoothquant"

[[set]]
name = "words"
set = "calibration.txt"
samples = 4
seqlen = 32
sampling = "gptq"
seeds = [1, 2, 3, 4]
"""
# Three evaluations and a study; 13 evaluations and 4 studies.
FEW = HEAD + """
[axes]
methods = ["FP", "GPTQ", "SmoothQuant"]
sets = ["words #1"]

[[study]]
sets = ["words #1"]
bins = 16
"""
MANY = HEAD + """
[[study]]
bins = 16
"""


def byte_characters():
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters, more = {}, 256
    for byte in range(256):
        if byte in plain:
            characters[byte] = chr(byte)
        else:
            characters[byte], more = chr(more), more + 1
    return characters


def write_safetensors(path, shapes, seed):
    rng, header, data = random.Random(seed), {}, bytearray()
    for name, shape in sorted(shapes.items()):
        count = 1
        for n in shape:
            count *= n
        mean, deviation = (1.0, 0.2) if len(shape) == 1 else (0.0, 0.3)
        begin = len(data)
        data += struct.pack(f"<{count}f", *(rng.gauss(mean, deviation) for _ in range(count)))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_world(directory):
    model, data = directory / "models" / "tiny", directory / "data"
    model.mkdir(parents=True)
    data.mkdir()
    (model / "config.json").write_text(json.dumps({
        "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": FFN, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": 1, "vocab_size": VOCAB, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": True,
        "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2}))
    shapes = {"model.embed_tokens.weight": (VOCAB, WIDTH), "model.norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        shapes.update({at + "input_layernorm.weight": (WIDTH,), at + "post_attention_layernorm.weight": (WIDTH,),
                       at + "self_attn.q_proj.weight": (WIDTH, WIDTH), at + "self_attn.o_proj.weight": (WIDTH, WIDTH),
                       at + "self_attn.k_proj.weight": (WIDTH // HEADS, WIDTH),
                       at + "self_attn.v_proj.weight": (WIDTH // HEADS, WIDTH),
                       at + "mlp.gate_proj.weight": (FFN, WIDTH), at + "mlp.up_proj.weight": (FFN, WIDTH),
                       at + "mlp.down_proj.weight": (WIDTH, FFN)})
    write_safetensors(model / "model.safetensors", shapes, seed=1)
    (model / "tokenizer.json").write_text(json.dumps({
        "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": {"type": "ByteLevel"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "model": {"type": "BPE", "vocab": {c: b for b, c in byte_characters().items()}, "merges": []}}))
    words = "the king gave a book to his child and left quietly .".split()
    for name, count, seed in (("text.txt", 60, 2), ("calibration.txt", 200, 3)):
        rng = random.Random(seed)
        (data / name).write_text(" ".join(rng.choice(words) for _ in range(count)) + "\n")
    (directory / "few.toml").write_text('name = "few"\n' + FEW)
    (directory / "many.toml").write_text('name = "many"\n' + MANY)
