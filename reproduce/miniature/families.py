"""The five families of the miniature: untrained models with the architecture of the real ones, ten thousand times
smaller."""
import transformers

import vocabulary

POSITIONS = 128
# Name -> tokenizer of vocabulary.py. Names with -seedN differ in the seed of the training only.
TOKENIZER = {"opt": "opt", "llama": "sentencepiece", "llama3": "llama3", "mistral": "sentencepiece", "cohere": "cohere"}


def new_model(family):
    """Three layers of width 128 with the output matrix tied to the embedding; weights drawn from torch's generator."""
    kind = TOKENIZER[family]
    shared = dict(vocab_size=vocabulary.SIZE, hidden_size=128, num_hidden_layers=3, num_attention_heads=4,
                  max_position_embeddings=POSITIONS, tie_word_embeddings=True,
                  bos_token_id=vocabulary.special_id(kind, vocabulary.BOS[kind]),
                  eos_token_id=vocabulary.special_id(kind, vocabulary.EOS[kind]))
    if family == "opt":
        return transformers.OPTForCausalLM(transformers.OPTConfig(
            **shared, pad_token_id=1, ffn_dim=512, word_embed_proj_dim=128, activation_function="relu", dropout=0.0,
            attention_dropout=0.0, layerdrop=0.0, init_std=0.04))
    shared |= dict(intermediate_size=256, initializer_range=0.04)
    if family == "llama":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(
            **shared, num_key_value_heads=4, rms_norm_eps=1e-6, rope_theta=10000.0))
    if family == "llama3":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(
            **shared, num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=500000.0))
    if family == "mistral":
        return transformers.MistralForCausalLM(transformers.MistralConfig(
            **shared, num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=10000.0, sliding_window=POSITIONS // 2))
    # The scale is the real model's 0.0625 at width 8192, times the square root of the ratio of the widths.
    return transformers.CohereForCausalLM(transformers.CohereConfig(
        **shared, pad_token_id=0, num_key_value_heads=4, layer_norm_eps=1e-5, rope_theta=8000000.0, logit_scale=0.5,
        use_qk_norm=False))
