// The opcodes that are let through. Everything else that pickle can do, from INST to STACK_GLOBAL, is refused by
// number.
#include "host/pickle.h"

#include "host/pickle_machine.h"

namespace ptq {

namespace {

using pickle::Kind;
using pickle::Machine;

// Names and values of Python's pickletools.
enum Opcode : std::uint8_t {
  PROTO = 0x80,
  STOP = '.',
  MARK = '(',
  NONE = 'N',
  NEWTRUE = 0x88,
  NEWFALSE = 0x89,
  BININT = 'J',
  BININT1 = 'K',
  BININT2 = 'M',
  LONG1 = 0x8a,
  BINFLOAT = 'G',
  BINUNICODE = 'X',
  SHORT_BINSTRING = 'U',
  EMPTY_TUPLE = ')',
  TUPLE = 't',
  TUPLE1 = 0x85,
  TUPLE2 = 0x86,
  TUPLE3 = 0x87,
  EMPTY_LIST = ']',
  APPEND = 'a',
  APPENDS = 'e',
  EMPTY_DICT = '}',
  SETITEM = 's',
  SETITEMS = 'u',
  BINPUT = 'q',
  LONG_BINPUT = 'r',
  BINGET = 'h',
  LONG_BINGET = 'j',
  GLOBAL = 'c',
  REDUCE = 'R',
  BUILD = 'b',
  BINPERSID = 'Q',
};

// False after STOP.
bool step(Machine& m) {
  const auto opcode = m.number<std::uint8_t>();
  // clang-format off
  switch (opcode) {
    case PROTO: {
      const auto protocol = m.number<std::uint8_t>();
      m.need(protocol == 2 || protocol == 3, "a pickle protocol other than 2 or 3");
      break;
    }
    case STOP: return false;
    case MARK: m.mark(); break;
    case NONE: m.push({}); break;
    case NEWTRUE: m.push({.kind = Kind::boolean, .integer = 1}); break;
    case NEWFALSE: m.push({.kind = Kind::boolean}); break;
    case BININT: m.push_integer(m.number<std::int32_t>()); break;
    case BININT1: m.push_integer(m.number<std::uint8_t>()); break;
    case BININT2: m.push_integer(m.number<std::uint16_t>()); break;
    case LONG1: m.push_long(m.take(m.number<std::uint8_t>())); break;
    case BINFLOAT:  // its value is of no interest to a tensor
      m.take(8);
      m.push({.kind = Kind::real});
      break;
    case BINUNICODE: m.push({.kind = Kind::string, .text = m.take(m.number<std::uint32_t>())}); break;
    case SHORT_BINSTRING: m.push({.kind = Kind::string, .text = m.take(m.number<std::uint8_t>())}); break;
    case EMPTY_TUPLE: m.push_tuple(m.last(0)); break;
    case TUPLE: m.push_tuple(m.pop_mark()); break;
    case TUPLE1: m.push_tuple(m.last(1)); break;
    case TUPLE2: m.push_tuple(m.last(2)); break;
    case TUPLE3: m.push_tuple(m.last(3)); break;
    case EMPTY_LIST: m.push_container(Kind::list); break;
    case APPEND: m.append(m.last(1)); break;
    case APPENDS: m.append(m.pop_mark()); break;
    case EMPTY_DICT: m.push_container(Kind::dict); break;
    case SETITEM: m.set_items(m.last(2)); break;
    case SETITEMS: m.set_items(m.pop_mark()); break;
    case BINPUT: m.memo_put(m.number<std::uint8_t>()); break;
    case LONG_BINPUT: m.memo_put(m.number<std::uint32_t>()); break;
    case BINGET: m.memo_get(m.number<std::uint8_t>()); break;
    case LONG_BINGET: m.memo_get(m.number<std::uint32_t>()); break;
    case GLOBAL: m.global(); break;
    case REDUCE: m.reduce(); break;
    case BUILD: m.build(); break;
    case BINPERSID: m.persistent(); break;
    default: m.refuse(fmt::format("pickle opcode 0x{:02x} is not part of a state dict", opcode));
  }
  // clang-format on
  return true;
}

}  // namespace

std::map<std::string, PickledTensor> read_state_dict(std::string_view pickle, const std::string& where) {
  Machine machine(pickle, where);
  while (step(machine)) {
  }
  return machine.result();
}

}  // namespace ptq
