#include "host/pickle_machine.h"

#include "host/printable.h"

#include <array>
#include <utility>

namespace ptq::pickle {

namespace {

// Limits far above any state dict; they keep what a hostile file can make us build to a few tens of MiB.
constexpr std::size_t max_values = 1u << 18, max_items = 1u << 20, max_stack = 1u << 17, max_marks = 64;
constexpr std::size_t max_tensors = 1u << 15;  // and storages
constexpr std::uint32_t max_memo = 1u << 18;
constexpr std::size_t max_name = 256, max_global = 200, max_rank = 8;

struct GlobalRow {
  std::string_view module, name;
  Global global;
  DType dtype = DType::other;
};

constexpr std::array globals{
    GlobalRow{"collections", "OrderedDict", Global::ordered_dict},
    GlobalRow{"torch._utils", "_rebuild_tensor_v2", Global::tensor_v2},
    GlobalRow{"torch._utils", "_rebuild_parameter", Global::parameter},
    GlobalRow{"torch._tensor", "_rebuild_from_type_v2", Global::from_type},
    GlobalRow{"torch", "Tensor", Global::tensor_class},
    GlobalRow{"torch.nn.parameter", "Parameter", Global::tensor_class},
    GlobalRow{"torch", "HalfStorage", Global::storage_class, DType::f16},
    GlobalRow{"torch", "BFloat16Storage", Global::storage_class, DType::bf16},
    GlobalRow{"torch", "FloatStorage", Global::storage_class, DType::f32},
    GlobalRow{"torch", "DoubleStorage", Global::storage_class, DType::f64},
    GlobalRow{"torch", "LongStorage", Global::storage_class, DType::i64},
    GlobalRow{"torch", "IntStorage", Global::storage_class, DType::i32},
    GlobalRow{"torch", "ShortStorage", Global::storage_class, DType::i16},
    GlobalRow{"torch", "CharStorage", Global::storage_class, DType::i8},
    GlobalRow{"torch", "ByteStorage", Global::storage_class, DType::u8},
    GlobalRow{"torch", "BoolStorage", Global::storage_class, DType::boolean},
};

}  // namespace

std::string_view Machine::take(std::size_t bytes) {
  need(bytes <= in_.size() - at_, "the pickle ends early");
  const auto taken = in_.substr(at_, bytes);
  at_ += bytes;
  return taken;
}

std::string_view Machine::line() {
  const auto end = in_.substr(at_, max_global).find('\n');
  need(end != std::string_view::npos, "a global name without an end");
  const auto text = take(end);
  take(1);
  return text;
}

void Machine::mark() {
  need(marks_.size() < max_marks, "too many MARKs");
  marks_.push_back(stack_.size());
}

std::size_t Machine::pop_mark() {
  need(!marks_.empty(), "there is no MARK");
  const std::size_t from = marks_.back();
  marks_.pop_back();
  return from;
}

std::size_t Machine::last(std::size_t n) const {
  need(stack_.size() >= n + (marks_.empty() ? 0 : marks_.back()), "the stack is empty");
  return stack_.size() - n;
}

Ref Machine::top() const { return stack_[last(1)]; }

Ref Machine::pop() {
  const Ref ref = top();
  stack_.pop_back();
  return ref;
}

std::vector<Ref> Machine::cut(std::size_t from) {
  const std::vector<Ref> taken(stack_.begin() + static_cast<std::ptrdiff_t>(from), stack_.end());
  stack_.resize(from);
  return taken;
}

void Machine::push(Value value) {
  need(values_.size() < max_values && stack_.size() < max_stack, "too many values");
  values_.push_back(value);
  stack_.push_back(static_cast<Ref>(values_.size() - 1));
}

void Machine::push_container(Kind kind) {
  push({.kind = kind, .first = static_cast<std::uint32_t>(containers_.size())});
  containers_.emplace_back();
}

void Machine::push_long(std::string_view bytes) {
  need(bytes.size() <= 8, "an integer of more than 64 bits");
  const bool negative = !bytes.empty() && (bytes.back() & 0x80) != 0;
  std::uint64_t bits = negative ? ~std::uint64_t{0} : 0;
  std::memcpy(&bits, bytes.data(), bytes.size());
  push_integer(static_cast<std::int64_t>(bits));
}

void Machine::push_tuple(std::size_t from) {
  const auto taken = cut(from);
  count_items(taken.size());
  push({.kind = Kind::tuple,
        .first = static_cast<std::uint32_t>(items_.size()),
        .count = static_cast<std::uint32_t>(taken.size())});
  items_.insert(items_.end(), taken.begin(), taken.end());
}

void Machine::push_tensor(Kind kind, PickledTensor tensor) {
  need(tensors_.size() < max_tensors, "too many tensors");
  push({.kind = kind, .integer = static_cast<std::int64_t>(tensors_.size())});
  tensors_.push_back(std::move(tensor));
}

void Machine::count_items(std::size_t n) {
  item_count_ += n;
  need(item_count_ <= max_items, "too many items");
}

void Machine::memo_put(std::uint32_t index) {
  need(index < max_memo, "a memo index that no state dict needs");
  memo_[index] = top();
}

void Machine::memo_get(std::uint32_t index) {
  const auto found = memo_.find(index);
  need(found != memo_.end(), "an unset memo entry");
  need(stack_.size() < max_stack, "too many values");
  stack_.push_back(found->second);
}

const Value& Machine::at(Ref ref, Kind kind, std::string_view what) const {
  if (values_[ref].kind != kind) fail(Exit::data, "{}: byte {}: {} has the wrong type", where_, at_, what);
  return values_[ref];
}

std::vector<Ref> Machine::items(Ref ref, std::string_view what) const {
  const Value& tuple = at(ref, Kind::tuple, what);
  const auto begin = items_.begin() + tuple.first;
  return {begin, begin + tuple.count};
}

Size Machine::natural(Ref ref, std::string_view what) const {
  const std::int64_t n = at(ref, Kind::integer, what).integer;
  if (n < 0) fail(Exit::data, "{}: byte {}: {} is negative", where_, at_, what);
  return Size(static_cast<std::uint64_t>(n));
}

Shape Machine::extents(Ref ref, std::string_view what) const {
  const auto all = items(ref, what);
  need(all.size() <= max_rank, "a tensor of too many dimensions");
  Shape shape;
  for (const Ref item : all) shape.push_back(natural(item, what).signed_value());
  return shape;
}

void Machine::global() {
  const auto module = line();
  const auto name = line();
  for (std::size_t i = 0; i < globals.size(); ++i) {
    if (globals[i].module == module && globals[i].name == name) {
      push({.kind = Kind::global, .integer = static_cast<std::int64_t>(i)});
      return;
    }
  }
  fail(Exit::data, "{}: byte {}: global \"{} {}\" is not part of a state dict; it is not executed", where_, at_,
       printable(module), printable(name));
}

void Machine::persistent() {
  const auto parts = items(pop(), "a persistent id");
  need(parts.size() == 5 && at(parts[0], Kind::string, "a persistent id").text == "storage",
       "a persistent id that is not a storage");
  const auto& row = globals[static_cast<std::size_t>(at(parts[1], Kind::global, "the storage type").integer)];
  need(row.global == Global::storage_class, "the storage type is not a storage");
  PickledTensor storage;
  storage.dtype = row.dtype;
  const auto key = at(parts[2], Kind::string, "the storage key").text;
  need(key.size() <= max_name, "the storage key is too long");
  storage.storage = std::string(key);
  at(parts[3], Kind::string, "the storage device");
  storage.storage_numel = natural(parts[4], "the storage size");
  push_tensor(Kind::storage, std::move(storage));
}

// (storage, offset, size, stride, requires_grad, hooks[, metadata])
void Machine::rebuild_tensor(const std::vector<Ref>& args) {
  need(args.size() == 6 || args.size() == 7, "_rebuild_tensor_v2 takes 6 or 7 arguments");
  PickledTensor tensor = tensors_[static_cast<std::size_t>(at(args[0], Kind::storage, "the storage").integer)];
  tensor.offset = natural(args[1], "the storage offset");
  tensor.shape = extents(args[2], "the tensor size");
  tensor.stride = extents(args[3], "the tensor stride");
  need(tensor.shape.size() == tensor.stride.size(), "size and stride differ in rank");
  push_tensor(Kind::tensor, std::move(tensor));
}

void Machine::rebuild(Global function, const std::vector<Ref>& args) {
  switch (function) {
    case Global::tensor_v2:
      return rebuild_tensor(args);
    case Global::parameter:  // (tensor, requires_grad, hooks)
      need(args.size() == 3, "_rebuild_parameter takes 3 arguments");
      at(args[0], Kind::tensor, "the parameter");
      stack_.push_back(args[0]);
      return;
    case Global::from_type: {  // (function, class, arguments, state)
      need(args.size() == 4, "_rebuild_from_type_v2 takes 4 arguments");
      const auto& row = globals[static_cast<std::size_t>(at(args[0], Kind::global, "the rebuild function").integer)];
      need(row.global == Global::tensor_v2 || row.global == Global::parameter, "an unknown rebuild function");
      return rebuild(row.global, items(args[2], "the rebuild arguments"));
    }
    case Global::ordered_dict:
      need(args.empty(), "OrderedDict with arguments");
      return push_container(Kind::dict);
    case Global::tensor_class:
    case Global::storage_class:
      break;
  }
  refuse("a class is called");
}

void Machine::reduce() {
  const auto args = items(pop(), "the arguments of REDUCE");
  const auto& row = globals[static_cast<std::size_t>(at(pop(), Kind::global, "the function of REDUCE").integer)];
  rebuild(row.global, args);
}

// state_dict._metadata, the versions of modules, is all that torch attaches to the dict; it is of no interest.
void Machine::build() {
  const auto& state = containers_[at(pop(), Kind::dict, "the state of BUILD").first];
  at(top(), Kind::dict, "the object of BUILD");
  need(state.empty() || (state.size() == 2 && values_[state[0]].text == "_metadata"),
       "BUILD with attributes other than _metadata");
}

void Machine::set_items(std::size_t from) {
  const auto pairs = cut(from);
  need(pairs.size() % 2 == 0, "a key without a value");
  for (std::size_t i = 0; i < pairs.size(); i += 2) at(pairs[i], Kind::string, "a key");
  count_items(pairs.size());
  auto& dict = containers_[at(top(), Kind::dict, "the object of SETITEMS").first];
  dict.insert(dict.end(), pairs.begin(), pairs.end());
}

void Machine::append(std::size_t from) {
  const auto added = cut(from);
  count_items(added.size());
  auto& list = containers_[at(top(), Kind::list, "the object of APPENDS").first];
  list.insert(list.end(), added.begin(), added.end());
}

std::map<std::string, PickledTensor> Machine::result() const {
  need(at_end(), "data after the end of the pickle");
  need(stack_.size() == 1 && marks_.empty(), "not exactly one value is left");
  const auto& pairs = containers_[at(stack_[0], Kind::dict, "the state dict").first];
  std::map<std::string, PickledTensor> all;
  for (std::size_t i = 0; i < pairs.size(); i += 2) {
    const auto name = values_[pairs[i]].text;
    need(name.size() <= max_name && printable(name, max_name) == name, "a tensor name that is not short plain text");
    const Value& tensor = values_[pairs[i + 1]];
    require(tensor.kind == Kind::tensor, Exit::data, "{}: {} is not a tensor", where_, name);
    const bool fresh = all.emplace(name, tensors_[static_cast<std::size_t>(tensor.integer)]).second;
    require(fresh, Exit::data, "{}: tensor {} occurs twice", where_, name);
  }
  return all;
}

}  // namespace ptq::pickle
