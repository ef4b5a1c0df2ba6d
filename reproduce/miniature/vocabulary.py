"""The tokenizers of the miniature models, of the kinds that the real families have, trained on the miniature world.

sentencepiece   tokenizer.model: BPE with byte fallback, no normalisation, newline as the byte <0x0A> (Llama, Mistral)
opt             tokenizer.json: byte-level BPE, GPT-2's splitting, special tokens first, BOS </s>
llama3          tokenizer.json: byte-level BPE, Llama-3's splitting, whole words without merging, special tokens last
cohere          tokenizer.json: NFC, single digits, byte-level BPE, special tokens first
"""
import io
import json

import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

import world

SIZE = 1536
# Llama-3's own pattern: at most three digits in a piece, line ends apart from other white space.
LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
                r"|\s+(?!\S)|\s+")
SPECIALS = {
    "sentencepiece": ["<unk>", "<s>", "</s>"],
    "opt": ["<s>", "<pad>", "</s>", "<unk>"],
    "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>"],
    "cohere": ["<PAD>", "<UNK>", "<CLS>", "<SEP>", "<MASK_TOKEN>", "<BOS_TOKEN>", "<EOS_TOKEN>"],
}
BOS = {"sentencepiece": "<s>", "opt": "</s>", "llama3": "<|begin_of_text|>", "cohere": "<BOS_TOKEN>"}
EOS = {"sentencepiece": "</s>", "opt": "</s>", "llama3": "<|end_of_text|>", "cohere": "<EOS_TOKEN>"}
CLASS = {"sentencepiece": "LlamaTokenizer", "opt": "GPT2Tokenizer", "llama3": "PreTrainedTokenizerFast",
         "cohere": "CohereTokenizer"}


def special_id(kind, token):
    place = SPECIALS[kind].index(token)
    return SIZE - len(SPECIALS[kind]) + place if kind == "llama3" else place


def _texts():
    return world.documents("tokenizer", 14_000)


def _train_sentencepiece(path):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for text in _texts() for line in text.split("\n")), model_writer=model,
        model_type="bpe", vocab_size=SIZE, byte_fallback=True, character_coverage=1.0,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
        required_chars="".join(map(chr, range(33, 127))), num_threads=1, minloglevel=1)
    path.write_bytes(model.getvalue())


def _byte_level(kind):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind != "llama3")
    if kind == "llama3":
        split = pre_tokenizers.Split(tokenizers.Regex(LLAMA3_SPLIT), behavior="isolated")
        return pre_tokenizers.Sequence([split, byte_level])
    if kind == "cohere":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    return byte_level


def _train_byte_level(kind, path):
    specials = SPECIALS[kind]
    last = kind == "llama3"
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=last))
    if kind == "cohere":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _byte_level(kind)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(_texts(), trainers.BpeTrainer(
        vocab_size=SIZE - len(specials) * last, special_tokens=[] if last else specials, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    if last:
        tokenizer.add_special_tokens(specials)
    bos = BOS[kind]
    assert tokenizer.get_vocab_size() == SIZE and tokenizer.token_to_id(bos) == special_id(kind, bos)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, special_id(kind, bos))])
    tokenizer.save(str(path), pretty=False)


def train(kind, out, positions):
    """Writes the tokenizer's files into the directory `out`."""
    if kind == "sentencepiece":
        _train_sentencepiece(out / "tokenizer.model")
    else:
        _train_byte_level(kind, out / "tokenizer.json")
    config = {"tokenizer_class": CLASS[kind], "bos_token": BOS[kind], "eos_token": EOS[kind]}
    if kind != "llama3":
        config["unk_token"] = {"sentencepiece": "<unk>", "opt": "</s>", "cohere": "<UNK>"}[kind]
        config["add_bos_token"] = True
    if kind in ("sentencepiece", "cohere"):
        config |= {"add_eos_token": False, "legacy": True}
    if kind == "opt":
        config |= {"pad_token": "<pad>", "add_prefix_space": False}
    config |= {"clean_up_tokenization_spaces": False, "model_max_length": positions}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


class Encoder:
    """Content ids of a text, without BOS."""

    def __init__(self, kind, directory):
        self.bos = special_id(kind, BOS[kind])
        if kind == "sentencepiece":
            self.encode = sentencepiece.SentencePieceProcessor(model_file=str(directory / "tokenizer.model")).encode
        else:
            tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
            self.encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
