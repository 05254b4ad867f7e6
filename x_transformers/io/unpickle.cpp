#include "x_transformers/io/unpickle.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace x_transformers {

std::string kind_of(const PickleValue& value) {
  static constexpr std::array<const char*, std::variant_size_v<PickleValue>> kKinds{
      "None",    "a bool", "an integer", "a float",   "a string",  "an integer", "a name",
      "a tuple", "a list", "a dict",     "an object", "a storage", "a tensor"};
  if (const auto* global = std::get_if<PickleGlobal>(&value)) return global->name;
  if (const auto* object = std::get_if<PickleObject>(&value)) return object->name;
  return kKinds[value.index()];
}

Unpickler::Unpickler(std::string_view bytes, Persistent persistent)
    : pickle_(bytes), persistent_(std::move(persistent)) {}

const PickleValue& Unpickler::load() {
  while (step()) {
  }
  if (stack_.size() != 1 || !marks_.empty()) throw BadPickle("the pickle ends in the middle");
  return *stack_.back();
}

bool Unpickler::step() {
  const auto opcode = static_cast<unsigned char>(take(1)[0]);
  if (opcode == '.') return false;
  if (number(opcode) || text(opcode) || container(opcode) || collection(opcode) || memo(opcode) ||
      call(opcode)) {
    return true;
  }
  throw BadPickle(fmt::format(
      "pickle opcode {:#04x} at byte {} is not one that torch.save writes{}", opcode, position_ - 1,
      states_protocol_ ? "" : ": pickle protocol 0 or 1, expected 2 to 5 (pickle_protocol)"));
}

bool Unpickler::number(unsigned char opcode) {
  switch (opcode) {
    case 'N':
      push(std::monostate{});
      return true;
    case 0x88:
    case 0x89:
      push(opcode == 0x88);
      return true;
    case 'K':
      push(static_cast<int64_t>(take_unsigned(1)));
      return true;
    case 'M':
      push(static_cast<int64_t>(take_unsigned(2)));
      return true;
    case 'J':
      push(int64_t{static_cast<int32_t>(take_unsigned(4))});
      return true;
    case 0x8a:
    case 0x8b:
      push(take_long(opcode == 0x8a ? 1 : 4));
      return true;
    case 'G': {
      std::uint64_t bits = 0;
      for (const char byte : take(8)) bits = bits << 8 | static_cast<unsigned char>(byte);
      push(std::bit_cast<double>(bits));
      return true;
    }
    default:
      return false;
  }
}

// Texts, among them the byte strings of Python 2; the bytes of Python 3 stand beside weights, never
// in them, and are not kept.
bool Unpickler::text(unsigned char opcode) {
  const auto bytes = [this](std::size_t length_bytes) {
    take(take_unsigned(length_bytes));
    push(PickleObject{"bytes"});
    return true;
  };
  const auto string = [this](std::size_t length_bytes) {
    const std::uint64_t length = take_unsigned(length_bytes);
    push(std::string(take(length)));
    return true;
  };
  switch (opcode) {
    case 'U':
    case 0x8c:
      return string(1);
    case 'T':
    case 'X':
      return string(4);
    case 0x8d:
      return string(8);
    case 'C':
      return bytes(1);
    case 'B':
      return bytes(4);
    case 0x8e:
    case 0x96:
      return bytes(8);
    default:
      return false;
  }
}

bool Unpickler::container(unsigned char opcode) {
  switch (opcode) {
    case '(':
      marks_.push_back(stack_.size());
      return true;
    case '}':
      push(PickleDict{});
      return true;
    case ']':
      push(PickleList{});
      return true;
    case ')':
      push(PickleTuple{});
      return true;
    case 't':
      push(PickleTuple{pop_to_mark()});
      return true;
    case 0x85:
    case 0x86:
    case 0x87:
      push_tuple(opcode - 0x84);
      return true;
    case 'a':
      append({pop()});
      return true;
    case 'e':
      append(pop_to_mark());
      return true;
    case 's': {
      PickleValue* value = pop();
      PickleValue* key = pop();
      set_items({key, value});
      return true;
    }
    case 'u':
      set_items(pop_to_mark());
      return true;
    default:
      return false;
  }
}

