#include "x_transformers/interchange/arguments.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "x_transformers/core/finite_check.h"
#include "x_transformers/core/first_wrong.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/interchange/registry.h"

namespace x_transformers {

namespace {

/// I, if `key` is NAME.I followed by `after`, or, where that is empty, by nothing.
std::optional<size_t> index_in(const std::string& key, const std::string& name,
                               const std::string& after) {
  constexpr size_t kMaxDigits = 6;
  const auto begin = name.size() + 1;
  const auto end = std::min(key.find_first_not_of("0123456789", begin), key.size());
  const bool is_index = key.starts_with(name + ".") && end > begin && end - begin <= kMaxDigits;
  const bool fits = after.empty() ? end == key.size() : key.compare(end, after.size(), after) == 0;
  if (!is_index || !fits) return std::nullopt;
  return std::stoul(key.substr(begin, end - begin));
}

/// A plain value of the call, as errors name it.
OptionPath kwarg(const std::string& name) { return OptionPath("kwargs") / name; }

}  // namespace

Arguments::Arguments(TensorMap tensors, const Json& values, ArgumentSource source,
                     const Compat& compat)
    : tensors_(std::move(tensors)),
      values_(std::make_unique<Json>(values)),
      source_(source),
      compat_(compat) {
  if (values_->is_null()) *values_ = Json::object();
  if (!values_->is_object()) detail::wrong_type("kwargs", "an object", values);
  for (const auto& [name, value] : values_->items())
    require(tensors_.count(name) == 0, at(name),
            "is given twice, among the inputs and among the kwargs");
}

Arguments::~Arguments() = default;

const Json* Arguments::value(const std::string& name) {
  known_.push_back(name);
  const auto found = values_->find(name);
  if (found == values_->end()) return nullptr;
  taken_values_.insert(name);
  return found->is_null() ? nullptr : &*found;
}

bool Arguments::has(const std::string& name) const {
  if (tensors_.count(name) || (values_->contains(name) && !(*values_)[name].is_null())) return true;
  const auto next = tensors_.lower_bound(name + ".");
  return next != tensors_.end() && next->first.starts_with(name + ".");
}

bool Arguments::is_argument(const std::string& name) const {
  return has(name) || known_tensors_.contains(name) ||
         std::find(known_.begin(), known_.end(), name) != known_.end();
}

bool Arguments::is_null(const std::string& name) const {
  const auto found = values_->find(name);
  return found != values_->end() && found->is_null();
}

bool Arguments::is_list(const std::string& name) const {
  const auto found = values_->find(name);
  return found != values_->end() && found->is_array();
}

at::Tensor Arguments::tensor(const std::string& name) {
  known_tensors_.insert(name);
  if (const auto* given = value(name))
    detail::wrong_type(kwarg(name), "a tensor among the inputs", *given);
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return {};
  taken_tensors_.insert(name);
  return found->second;
}

at::Tensor Arguments::required_tensor(const std::string& name) {
  auto found = tensor(name);
  lacks_tensor_ = !found.defined();
  require(found.defined(), at("inputs"), "'{}' is needed", option(name));
  return found;
}

namespace {

/// Integers that say what is true, as bool.
at::Tensor as_mask(const at::Tensor& given, const std::string& name) {
  const bool are_integers =
      given.defined() && at::isIntegralType(given.scalar_type(), /*includeBool=*/false);
  if (!are_integers) return given;
  const auto wide = given.cpu().to(at::kLong);
  const auto is_wrong = (wide < 0) | (wide > 1);
  if (!is_wrong.any().item<bool>()) return given.to(at::kBool);
  const auto [place, value] = first_wrong(is_wrong, wide);
  throw InputError(Notice{
      at(name), text("expected true or false (bool, or integers 0 and 1), got {} at position [{}]",
                     value.item<int64_t>(), fmt::format("{}", fmt::join(place, ", ")))});
}

}  // namespace

at::Tensor Arguments::mask(const std::string& name) {
  const auto given = tensor(name);
  return source_ == ArgumentSource::outside ? as_mask(given, name) : given;
}

at::Tensor Arguments::required_mask(const std::string& name) {
  const auto given = required_tensor(name);
  return source_ == ArgumentSource::outside ? as_mask(given, name) : given;
}

at::Tensor Arguments::tensor_or_integers(const std::string& name) {
  if (tensors_.count(name)) return tensor(name);
  const auto* given = value(name);
  if (!given) return {};
  if (given->is_number_integer()) return at::scalar_tensor(given->get<int64_t>(), at::kLong);
  if (!given->is_array())
    detail::wrong_type(kwarg(name), "an integer, or an array of integers", *given);
  std::vector<int64_t> items;
  read_value(*given, items, kwarg(name));
  return at::tensor(items);
}

namespace {

/// The numbers of nested arrays in order, whose sizes are added to `sizes`; false where they are
/// none, or of several sizes.
bool read_numbers(const Json& value, std::vector<double>& numbers, std::vector<int64_t>& sizes,
                  size_t depth, bool& are_integers) {
  if (value.is_number()) {
    are_integers = are_integers && value.is_number_integer();
    numbers.push_back(value.get<double>());
    return depth == sizes.size();
  }
  if (!value.is_array()) return false;
  if (depth == sizes.size()) {
    if (!numbers.empty()) return false;
    sizes.push_back(static_cast<int64_t>(value.size()));
  }
  if (sizes[depth] != static_cast<int64_t>(value.size())) return false;
  return std::all_of(value.begin(), value.end(), [&](const Json& item) {
    return read_numbers(item, numbers, sizes, depth + 1, are_integers);
  });
}

}  // namespace

at::Tensor Arguments::tensor_or_numbers(const std::string& name) {
  if (tensors_.count(name)) return tensor(name);
  const auto* given = value(name);
  if (!given) return {};
  std::vector<double> numbers;
  std::vector<int64_t> sizes;
  bool are_integers = true;
  if (!read_numbers(*given, numbers, sizes, 0, are_integers))
    detail::wrong_type(kwarg(name), "a number, or arrays of numbers of one size", *given);
  return at::tensor(numbers, at::kDouble).reshape(sizes).to(are_integers ? at::kLong : at::kFloat);
}

/// Tensors that stand among the inputs under several `names`; as a value, only null.
void Arguments::expect_several(const std::string& name, const Text& names) {
  known_.push_back(name);
  known_tensors_.insert(name);
  several_.emplace(name, names);
  if (values_->contains(name) && (*values_)[name].is_null()) taken_values_.insert(name);
}

/// One more than the largest I of the names NAME.I that `after` follows; 0 without any.
size_t Arguments::length(const std::string& name, const std::string& after) const {
  size_t length = 0;
  for (auto it = tensors_.lower_bound(name + "."); it != tensors_.end(); ++it) {
    if (!it->first.starts_with(name + ".")) break;
    if (const auto index = index_in(it->first, name, after)) length = std::max(length, *index + 1);
  }
  return length;
}

std::vector<at::Tensor> Arguments::tensors(const std::string& name) {
  expect_several(name,
                 x_transformers::text("{}, {}, ...", option(name + ".0"), option(name + ".1")));
  const auto count = length(name, "");
  std::vector<at::Tensor> found;
  while (found.size() < count) {
    const auto key = name + "." + std::to_string(found.size());
    found.push_back(tensor(key));
    require(found.back().defined(), at("inputs"), "'{}' is needed where there is '{}'", option(key),
            option(name + "." + std::to_string(count - 1)));
  }
  return found;
}

std::vector<at::Tensor> Arguments::masks(const std::string& name) {
  auto found = tensors(name);
  if (source_ != ArgumentSource::outside) return found;
  for (size_t i = 0; i < found.size(); ++i)
    found[i] = as_mask(found[i], name + "." + std::to_string(i));
  return found;
}

std::pair<at::Tensor, at::Tensor> Arguments::tensor_pair(const std::string& name) {
  expect_several(name, x_transformers::text("{} and {}", option(name + ".0"), option(name + ".1")));
  std::pair<at::Tensor, at::Tensor> pair = {tensor(name + ".0"), tensor(name + ".1")};
  require(pair.first.defined() == pair.second.defined(), at(name),
          "expected two tensors, {} and {}, got one", option(name + ".0"), option(name + ".1"));
  return pair;
}

std::vector<std::pair<at::Tensor, at::Tensor>> Arguments::tensor_pairs(const std::string& name) {
  expect_several(name, x_transformers::text("{} and {}", option(name + ".LAYER.0"),
                                            option(name + ".LAYER.1")));
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs(length(name, "."));
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto key = "." + std::to_string(i);
    pairs[i] = {tensor(name + key + ".0"), tensor(name + key + ".1")};
    require(pairs[i].first.defined() == pairs[i].second.defined(), at(name),
            "needs both keys ({}) and values ({})", option(name + key + ".0"),
            option(name + key + ".1"));
  }
  return pairs;
}

