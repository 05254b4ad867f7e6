#include "x_transformers/io/unpickle.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace x_transformers {

std::string kind_of(const PickleValue& value) {
  static constexpr std::array<const char*, std::variant_size_v<PickleValue>> kKinds{
      "None",    "a bool", "an integer", "a float",   "a string", "a class",
      "a tuple", "a list", "a dict",     "a storage", "a tensor"};
  return kKinds[value.index()];
}

Unpickler::Unpickler(std::string_view pickle,
                     std::function<c10::Storage(const std::string& key)> load_storage)
    : pickle_(pickle), load_storage_(std::move(load_storage)) {}

const PickleValue& Unpickler::load() {
  while (step()) {
  }
  if (stack_.size() != 1 || !marks_.empty()) throw BadPickle("the pickle ends in the middle");
  return *stack_.back();
}

bool Unpickler::step() {
  const auto opcode = static_cast<unsigned char>(take(1)[0]);
  if (opcode == '.') return false;
  if (scalar(opcode) || container(opcode) || memo(opcode) || call(opcode)) return true;
  throw BadPickle(fmt::format("pickle opcode {:#04x} at byte {} is not part of a state_dict",
                              opcode, position_ - 1));
}

bool Unpickler::scalar(unsigned char opcode) {
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
      push(take_long());
      return true;
    case 'G': {
      std::uint64_t bits = 0;
      for (const char byte : take(8)) bits = bits << 8 | static_cast<unsigned char>(byte);
      push(std::bit_cast<double>(bits));
      return true;
    }
    case 'X': {
      const std::uint64_t bytes = take_unsigned(4);
      push(std::string(take(bytes)));
      return true;
    }
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

bool Unpickler::memo(unsigned char opcode) {
  switch (opcode) {
    case 'q':
    case 'r': {
      const std::uint64_t index = take_unsigned(opcode == 'q' ? 1 : 4);
      memo_[index] = &top();
      return true;
    }
    case 'h':
    case 'j': {
      const auto found = memo_.find(take_unsigned(opcode == 'h' ? 1 : 4));
      if (found == memo_.end()) throw BadPickle("the pickle recalls what it has not stored");
      stack_.push_back(found->second);
      return true;
    }
    default:
      return false;
  }
}

bool Unpickler::call(unsigned char opcode) {
  switch (opcode) {
    case 0x80:
      if (const auto protocol = take_unsigned(1); protocol != 2) {
        throw BadPickle(
            fmt::format("pickle protocol {}, expected 2, as torch.save writes", protocol));
      }
      return true;
    case 'c':
      push_global();
      return true;
    case 'Q':
      push_storage();
      return true;
    case 'R':
      reduce();
      return true;
    case 'b':  // the attributes of an OrderedDict: versions of the modules, which we do without
      pop();
      if (!std::holds_alternative<PickleDict>(top())) {
        throw BadPickle(fmt::format("{} with attributes", kind_of(top())));
      }
      return true;
    default:
      return false;
  }
}

std::string_view Unpickler::take(std::size_t bytes) {
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

// Integers of more than 64 bits (a random seed, say) stand beside weights, never in them: they
// become None.
PickleValue Unpickler::take_long() {
  const std::string_view bytes = take(take_unsigned(1));
  if (bytes.size() > sizeof(int64_t)) return std::monostate{};
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
  auto* list = std::get_if<PickleList>(&top());
  if (list == nullptr) throw BadPickle(fmt::format("appends to {}", kind_of(top())));
  list->items.insert(list->items.end(), items.begin(), items.end());
}

void Unpickler::set_items(const std::vector<PickleValue*>& items) {
  auto* dict = std::get_if<PickleDict>(&top());
  if (dict == nullptr || items.size() % 2 != 0) {
    throw BadPickle(fmt::format("sets {} items of {}", items.size(), kind_of(top())));
  }
  for (std::size_t i = 0; i < items.size(); i += 2) {
    dict->items.emplace_back(items[i], items[i + 1]);
  }
}

}  // namespace x_transformers