// Sets, and what only moves the stack.
bool Unpickler::collection(unsigned char opcode) {
  switch (opcode) {
    case 0x8f:
      push(PickleObject{"a set"});
      return true;
    case 0x90:
      pop_to_mark();
      if (!std::holds_alternative<PickleObject>(top())) {
        throw BadPickle(fmt::format("adds to {} as to a set", kind_of(top())));
      }
      return true;
    case 0x91:
      pop_to_mark();
      push(PickleObject{"a frozenset"});
      return true;
    case '0':
      if (!marks_.empty() && marks_.back() == stack_.size()) {
        marks_.pop_back();
      } else {
        pop();
      }
      return true;
    case '1':
      pop_to_mark();
      return true;
    case '2':
      stack_.push_back(&top());
      return true;
    case 0x95:  // the length of a frame, which depends on how the file is read
      take(8);
      return true;
    default:
      return false;
  }
}

bool Unpickler::memo(unsigned char opcode) {
  switch (opcode) {
    case 'q':
    case 'r': {
      const std::uint64_t index = take_unsigned(opcode == 'q' ? 1 : 4);
      memo_[index] = &top();
      return true;
    }
    case 0x94: {
      const std::uint64_t index = memo_.size();
      memo_[index] = &top();
      return true;
    }
    case 'h':
    case 'j':
      recall(take_unsigned(opcode == 'h' ? 1 : 4));
      return true;
    default:
      return false;
  }
}

bool Unpickler::call(unsigned char opcode) {
  switch (opcode) {
    case 0x80:
      if (const auto protocol = take_unsigned(1); protocol < 2 || protocol > 5) {
        throw BadPickle(fmt::format("pickle protocol {}, expected 2 to 5", protocol));
      }
      states_protocol_ = true;
      return true;
    case 'c': {
      const std::string_view module = take_line();
      push_global(module, take_line());
      return true;
    }
    case 0x93:
      push_stack_global();
      return true;
    case 'Q': {
      const PickleValue* id = pop();
      push(persistent_(*id));
      return true;
    }
    case 'R':
      reduce();
      return true;
    case 0x81:
    case 0x92:
      push_instance(opcode == 0x92);
      return true;
    case 'b':
      set_attributes();
      return true;
    default:
      return false;
  }
}

std::string_view Unpickler::take(std::uint64_t bytes) {
  if (bytes > pickle_.size() - position_) throw BadPickle("the pickle is truncated");
  const std::string_view taken = pickle_.substr(position_, bytes);
  position_ += bytes;
  return taken;
}

std::string_view Unpickler::take_line() {
  const std::size_t end = pickle_.find('\n', position_);
  if (end == std::string_view::npos) throw BadPickle("the pickle is truncated");
  const std::string_view line = take(end - position_);
  take(1);
  return line;
}

std::uint64_t Unpickler::take_unsigned(std::size_t bytes) {
  std::uint64_t value = 0;
  std::memcpy(&value, take(bytes).data(), bytes);
  return value;
}

PickleValue Unpickler::take_long(std::size_t length_bytes) {
  const std::string_view bytes = take(take_unsigned(length_bytes));
  if (bytes.size() > sizeof(int64_t)) return PickleLong{bytes};
  const bool negative = !bytes.empty() && (bytes.back() & 0x80) != 0;
  int64_t value = negative ? -1 : 0;
  std::memcpy(&value, bytes.data(), bytes.size());
  return value;
}

PickleValue* Unpickler::make(PickleValue value) { return &values_.emplace_back(std::move(value)); }

PickleValue& Unpickler::top() {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) {
    throw BadPickle("the pickle takes more than it has put down");
  }
  return *stack_.back();
}

