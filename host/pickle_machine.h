// The stack machine behind read_state_dict: values, stack, memo, and the few operations that a state dict needs. Which
// opcode asks for what is in host/pickle.cpp.
#pragma once

#include "host/error.h"
#include "host/pickle.h"

#include <cstring>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace ptq::pickle {

enum class Kind : std::uint8_t { none, boolean, integer, real, string, tuple, list, dict, global, storage, tensor };

// The globals of a state dict, by what REDUCE does with them.
enum class Global : std::uint8_t { ordered_dict, tensor_v2, parameter, from_type, tensor_class, storage_class };

// Values live in one array and refer to each other by index: shared and even cyclic structures need no recursion and
// no reference counts.
using Ref = std::uint32_t;

struct Value {
  Kind kind = Kind::none;
  std::int64_t integer = 0;    // boolean, integer; global: row of the table; storage, tensor: index
  std::string_view text = {};  // string
  std::uint32_t first = 0;     // tuple: items_[first, first + count); list, dict: index into containers_
  std::uint32_t count = 0;
};

class Machine {
 public:
  // `where` names the pickle in messages; both outlive the machine.
  Machine(std::string_view pickle, const std::string& where) : in_(pickle), where_(where) {}

  // --- input ---
  bool at_end() const { return at_ == in_.size(); }
  std::string_view take(std::size_t bytes);
  template <class T>
  T number() {
    T result;
    std::memcpy(&result, take(sizeof result).data(), sizeof result);
    return result;
  }
  [[noreturn]] void refuse(std::string_view what) const { fail(Exit::data, "{}: byte {}: {}", where_, at_, what); }
  void need(bool ok, std::string_view what) const {
    if (!ok) refuse(what);
  }

  // --- stack ---
  void mark();
  std::size_t pop_mark();                 // where the values above the last MARK begin
  std::size_t last(std::size_t n) const;  // where the last n values begin
  void push(Value value);
  void push_integer(std::int64_t n) { push({.kind = Kind::integer, .integer = n}); }
  void push_container(Kind kind);          // an empty list or dict
  void push_long(std::string_view bytes);  // two's complement, little-endian
  void push_tuple(std::size_t from);
  void memo_put(std::uint32_t index);
  void memo_get(std::uint32_t index);

  // --- operations ---
  void global();      // the two lines that follow name it
  void persistent();  // ("storage", torch.XStorage, key, device, numel) -> storage
  void reduce();      // function, arguments -> tensor or empty dict
  void build();       // object, state -> object
  void set_items(std::size_t from);
  void append(std::size_t from);

  // The dict that must be all that is left.
  std::map<std::string, PickledTensor> result() const;

 private:
  std::string_view line();
  Ref pop();
  Ref top() const;
  void push_tensor(Kind kind, PickledTensor tensor);
  const Value& at(Ref ref, Kind kind, std::string_view what) const;
  std::vector<Ref> items(Ref ref, std::string_view what) const;  // of a tuple
  std::vector<Ref> cut(std::size_t from);                        // takes the values from there off the stack
  void rebuild(Global function, const std::vector<Ref>& args);
  void rebuild_tensor(const std::vector<Ref>& args);
  Size natural(Ref ref, std::string_view what) const;
  Shape extents(Ref ref, std::string_view what) const;
  void count_items(std::size_t n);

  std::string_view in_;
  std::size_t at_ = 0;
  const std::string& where_;
  std::vector<Value> values_;
  std::vector<Ref> items_;                    // of tuples
  std::vector<std::vector<Ref>> containers_;  // of lists, and of dicts as key, value, key, value
  std::vector<PickledTensor> tensors_;        // of storages (no shape) and tensors
  std::size_t item_count_ = 0;
  std::vector<Ref> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint32_t, Ref> memo_;
};

}  // namespace ptq::pickle
