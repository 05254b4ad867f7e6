// Python's pickle format as plain data, with nothing in it that runs code.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
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
struct PickleObject;

/// A class or function that the pickle names: "torch._utils._rebuild_tensor_v2". A name only.
struct PickleGlobal {
  std::string name;
};

/// An integer of more than 64 bits, little-endian.
struct PickleLong {
  std::string_view bytes;
};

/// The elements of one or more tensors, or a part of them. They stand elsewhere in the file.
struct PickleStorage {
  std::string key;
  std::optional<at::ScalarType> dtype;  ///< none: untyped, its elements are bytes
  std::uint64_t elements = 0;           ///< of the whole
  std::uint64_t begin = 0;              ///< where the part begins
  std::uint64_t end = 0;                ///< and the element after its last
};

/// A tensor of a storage: not checked against it yet.
struct PickleTensor {
  PickleStorage storage;
  at::ScalarType dtype = at::ScalarType::Undefined;
  std::int64_t offset = 0;  ///< elements, within the part of the storage
  std::vector<std::int64_t> sizes, strides;
  bool is_conjugate = false, is_negative = false;  ///< torch's lazy flags: true values are thus
};

using PickleValue =
    std::variant<std::monostate, bool, int64_t, double, std::string, PickleLong, PickleGlobal,
                 PickleTuple, PickleList, PickleDict, PickleObject, PickleStorage, PickleTensor>;

struct PickleTuple {
  std::vector<PickleValue*> items;
};
struct PickleList {
  std::vector<PickleValue*> items;
};
using PickleItems = std::vector<std::pair<PickleValue*, PickleValue*>>;
struct PickleDict {
  PickleItems items;
};
/// What any other class or function would have made; it was not called.
struct PickleObject {
  std::string name;        ///< "argparse.Namespace", "a numpy scalar"
  PickleItems items = {};  ///< of a subclass of dict
  bool is_tensor = false;  ///< one that no at::Tensor is made of: sparse, quantized, distributed
};

/// "a tensor", "a dict", "argparse.Namespace" and so on, for messages.
std::string kind_of(const PickleValue& value);

/// The storage that a persistent id of torch.save means: ("storage", class, key, device, number of
/// elements[, part of it]). BadPickle for any other id.
PickleStorage storage_of(const PickleValue& id);

/// Reads a pickle of the protocols 2 to 5. Works without recursion and owns all values in one
/// place, so that neither depth nor cycles can hurt.
///
/// Calls of Python functions are not made. Those by which torch rebuilds tensors, and dicts of the
/// standard library, are understood; what others would give is a PickleObject. A name that could
/// only be there to run code (os.system) is refused.
class Unpickler {
 public:
  /// What a persistent id stands for.
  using Persistent = std::function<PickleValue(const PickleValue& id)>;

  /// `bytes`, which must outlive the object, begin with the pickle; more may follow it.
  explicit Unpickler(std::string_view bytes, Persistent persistent = storage_of);

  /// The value, valid as long as this object. BadPickle for whatever is damaged or not allowed.
  /// Once only.
  const PickleValue& load();

  /// How many bytes the pickle took.
  std::size_t size() const { return position_; }

 private:
  bool step();  // false: the pickle has ended
  bool number(unsigned char opcode);
  bool text(unsigned char opcode);
  bool container(unsigned char opcode);
  bool collection(unsigned char opcode);
  bool memo(unsigned char opcode);
  bool call(unsigned char opcode);

  std::string_view take(std::uint64_t bytes);
  std::string_view take_line();
  std::uint64_t take_unsigned(std::size_t bytes);
  PickleValue take_long(std::size_t length_bytes);

  PickleValue* make(PickleValue value);
  void push(PickleValue value) { stack_.push_back(make(std::move(value))); }
  PickleValue* pop();
  PickleValue& top();
  std::vector<PickleValue*> pop_to_mark();
  void push_tuple(std::size_t size);
  void append(const std::vector<PickleValue*>& items);
  void set_items(const std::vector<PickleValue*>& items);
  void recall(std::uint64_t index);

  void push_global(std::string_view module, std::string_view name);
  void push_stack_global();
  void push_instance(bool has_keywords);
  void set_attributes();
  void reduce();

  std::string_view pickle_;
  Persistent persistent_;
  std::size_t position_ = 0;
  bool states_protocol_ = false;  // as 2 and later do
  std::deque<PickleValue> values_;
  std::vector<PickleValue*> stack_;
  std::vector<std::size_t> marks_;  // sizes of the stack
  std::unordered_map<std::uint64_t, PickleValue*> memo_;
};

/// The dtype of torch.FloatStorage and so on; none of another name.
std::optional<at::ScalarType> dtype_of_storage(std::string_view name);

/// What the call of the Python function `name` stands for (pickle_calls.cpp).
PickleValue value_of_call(const std::string& name, const PickleTuple& arguments);

/// Throws BadPickle for the name of what runs commands or code.
void refuse_code(std::string_view module, std::string_view name);

}  // namespace x_transformers