PickleValue* Unpickler::pop() {
  PickleValue* value = &top();
  stack_.pop_back();
  return value;
}

std::vector<PickleValue*> Unpickler::pop_to_mark() {
  if (marks_.empty()) throw BadPickle("the pickle lacks a mark");
  const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  marks_.pop_back();
  std::vector<PickleValue*> items(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  return items;
}

void Unpickler::push_tuple(std::size_t size) {
  PickleTuple tuple;
  for (std::size_t i = 0; i < size; ++i) tuple.items.push_back(pop());
  std::reverse(tuple.items.begin(), tuple.items.end());
  push(std::move(tuple));
}

void Unpickler::append(const std::vector<PickleValue*>& items) {
  if (std::holds_alternative<PickleObject>(top())) return;  // of a subclass of list
  auto* list = std::get_if<PickleList>(&top());
  if (list == nullptr) throw BadPickle(fmt::format("appends to {}", kind_of(top())));
  list->items.insert(list->items.end(), items.begin(), items.end());
}

void Unpickler::set_items(const std::vector<PickleValue*>& items) {
  PickleItems* into = nullptr;
  if (auto* dict = std::get_if<PickleDict>(&top())) into = &dict->items;
  if (auto* object = std::get_if<PickleObject>(&top())) into = &object->items;
  if (into == nullptr || items.size() % 2 != 0) {
    throw BadPickle(fmt::format("sets {} items of {}", items.size(), kind_of(top())));
  }
  for (std::size_t i = 0; i < items.size(); i += 2) into->emplace_back(items[i], items[i + 1]);
}

void Unpickler::recall(std::uint64_t index) {
  const auto found = memo_.find(index);
  if (found == memo_.end()) throw BadPickle("the pickle recalls what it has not stored");
  stack_.push_back(found->second);
}

void Unpickler::push_global(std::string_view module, std::string_view name) {
  refuse_code(module, name);
  push(PickleGlobal{fmt::format("{}.{}", module, name)});
}

void Unpickler::push_stack_global() {
  const PickleValue* name = pop();
  const PickleValue* module = pop();
  const auto* name_text = std::get_if<std::string>(name);
  const auto* module_text = std::get_if<std::string>(module);
  if (name_text == nullptr || module_text == nullptr) {
    throw BadPickle(fmt::format("names {} of {}", kind_of(*name), kind_of(*module)));
  }
  push_global(*module_text, *name_text);
}

namespace {

bool can_be_called(const PickleValue& value) {
  return std::holds_alternative<PickleGlobal>(value) || std::holds_alternative<PickleObject>(value);
}

}  // namespace

void Unpickler::push_instance(bool has_keywords) {
  if (has_keywords) pop();
  const PickleValue* arguments = pop();
  const PickleValue* type = pop();
  if (!can_be_called(*type) || !std::holds_alternative<PickleTuple>(*arguments)) {
    throw BadPickle(
        fmt::format("makes an object of {} with {}", kind_of(*type), kind_of(*arguments)));
  }
  push(PickleObject{kind_of(*type)});
}

// What has attributes is still what it is: those of an OrderedDict are versions of the modules.
void Unpickler::set_attributes() {
  pop();
  if (!std::holds_alternative<PickleDict>(top()) && !std::holds_alternative<PickleObject>(top())) {
    throw BadPickle(fmt::format("{} with attributes", kind_of(top())));
  }
}

void Unpickler::reduce() {
  const PickleValue* arguments = pop();
  const PickleValue* function = pop();
  const auto* tuple = std::get_if<PickleTuple>(arguments);
  if (tuple == nullptr || !can_be_called(*function)) {
    throw BadPickle(fmt::format("calls {} with {}", kind_of(*function), kind_of(*arguments)));
  }
  push(value_of_call(kind_of(*function), *tuple));
}

}  // namespace x_transformers