std::map<std::string, at::Tensor> Arguments::tensors_by_key(const std::string& name) {
  expect_several(name, x_transformers::text("{}", option(name + ".NAME")));
  if (values_->contains(name) && (*values_)[name].empty()) taken_values_.insert(name);
  std::map<std::string, at::Tensor> found;
  const auto prefix = name + ".";
  for (auto it = tensors_.lower_bound(prefix);
       it != tensors_.end() && it->first.starts_with(prefix); ++it) {
    taken_tensors_.insert(it->first);
    found[it->first.substr(prefix.size())] = it->second;
  }
  return found;
}

bool Arguments::flag(const std::string& name, bool usual) {
  if (const auto* given = value(name)) read_value(*given, usual, kwarg(name));
  return usual;
}

std::optional<bool> Arguments::optional_flag(const std::string& name) {
  std::optional<bool> result;
  if (const auto* given = value(name)) read_value(*given, result, kwarg(name));
  return result;
}

std::optional<int64_t> Arguments::integer(const std::string& name) {
  std::optional<int64_t> result;
  if (const auto* given = value(name)) read_value(*given, result, kwarg(name));
  return result;
}

int64_t Arguments::required_integer(const std::string& name) {
  const auto found = integer(name);
  require(found.has_value(), at("kwargs"), "'{}' is needed", option(name));
  return *found;
}

