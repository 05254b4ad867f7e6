// What a state_dict names: classes, storages and tensors. unpickle.cpp has the rest of the format.
#include "x_transformers/io/unpickle.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

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
    NamedType{"torch.float8_e4m3fn", at::kFloat8_e4m3fn},
    NamedType{"torch.float8_e5m2", at::kFloat8_e5m2},
    NamedType{"torch.float8_e4m3fnuz", at::kFloat8_e4m3fnuz},
    NamedType{"torch.float8_e5m2fnuz", at::kFloat8_e5m2fnuz},
    NamedType{"torch.float8_e8m0fnu", at::kFloat8_e8m0fnu},
};

// Further dtypes: allowed beside the weights of a checkpoint.
constexpr std::array<std::string_view, 10> kOtherDtypes{
    "torch.float32", "torch.float64", "torch.float16", "torch.bfloat16", "torch.int64",
    "torch.int32",   "torch.int16",   "torch.int8",    "torch.uint8",    "torch.bool"};

constexpr std::string_view kUntypedStorage = "torch.storage.UntypedStorage";
constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kRebuildUntyped = "torch._utils._rebuild_tensor_v3";
constexpr std::string_view kRebuildParameter = "torch._utils._rebuild_parameter";
constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::string_view kSize = "torch.Size";
constexpr std::string_view kDevice = "torch.device";

constexpr std::size_t kMostDimensions = 64;  // what the tensor iterator of ATen takes

template <std::size_t N>
std::optional<at::ScalarType> find_type(const std::array<NamedType, N>& types,
                                        std::string_view name) {
  for (const NamedType& type : types) {
    if (type.name == name) return type.type;
  }
  return std::nullopt;
}

bool is_allowed(std::string_view name) {
  for (const auto allowed : {kUntypedStorage, kRebuildTensor, kRebuildUntyped, kRebuildParameter,
                             kOrderedDict, kSize, kDevice}) {
    if (allowed == name) return true;
  }
  return find_type(kStorages, name) || find_type(kUntypedDtypes, name) ||
         std::find(kOtherDtypes.begin(), kOtherDtypes.end(), name) != kOtherDtypes.end();
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

std::vector<int64_t> sizes_of(const PickleTuple& tuple, std::string_view what) {
  if (tuple.items.size() > kMostDimensions) {
    throw BadPickle(fmt::format("{} of {} dimensions, expected at most {}", what,
                                tuple.items.size(), kMostDimensions));
  }
  std::vector<int64_t> sizes;
  for (std::size_t i = 0; i < tuple.items.size(); ++i) {
    sizes.push_back(argument<int64_t>(tuple, i, what));
    if (sizes.back() < 0) throw BadPickle(fmt::format("{} with the size {}", what, sizes.back()));
  }
  return sizes;
}

// The element after the last that a tensor of these sizes and strides reaches; nothing when that,
// or the bytes that the tensor would take without strides, overflow.
std::optional<int64_t> reach(at::ScalarType dtype, int64_t offset,
                             const std::vector<int64_t>& sizes,
                             const std::vector<int64_t>& strides) {
  int64_t end = 0;
  auto bytes = static_cast<int64_t>(c10::elementSize(dtype));
  if (__builtin_add_overflow(offset, 1, &end)) return std::nullopt;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    int64_t step = 0;
    if (__builtin_mul_overflow(bytes, sizes[i], &bytes) ||
        __builtin_mul_overflow(sizes[i] - 1, strides[i], &step) ||
        __builtin_add_overflow(end, step, &end)) {
      return std::nullopt;
    }
  }
  return end;
}

at::Tensor make_tensor(const c10::Storage& storage, at::ScalarType dtype, int64_t offset,
                       const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides) {
  const auto options = at::TensorOptions().dtype(dtype);
  const bool sound = sizes.size() == strides.size() && offset >= 0;
  if (sound && std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) {
    return at::empty(sizes, options);
  }
  const auto end = sound ? reach(dtype, offset, sizes, strides) : std::nullopt;
  const auto held = static_cast<int64_t>(storage.nbytes() / c10::elementSize(dtype));
  if (!end || *end > held) {
    throw BadPickle(fmt::format(
        "a tensor with sizes [{}], strides [{}] and offset {} leaves its storage of {} elements",
        fmt::join(sizes, ", "), fmt::join(strides, ", "), offset, held));
  }
  return at::empty({0}, options).set_(storage, offset, sizes, strides);
}

