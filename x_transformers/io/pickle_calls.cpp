// What the names and calls in a pickle of torch.save stand for. unpickle.cpp has the format.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "x_transformers/io/limits.h"
#include "x_transformers/io/unpickle.h"

namespace x_transformers {

namespace {

struct NamedType {
  std::string_view name;
  at::ScalarType type;
};

constexpr std::array kStorages{
    NamedType{"torch.FloatStorage", at::kFloat},
    NamedType{"torch.DoubleStorage", at::kDouble},
    NamedType{"torch.HalfStorage", at::kHalf},
    NamedType{"torch.BFloat16Storage", at::kBFloat16},
    NamedType{"torch.LongStorage", at::kLong},
    NamedType{"torch.IntStorage", at::kInt},
    NamedType{"torch.ShortStorage", at::kShort},
    NamedType{"torch.CharStorage", at::kChar},
    NamedType{"torch.ByteStorage", at::kByte},
    NamedType{"torch.BoolStorage", at::kBool},
    NamedType{"torch.ComplexFloatStorage", at::kComplexFloat},
    NamedType{"torch.ComplexDoubleStorage", at::kComplexDouble},
};

// The dtypes that torch.save writes on an untyped storage.
constexpr std::array kUntypedDtypes{
    NamedType{"torch.uint16", at::kUInt16},
    NamedType{"torch.uint32", at::kUInt32},
    NamedType{"torch.uint64", at::kUInt64},
    NamedType{"torch.complex32", at::kComplexHalf},
    NamedType{"torch.float8_e4m3fn", at::kFloat8_e4m3fn},
    NamedType{"torch.float8_e5m2", at::kFloat8_e5m2},
    NamedType{"torch.float8_e4m3fnuz", at::kFloat8_e4m3fnuz},
    NamedType{"torch.float8_e5m2fnuz", at::kFloat8_e5m2fnuz},
    NamedType{"torch.float8_e8m0fnu", at::kFloat8_e8m0fnu},
};

constexpr std::string_view kUntypedStorage = "torch.storage.UntypedStorage";
constexpr std::string_view kLoadFromBytes = "torch.storage._load_from_bytes";
constexpr std::string_view kRebuild = "torch._utils._rebuild_";
constexpr std::string_view kRebuildTensorFirst = "torch._utils._rebuild_tensor";  // before 0.4
constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kRebuildUntyped = "torch._utils._rebuild_tensor_v3";
constexpr std::string_view kRebuildParameter = "torch._utils._rebuild_parameter";
constexpr std::string_view kRebuildParameterWithState =
    "torch._utils._rebuild_parameter_with_state";
constexpr std::string_view kRebuildFromType = "torch._tensor._rebuild_from_type_v2";

template <std::size_t N>
bool is_among(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

template <std::size_t N>
std::optional<at::ScalarType> find_type(const std::array<NamedType, N>& types,
                                        std::string_view name) {
  for (const NamedType& type : types) {
    if (type.name == name) return type.type;
  }
  return std::nullopt;
}

// The argument `index` of `what`, of the type asked for.
template <class T>
const T& argument(const PickleTuple& arguments, std::size_t index, std::string_view what) {
  const T* value =
      index < arguments.items.size() ? std::get_if<T>(arguments.items[index]) : nullptr;
  if (value == nullptr) {
    throw BadPickle(
        fmt::format("{}: argument {} is {}", what, index,
                    index < arguments.items.size() ? kind_of(*arguments.items[index]) : "missing"));
  }
  return *value;
}

std::uint64_t natural(const PickleTuple& arguments, std::size_t index, std::string_view what) {
  const int64_t value = argument<int64_t>(arguments, index, what);
  if (value < 0) throw BadPickle(fmt::format("{}: argument {} is {}", what, index, value));
  return static_cast<std::uint64_t>(value);
}

std::vector<int64_t> sizes_of(const PickleTuple& tuple, std::string_view what) {
  if (tuple.items.size() > kMaxDimensions) {
    throw BadPickle(fmt::format("{} of {} dimensions, expected at most {}", what,
                                tuple.items.size(), kMaxDimensions));
  }
  std::vector<int64_t> sizes;
  for (std::size_t i = 0; i < tuple.items.size(); ++i) {
    sizes.push_back(argument<int64_t>(tuple, i, what));
    if (sizes.back() < 0) throw BadPickle(fmt::format("{} with the size {}", what, sizes.back()));
  }
  return sizes;
}

// The flags that change what a tensor's values are: a dict of what torch calls its metadata.
void read_flags(const PickleTuple& arguments, std::size_t index, PickleTensor& tensor) {
  if (index >= arguments.items.size()) return;
  if (std::holds_alternative<std::monostate>(*arguments.items[index])) return;
  for (const auto& [key, value] : argument<PickleDict>(arguments, index, "metadata").items) {
    const auto* name = std::get_if<std::string>(key);
    const auto* flag = std::get_if<bool>(value);
    if (name == nullptr || flag == nullptr || (*name != "conj" && *name != "neg")) {
      throw BadPickle(fmt::format("a tensor with the metadata {} = {}, expected conj or neg",
                                  name != nullptr ? *name : kind_of(*key), kind_of(*value)));
    }
    (*name == "conj" ? tensor.is_conjugate : tensor.is_negative) = *flag;
  }
}

// What pickle.dump, and not torch.save, makes of a tensor holds its storage as a file of its own.
void refuse_own_storage(const PickleTuple& arguments) {
  const auto* object =
      arguments.items.empty() ? nullptr : std::get_if<PickleObject>(arguments.items[0]);
  if (object == nullptr || object->name != kLoadFromBytes) return;
  throw BadPickle(
      Notice{.text = "holds tensors that pickle.dump wrote, expected a file of torch.save",
             .hint = "torch.save(pickle.load(open(FILE, 'rb')), NEW) in Python makes one"});
}

PickleTensor rebuilt_tensor(const std::string& function, const PickleTuple& arguments) {
  refuse_own_storage(arguments);
  PickleTensor tensor;
  tensor.storage = argument<PickleStorage>(arguments, 0, function);
  tensor.offset = argument<int64_t>(arguments, 1, function);
  tensor.sizes = sizes_of(argument<PickleTuple>(arguments, 2, function), "a tensor");
  tensor.strides = sizes_of(argument<PickleTuple>(arguments, 3, function), "strides");
  auto dtype = tensor.storage.dtype;
  if (function == kRebuildUntyped) {
    const auto& name = argument<PickleGlobal>(arguments, 6, function).name;
    dtype = find_type(kUntypedDtypes, name);
    if (!dtype) throw BadPickle(fmt::format("a tensor of {}, which cannot be read", name));
  }
  if (!dtype) throw BadPickle(fmt::format("{}: a tensor without a dtype", function));
  tensor.dtype = *dtype;
  if (function != kRebuildTensorFirst)
    read_flags(arguments, function == kRebuildUntyped ? 7 : 6, tensor);
  return tensor;
}

PickleValue rebuilt(const std::string& function, const PickleTuple& arguments) {
  if (function == kRebuildTensorFirst || function == kRebuildTensor || function == kRebuildUntyped)
    return rebuilt_tensor(function, arguments);
  if (function == kRebuildParameter || function == kRebuildParameterWithState)
    return argument<PickleTensor>(arguments, 0, function);
  return PickleObject{function, {}, true};
}

// A tensor with attributes, or of a class of its own.
PickleValue rebuilt_of_type(const PickleTuple& arguments) {
  static constexpr std::array<std::string_view, 3> kPlain{
      "torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"};
  const std::string& function = argument<PickleGlobal>(arguments, 0, kRebuildFromType).name;
  const std::string& type = argument<PickleGlobal>(arguments, 1, kRebuildFromType).name;
  const auto& inner = argument<PickleTuple>(arguments, 2, kRebuildFromType);
  if (!is_among(kPlain, type) || !function.starts_with(kRebuild))
    return PickleObject{type, {}, true};
  return rebuilt(function, inner);
}

// Python 2 gives the items of an OrderedDict as [[key, value], ...].
PickleValue ordered_dict(const PickleTuple& arguments) {
  PickleDict dict;
  if (arguments.items.empty()) return dict;
  for (const PickleValue* item : argument<PickleList>(arguments, 0, "OrderedDict").items) {
    const auto* list = std::get_if<PickleList>(item);
    const auto* tuple = std::get_if<PickleTuple>(item);
    const auto* pair = list != nullptr ? &list->items : tuple != nullptr ? &tuple->items : nullptr;
    if (pair == nullptr || pair->size() != 2)
      throw BadPickle(fmt::format("an OrderedDict with {} as an item", kind_of(*item)));
    dict.items.emplace_back((*pair)[0], (*pair)[1]);
  }
  return dict;
}

// For people: what a call that is not made would have given.
std::string result_name(const std::string& function, const PickleTuple& arguments) {
  if (function.ends_with(".multiarray.scalar")) return "a numpy scalar";
  if (function.ends_with(".multiarray._reconstruct") || function.ends_with("numeric._frombuffer"))
    return "a numpy array";
  if (function == "builtins.set" || function == "__builtin__.set") return "a set";
  if (function == "builtins.frozenset" || function == "__builtin__.frozenset") return "a frozenset";
  if (function == "_codecs.encode") return "bytes";
  const bool names_class = function == "copyreg._reconstructor" ||
                           function == "copy_reg._reconstructor" ||
                           function == "copyreg.__newobj__" || function == "copy_reg.__newobj__" ||
                           function == "builtins.getattr";  // a member of an enum
  if (names_class && !arguments.items.empty()) return kind_of(*arguments.items[0]);
  return function;
}

}  // namespace

void refuse_code(std::string_view module, std::string_view name) {
  static constexpr std::array<std::string_view, 13> kModules{
      "os",     "posix", "nt",        "sys",    "subprocess", "commands",  "pty",
      "shutil", "runpy", "importlib", "ctypes", "socket",     "webbrowser"};
  static constexpr std::array<std::string_view, 8> kBuiltins{
      "eval", "exec", "execfile", "compile", "__import__", "open", "input", "breakpoint"};
  const bool is_builtin = module == "builtins" || module == "__builtin__";
  if (!is_among(kModules, module.substr(0, module.find('.'))) &&
      !(is_builtin && is_among(kBuiltins, name))) {
    return;
  }
  throw BadPickle(
      fmt::format("holds {}.{}, which no state_dict has and which would run in Python: not a file "
                  "to trust (nothing of it was run)",
                  module, name));
}

std::optional<at::ScalarType> dtype_of_storage(std::string_view name) {
  return find_type(kStorages, name);
}

PickleStorage storage_of(const PickleValue& id) {
  const auto* tuple = std::get_if<PickleTuple>(&id);
  if (tuple == nullptr) throw BadPickle(fmt::format("storage: id is {}", kind_of(id)));
  const std::string& kind = argument<PickleGlobal>(*tuple, 1, "storage").name;
  PickleStorage storage;
  storage.key = argument<std::string>(*tuple, 2, "storage");
  const int64_t elements = argument<int64_t>(*tuple, 4, "storage");
  constexpr int64_t kMaxElements = int64_t{1} << 56;  // their bytes do not overflow
  storage.dtype = dtype_of_storage(kind);
  constexpr std::array<std::string_view, 5> kQuantized{
      "torch.QInt8Storage", "torch.QUInt8Storage", "torch.QInt32Storage", "torch.QUInt4x2Storage",
      "torch.QUInt2x4Storage"};
  if (is_among(kQuantized, kind)) {
    throw BadPickle(
        fmt::format("holds quantized tensors ({}), which cannot be read: save the "
                    "weights from before they were quantized",
                    kind));
  }
  if (!storage.dtype && kind != kUntypedStorage)
    throw BadPickle(fmt::format("storage: class is {}", kind));
  if (elements < 0 || elements > kMaxElements)
    throw BadPickle(fmt::format("storage {}: {} elements of {}", storage.key, elements, kind));
  storage.elements = static_cast<std::uint64_t>(elements);
  storage.end = storage.elements;
  // Before torch 0.4 a storage may be a part of another: (key, where it begins, elements).
  const bool is_part =
      tuple->items.size() > 5 && !std::holds_alternative<std::monostate>(*tuple->items[5]);
  if (!is_part) return storage;
  const auto& part = argument<PickleTuple>(*tuple, 5, "storage");
  storage.begin = natural(part, 1, "part of a storage");
  const std::uint64_t length = natural(part, 2, "part of a storage");
  if (storage.begin > storage.elements || length > storage.elements - storage.begin) {
    throw BadPickle(fmt::format("storage {}: {} elements from {} are no part of {}", storage.key,
                                length, storage.begin, storage.elements));
  }
  storage.end = storage.begin + length;
  return storage;
}

PickleValue value_of_call(const std::string& function, const PickleTuple& arguments) {
  if (function == "collections.OrderedDict") return ordered_dict(arguments);
  if (function == "collections.defaultdict") return PickleDict{};
  if (function == "collections.Counter") return PickleObject{"collections.Counter"};
  if (function == "torch.Size") return argument<PickleTuple>(arguments, 0, function);
  if (function == kRebuildFromType) return rebuilt_of_type(arguments);
  if (function.starts_with(kRebuild)) return rebuilt(function, arguments);
  return PickleObject{result_name(function, arguments)};
}

}  // namespace x_transformers