std::optional<double> Arguments::number(const std::string& name) {
  std::optional<double> result;
  if (const auto* given = value(name)) read_value(*given, result, kwarg(name));
  return result;
}

std::optional<std::string> Arguments::text(const std::string& name) {
  std::optional<std::string> result;
  if (const auto* given = value(name)) read_value(*given, result, kwarg(name));
  return result;
}

std::optional<std::vector<int64_t>> Arguments::integers(const std::string& name) {
  std::optional<std::vector<int64_t>> result;
  if (const auto* given = value(name)) read_value(*given, result, kwarg(name));
  return result;
}

std::map<std::string, double> Arguments::numbers_by_key(const std::string& name) {
  std::map<std::string, double> result;
  const auto* given = value(name);
  if (!given) return result;
  auto numbers = *given;
  // null is the default.
  for (auto item = numbers.begin(); numbers.is_object() && item != numbers.end();)
    item = item->is_null() ? numbers.erase(item) : std::next(item);
  read_value(numbers, result, kwarg(name));
  return result;
}

void Arguments::absent(const std::string& name, const std::string& reason) {
  require(!has(name), at(name), "{}", reason);
  value(name);
}

std::vector<Json> Arguments::objects(const std::string& name) {
  const auto* given = value(name);
  if (!given) return {};
  auto items = given->is_array() ? given->get<std::vector<Json>>() : std::vector<Json>{*given};
  for (const auto& item : items) {
    if (!item.is_object()) detail::wrong_type(kwarg(name), "an object, or an array of them", item);
  }
  return items;
}

std::shared_ptr<Model> Arguments::model(const std::string& name) {
  const auto* given = value(name);
  return given ? build_part(*given, {kwarg(name), compat_}) : nullptr;
}

void Arguments::finish() const {
  for (const auto& [name, tensor] : tensors_) {
    if (taken_tensors_.count(name)) continue;
    require_known_place(OptionPath("inputs") / name, name);
    detail::unknown("inputs", "argument", name, known_);
  }
  for (const auto& [name, given] : values_->items()) {
    if (taken_values_.count(name)) continue;
    require_known_place(kwarg(name), name);
    detail::unknown("kwargs", "argument", name, known_);
  }
}

bool Arguments::lacks_tensor(const Notice& notice) const {
  const auto is_absent = [this](const OptionPath& path) {
    return known_tensors_.count(path.joined()) > 0 && tensors_.count(path.joined()) == 0;
  };
  const auto& about = notice.about.options;
  return lacks_tensor_ || std::any_of(about.begin(), about.end(), is_absent);
}

std::string Arguments::misnamed(const Notice& notice) const {
  if (!lacks_tensor(notice)) return {};
  const auto family = [](const std::string& name) { return name.substr(0, name.find('.')); };
  // Of a list or pair its own name is enough.
  std::set<std::string> known;
  for (const auto& name : known_tensors_)
    known.insert(several_.count(family(name)) > 0 ? family(name) : name);
  std::vector<std::string> unread;
  for (const auto& [name, tensor] : tensors_) {
    const auto is_alike = [&](const std::string& other) { return family(other) == family(name); };
    const bool is_known =
        taken_tensors_.count(name) || std::any_of(known.begin(), known.end(), is_alike);
    if (!is_known) unread.push_back(name);
  }
  if (unread.empty()) return {};
  return fmt::format("given and not asked for: '{}'; asked for so far: '{}'",
                     fmt::join(unread, "', '"), fmt::join(known, "', '"));
}

void Arguments::require_finite() const {
  for (const auto& [name, tensor] : tensors_) x_transformers::require_finite(tensor, name);
}

/// Throws InputError that says where and how the argument `name` is given, if there is one.
void Arguments::require_known_place(const OptionPath& where, const std::string& name) const {
  const auto several = several_.find(name);
  require(several == several_.end(), at(where), "expected tensors among the inputs, named {}",
          several == several_.end() ? Text() : several->second);
  require(std::find(known_.begin(), known_.end(), name) == known_.end(), at(where),
          "expected a value among the kwargs, got a tensor");
}

Value Value::list(std::vector<Value> values) {
  Value result;
  for (size_t i = 0; i < values.size(); ++i) result.add(std::to_string(i), std::move(values[i]));
  return result;
}

Value Value::list(const std::vector<at::Tensor>& tensors) {
  Value result;
  for (size_t i = 0; i < tensors.size(); ++i) result.add(std::to_string(i), tensors[i]);
  return result;
}

std::vector<std::pair<std::string, at::Tensor>> Value::flatten(const std::string& name) const {
  if (tensor.defined()) return {{name, tensor}};
  std::vector<std::pair<std::string, at::Tensor>> flat;
  for (const auto& [key, item] : items) {
    for (auto& entry : item.flatten(name + "." + key)) flat.push_back(std::move(entry));
  }
  return flat;
}

}  // namespace x_transformers