void check_bools(const c10::Storage& storage) {
  const auto* bytes = static_cast<const unsigned char*>(storage.data());
  if (std::any_of(bytes, bytes + storage.nbytes(), [](unsigned char byte) { return byte > 1; })) {
    throw BadPickle("a bool storage holds a byte other than 0 and 1");
  }
}

}  // namespace

void Unpickler::push_global() {
  const std::string_view module = take_line();
  const std::string_view name = take_line();
  std::string global = fmt::format("{}.{}", module, name);
  if (!is_allowed(global)) {
    throw BadPickle(fmt::format(
        "holds {}, which is not part of a state_dict: save model.state_dict() alone", global));
  }
  push(PickleGlobal{std::move(global)});
}

// A persistent id: ("storage", class, key, device, number of elements).
void Unpickler::push_storage() {
  const PickleValue* id = pop();
  const auto* tuple = std::get_if<PickleTuple>(id);
  if (tuple == nullptr) throw BadPickle(fmt::format("storage: id is {}", kind_of(*id)));
  const std::string& kind = argument<PickleGlobal>(*tuple, 1, "storage").name;
  const std::string& key = argument<std::string>(*tuple, 2, "storage");
  const int64_t size = argument<int64_t>(*tuple, 4, "storage");
  const auto dtype = find_type(kStorages, kind);
  if (!dtype && kind != kUntypedStorage) throw BadPickle(fmt::format("storage: class is {}", kind));

  PickleStorage storage{load_storage_(key), dtype};
  const std::size_t item = dtype ? c10::elementSize(*dtype) : 1;
  const std::size_t held = storage.bytes.nbytes();
  if (size < 0 || held % item != 0 || held / item != static_cast<std::uint64_t>(size)) {
    throw BadPickle(
        fmt::format("storage {}: {} elements of {}, but {} bytes", key, size, kind, held));
  }
  if (dtype == at::kBool && checked_bools_.insert(key).second) check_bools(storage.bytes);
  push(std::move(storage));
}

void Unpickler::reduce() {
  const PickleValue* arguments = pop();
  const PickleValue* function = pop();
  const auto* tuple = std::get_if<PickleTuple>(arguments);
  const auto* global = std::get_if<PickleGlobal>(function);
  if (tuple == nullptr || global == nullptr) {
    throw BadPickle(fmt::format("calls {} with {}", kind_of(*function), kind_of(*arguments)));
  }
  push(rebuild(global->name, *tuple));
}

PickleValue Unpickler::rebuild(const std::string& function, const PickleTuple& arguments) {
  if (function == kOrderedDict && arguments.items.empty()) return PickleDict{};
  if (function == kSize) return argument<PickleTuple>(arguments, 0, function);
  if (function == kDevice) return std::monostate{};
  if (function == kRebuildParameter) return argument<at::Tensor>(arguments, 0, function);
  if (function != kRebuildTensor && function != kRebuildUntyped) {
    throw BadPickle(fmt::format("calls {} with {} arguments", function, arguments.items.size()));
  }
  const auto& storage = argument<PickleStorage>(arguments, 0, function);
  const int64_t offset = argument<int64_t>(arguments, 1, function);
  const auto sizes = sizes_of(argument<PickleTuple>(arguments, 2, function), "a tensor");
  const auto strides = sizes_of(argument<PickleTuple>(arguments, 3, function), "strides");
  auto dtype = storage.dtype;
  if (function == kRebuildUntyped) {
    dtype = find_type(kUntypedDtypes, argument<PickleGlobal>(arguments, 6, function).name);
  }
  if (!dtype) throw BadPickle(fmt::format("{}: a tensor without a dtype", function));
  return make_tensor(storage.bytes, *dtype, offset, sizes, strides);
}

}  // namespace x_transformers
