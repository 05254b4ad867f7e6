// The part of Python's pickle format that a state_dict needs, with nothing in it that runs code.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Storage.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "x_transformers/core/error.h"

namespace x_transformers {

/// What is wrong with a pickle, or with the file around it, which load_pt names.
struct BadPickle : InputError {
  using InputError::InputError;
};

struct PickleTuple;
struct PickleList;
struct PickleDict;

/// A class or function that the pickle names, one of those allowed:
/// "torch._utils._rebuild_tensor_v2".
struct PickleGlobal {
  std::string name;
};

/// The bytes of one or more tensors; `dtype` is empty for an untyped storage.
struct PickleStorage {
  c10::Storage bytes;
  std::optional<at::ScalarType> dtype;
};

using PickleValue = std::variant<std::monostate, bool, int64_t, double, std::string, PickleGlobal,
                                 PickleTuple, PickleList, PickleDict, PickleStorage, at::Tensor>;

struct PickleTuple {
  std::vector<PickleValue*> items;
};
struct PickleList {
  std::vector<PickleValue*> items;
};
struct PickleDict {
  std::vector<std::pair<PickleValue*, PickleValue*>> items;
};

/// "a tensor", "a dict" and so on, for messages.
std::string kind_of(const PickleValue& value);

/// Reads a pickle of protocol 2, as torch.save writes it. Works without recursion and owns all
/// values in one place, so that neither depth nor cycles can hurt.
class Unpickler {
 public:
  /// `pickle` must outlive the object; `load_storage` gives the bytes of a storage by its key.
  Unpickler(std::string_view pickle,
            std::function<c10::Storage(const std::string& key)> load_storage);

  /// The value, valid as long as this object. BadPickle for whatever is damaged or not allowed.
  /// Once only.
  const PickleValue& load();

 private:
  bool step();  // false: the pickle has ended
  bool scalar(unsigned char opcode);
  bool container(unsigned char opcode);
  bool memo(unsigned char opcode);
  bool call(unsigned char opcode);

  std::string_view take(std::size_t bytes);
  std::string_view take_line();
  std::uint64_t take_unsigned(std::size_t bytes);
  PickleValue take_long();

  PickleValue* make(PickleValue value);
  void push(PickleValue value) { stack_.push_back(make(std::move(value))); }
  PickleValue* pop();
  PickleValue& top();
  std::vector<PickleValue*> pop_to_mark();
  void push_tuple(std::size_t size);
  void append(const std::vector<PickleValue*>& items);
  void set_items(const std::vector<PickleValue*>& items);

  void push_global();
  void push_storage();
  void reduce();
  PickleValue rebuild(const std::string& function, const PickleTuple& arguments);

  std::string_view pickle_;
  std::function<c10::Storage(const std::string&)> load_storage_;
  std::size_t position_ = 0;
  std::deque<PickleValue> values_;
  std::vector<PickleValue*> stack_;
  std::vector<std::size_t> marks_;  // sizes of the stack
  std::unordered_map<std::uint64_t, PickleValue*> memo_;
  std::set<std::string> checked_bools_;  // keys of bool storages that hold 0 and 1 only
};

}  // namespace x_transformers
