// A tokenizer whose ids can be read: one per byte.
#pragma once

#include "model/tokenizer.h"

namespace ptq {

// One id per byte, after an optional BOS of 999.
class ByteTokenizer final : public Tokenizer {
 public:
  explicit ByteTokenizer(bool bos = false) : bos_(bos) {}
  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> ids;
    for (char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    for (std::int32_t id : ids) text += static_cast<char>(id);
    return text;
  }
  std::int64_t vocab_size() const override { return 1000; }
  std::vector<std::int32_t> prefix() const override {
    return bos_ ? std::vector<std::int32_t>{999} : std::vector<std::int32_t>{};
  }
  std::int32_t bos() const override { return 999; }
  std::int32_t eos() const override { return -1; }
  std::string description() const override { return "bytes"; }

 private:
  bool bos_;
};

}  // namespace ptq
