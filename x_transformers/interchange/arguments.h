// Arguments and results of a call by name, in the form of the interchange files.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/notice.h"
#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

class Model;

/// Where arguments come from: from outside, so that ids must be checked, or from who has done so,
/// such as a model that this one is a part of. A look at values would cost a step on a device its
/// CUDA graph.
enum class ArgumentSource { outside, checked };

/// The keyword arguments of a Python call: tensors (`mems.0` is the first of the list `mems`) and
/// plain values. Each is taken by name; what nobody took is an error.
class Arguments {
 public:
  /// `compat` is of the model that is called, and so of models among its arguments.
  Arguments(TensorMap tensors, const nlohmann::json& values,
            ArgumentSource source = ArgumentSource::outside, const Compat& compat = {});
  ~Arguments();
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;

  /// A tensor, undefined where it is absent or null.
  at::Tensor tensor(const std::string& name);
  /// A tensor that must be there. InputError names it otherwise.
  at::Tensor required_tensor(const std::string& name);
  /// The same of masks: integers from outside that are 0 and 1, as tokenizers and numpy give them,
  /// as bool. InputError names the first that is another one.
  at::Tensor mask(const std::string& name);
  at::Tensor required_mask(const std::string& name);
  /// A tensor, or a number or array of integers as one (int64).
  at::Tensor tensor_or_integers(const std::string& name);
  /// A tensor, or a number or nested arrays of numbers as one: int64 where all are integers, else
  /// float32.
  at::Tensor tensor_or_numbers(const std::string& name);
  /// The tensors NAME.0, NAME.1, ... in order; empty where there are none.
  std::vector<at::Tensor> tensors(const std::string& name);
  /// The same of masks (mask).
  std::vector<at::Tensor> masks(const std::string& name);
  /// The pair NAME.0 and NAME.1; undefined tensors where there is none.
  std::pair<at::Tensor, at::Tensor> tensor_pair(const std::string& name);
  /// The pairs NAME.I.0 and NAME.I.1, up to the largest I; undefined where there is none, as
  /// Python's None.
  std::vector<std::pair<at::Tensor, at::Tensor>> tensor_pairs(const std::string& name);
  /// The tensors NAME.KEY by key.
  std::map<std::string, at::Tensor> tensors_by_key(const std::string& name);
  bool has(const std::string& name) const;
  /// Whether it is given, or was asked for: errors may name it.
  bool is_argument(const std::string& name) const;
  ArgumentSource source() const { return source_; }
  /// Whose numbers the called model has.
  const Compat& compat() const { return compat_; }
  /// Whether `name` is given as null, Python's None.
  bool is_null(const std::string& name) const;
  /// Whether the plain value `name` is an array.
  bool is_list(const std::string& name) const;

  bool flag(const std::string& name, bool usual = false);
  /// Empty where it is not given, or null.
  std::optional<bool> optional_flag(const std::string& name);
  std::optional<int64_t> integer(const std::string& name);
  /// One that must be there. InputError names it otherwise.
  int64_t required_integer(const std::string& name);
  std::optional<double> number(const std::string& name);
  std::optional<std::string> text(const std::string& name);
  std::optional<std::vector<int64_t>> integers(const std::string& name);
  std::map<std::string, double> numbers_by_key(const std::string& name);
  /// An object, or the objects of an array; empty where there is none.
  std::vector<nlohmann::json> objects(const std::string& name);
  /// What the JSON arguments say of `name`; null where they do not.
  const nlohmann::json* json(const std::string& name) { return value(name); }
  /// Throws InputError with `reason` if `name` is given, and not as null.
  void absent(const std::string& name, const std::string& reason);
  /// A module, as an object with its type, of the release that the called model means; null where
  /// it is absent.
  std::shared_ptr<Model> model(const std::string& name);

  /// Throws InputError for an argument that was not taken, with the nearest of those that could
  /// have been.
  void finish() const;
  /// A hint for a call that failed with `notice` because a tensor is missing, which may have been
  /// given by another name: the names of the given tensors that nothing has read, and those that
  /// the call has asked for. Empty: no tensor is missing, or all given ones have been read.
  std::string misnamed(const Notice& notice) const;
  /// For a failure of the call: throws InputError that names a tensor among the arguments whose
  /// numbers are not all finite, if there is one.
  void require_finite() const;

 private:
  bool lacks_tensor(const Notice& notice) const;
  const nlohmann::json* value(const std::string& name);
  void expect_several(const std::string& name, const Text& names);
  size_t length(const std::string& name, const std::string& after) const;
  void require_known_place(const OptionPath& where, const std::string& name) const;

  TensorMap tensors_;
  std::unique_ptr<nlohmann::json> values_;
  ArgumentSource source_;
  Compat compat_;
  bool lacks_tensor_ = false;  ///< what was asked for last, and is needed, is not there
  std::set<std::string> taken_tensors_, taken_values_, known_tensors_;
  std::vector<std::string> known_;
  std::map<std::string, Text> several_;  // how the tensors of a list or by key are named
};

/// A Python return value: a tensor, or a list or record of values. Undefined tensors are Python's
/// None.
struct Value {
  at::Tensor tensor;
  std::vector<std::pair<std::string, Value>> items;

  Value() = default;
  Value(at::Tensor t) : tensor(std::move(t)) {}  // NOLINT: a tensor is a value
  /// A tuple or list.
  static Value list(std::vector<Value> values);
  static Value list(const std::vector<at::Tensor>& tensors);

  void add(const std::string& name, Value value) { items.emplace_back(name, std::move(value)); }
  /// The tensors under dotted names that begin with `name`, in order.
  std::vector<std::pair<std::string, at::Tensor>> flatten(const std::string& name = "out") const;
};

}  // namespace x_transformers
