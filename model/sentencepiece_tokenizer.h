// tokenizer.model of SentencePiece, run by libsentencepiece behind the validator of sentencepiece_check.h.
#pragma once

#include "model/tokenizer.h"
#include "model/tokenizer_config.h"

#include <memory>
#include <string>
#include <string_view>

namespace ptq {

// Without a tokenizer_config.json: what the library does; special pieces in the text are plain text. With one: what
// Hugging Face's (fast) Llama tokenizer makes of it; special pieces in the text become their ids, and `legacy` decides
// about U+2581 in front: true (the default) puts it before every stretch of text between special tokens, false only
// before the very first, and only if that does not begin with a space already. Exit 65 malformed.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view bytes, const std::string& origin,
                                                        const TokenizerConfig& config);

}  // namespace ptq
