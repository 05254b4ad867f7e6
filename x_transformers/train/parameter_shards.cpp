#include "x_transformers/train/parameter_shards.h"

#include <ATen/ATen.h>
#include <c10/core/StorageImpl.h>
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

c10::StorageImpl& memory_of(const at::Tensor& tensor) {
  return *tensor.storage().unsafeGetStorageImpl();
}

/// Sizes and addresses of tensors stay what they were: graphs that hold them see the numbers come
/// and go.
void give_up_memory(const at::Tensor& tensor) {
  auto& memory = memory_of(tensor);
  memory.set_data_ptr_noswap(at::DataPtr(nullptr, memory.device()));
}

void take_memory(const at::Tensor& tensor) {
  auto& memory = memory_of(tensor);
  memory.set_data_ptr_noswap(memory.allocator()->allocate(memory.nbytes()));
}

/// Keeps a tensor itself, and has it brought back when it is asked for.
class Kept : public torch::autograd::SavedVariableHooks {
 public:
  explicit Kept(TensorKeeper& keeper) : keeper_(keeper) {}
  void call_pack_hook(const at::Tensor& tensor) override { tensor_ = tensor; }
  at::Tensor call_unpack_hook() override {
    keeper_.bring_back(tensor_);
    return tensor_;
  }

 private:
  TensorKeeper& keeper_;
  at::Tensor tensor_;
};

/// What ranks say that they gather: its number, as far as a float holds their sum.
double tag_of(const std::vector<size_t>& parameters) {
  constexpr size_t kMaxTag = size_t{1} << 20;
  return static_cast<double>(parameters.front() % kMaxTag);
}

template <class T>
bool contains(const std::vector<T>& items, const T& item) {
  return std::find(items.begin(), items.end(), item) != items.end();
}

}  // namespace

struct ParameterShards::Gathering {
  std::vector<size_t> parameters;
  at::Tensor tag;  ///< shows whether all ranks gather the same
  StartedSum end;
};

ParameterShards::ParameterShards(torch::nn::Module& model, const ShardedOptimizer& optimizer,
                                 const WorldPlace& place, SumOverRanks sum, StartSumOverRanks start,
                                 StartGivingToRanks give)
    : layers_(model),
      optimizer_(optimizer),
      place_(place),
      sum_(std::move(sum)),
      start_(std::move(start)),
      give_(std::move(give)),
      overlaps_(start_ != nullptr),
      of_layer_(layers_.count),
      is_here_(layers_.count) {
  let_autograd_ask("train.shard parameters cannot be had");
  if (!start_) start_ = as_started(sum_);
  if (!give_) give_ = giving_by_sums(start_, place_);
  const at::NoGradGuard no_grad;
  const auto count = optimizer_.parameters().tensors.size();
  for (size_t i = 0; i < count; ++i) {
    at::Tensor tensor = parameter(i);
    // Memory that others have a part of cannot be given up.
    auto& memory = memory_of(tensor);
    const bool is_alone = tensor.is_contiguous() && memory.nbytes() == tensor.nbytes() &&
                          memory.allocator() != nullptr;
    if (!is_alone) tensor.set_data(tensor.detach().clone(at::MemoryFormat::Contiguous));
    memories_.push_back(&memory_of(tensor));
    const auto layer = layers_.layer_of.find(tensor.unsafeGetTensorImpl());
    if (layer == layers_.layer_of.end()) {
      outside_.push_back(i);
      continue;
    }
    of_layer_[layer->second].push_back(i);
    layer_of_memory_[memories_.back()] = layer->second;
  }
  if (optimizer_.has_masters()) {
    for (size_t i = 0; i < count; ++i)
      if (!is_own(i)) give_up_memory(optimizer_.weights().tensors[i]);
  }
  is_outside_here_ = true;
  is_here_.assign(layers_.count, true);
  release();
  for (const auto& [stack, first] : layers_.first_layer) stack->set_layer_visitor(this);
}

ParameterShards::~ParameterShards() {
  for (const auto& [stack, first] : layers_.first_layer) stack->set_layer_visitor(nullptr);
}

void ParameterShards::give_up(const std::vector<size_t>& parameters) {
  for (const size_t i : parameters)
    if (!is_own(i)) give_up_memory(parameter(i));
}

void ParameterShards::release() {
  end_gathering();
  forget_layers_but({});
  if (is_outside_here_) give_up(outside_);
  is_outside_here_ = false;
  phase_ = Phase::idle;
}

std::vector<size_t> ParameterShards::missing(const Visit& visit) const {
  std::vector<size_t> found;
  for (const size_t layer : visit) {
    if (!is_here_[layer])
      found.insert(found.end(), of_layer_[layer].begin(), of_layer_[layer].end());
  }
  return found;
}

std::unique_ptr<ParameterShards::Gathering> ParameterShards::start_gathering(
    const std::vector<size_t>& parameters) {
  const at::NoGradGuard no_grad;
  auto gathering = std::make_unique<Gathering>();
  gathering->parameters = parameters;
  gathering->tag = at::full({1}, tag_of(parameters), parameter(0).options().dtype(at::kFloat));
  const auto told = start_({gathering->tag});
  std::vector<at::Tensor> tensors;
  std::vector<int64_t> owners;
  for (const size_t i : parameters) {
    if (&memory_of(parameter(i)) != memories_[i] && phase_ != Phase::whole && !is_own(i))
      throw InputError(Notice{at("train.shard"),
                              "parameters: the model puts others in the place of its parameters"});
    // Another counter of versions: what autograd has kept of the parameter stays as it was.
    tensors.push_back(parameter(i).variable_data());
    owners.push_back(optimizer_.owner(i));
    if (!is_own(i)) take_memory(tensors.back());
  }
  gathering->end = [told, given = give_(tensors, owners)] {
    told();
    given();
  };
  return gathering;
}

void ParameterShards::end_gathering() {
  if (!gathering_) return;
  const auto gathering = std::move(gathering_);
  gathering->end();
  for (const size_t i : gathering->parameters) {
    const auto layer = layer_of_memory_.find(memories_[i]);
    if (layer != layer_of_memory_.end()) is_here_[layer->second] = true;
  }
  const at::NoGradGuard no_grad;
  const auto differs =
      gathering->tag.ne(tag_of(gathering->parameters) * static_cast<double>(place_.world));
  differ_ = differ_.defined() ? differ_.logical_or(differs) : differs;
  if (differ_.is_cpu()) require_same_layers();
}

void ParameterShards::require_same_layers() {
  const auto differ = std::exchange(differ_, {});
  if (!differ.defined() || !differ.item<bool>()) return;
  throw RunError(
      Notice{at("train.shard"), "parameters: ranks came to different layers at the same time"});
}

void ParameterShards::forget_layers_but(const Visit& visit) {
  for (size_t layer = 0; layer < is_here_.size(); ++layer) {
    if (!is_here_[layer] || contains(visit, layer)) continue;
    give_up(of_layer_[layer]);
    is_here_[layer] = false;
  }
}

void ParameterShards::go_to(const Visit& visit, const Visit* next) {
  end_gathering();
  forget_layers_but(visit);
  if (const auto parameters = missing(visit); !parameters.empty()) {
    gathering_ = start_gathering(parameters);
    end_gathering();
  }
  for (const size_t layer : visit) is_here_[layer] = true;  // those without parameters too
  if (!overlaps_ || next == nullptr) return;
  if (const auto parameters = missing(*next); !parameters.empty())
    gathering_ = start_gathering(parameters);
}

void ParameterShards::begin_step() {
  gradients_.assign(optimizer_.parameters().tensors.size(), {});
  for (size_t i = 0; i < gradients_.size(); ++i) parameter(i).mutable_grad().reset();
}

void ParameterShards::begin_forward() {
  end_gathering();
  if (!is_outside_here_ && !outside_.empty()) {
    gathering_ = start_gathering(outside_);
    end_gathering();
  }
  is_outside_here_ = true;
  visits_before_ = std::exchange(visits_, {});
  phase_ = Phase::forward;
}

void ParameterShards::come_to(const VisitedStack& stack, const std::vector<int64_t>& layers) {
  if (phase_ == Phase::whole) return;
  TORCH_CHECK(phase_ != Phase::idle,
              "[ParameterShards] the model is used beside the passes of a step");
  Visit visit;
  const auto first = layers_.first_layer.at(const_cast<VisitedStack*>(&stack));
  for (const int64_t layer : layers) visit.push_back(first + static_cast<size_t>(layer));
  if (phase_ == Phase::backward) {
    for (const size_t layer : visit) bring_layer(layer);
    return;
  }
  const auto at = visits_.size();
  visits_.push_back(visit);
  const bool is_as_before = at + 1 < visits_before_.size() && visits_before_[at] == visit;
  go_to(visit, is_as_before ? &visits_before_[at + 1] : nullptr);
}

std::unique_ptr<torch::autograd::SavedVariableHooks> ParameterShards::placeholder() {
  return std::make_unique<Kept>(*this);
}

void ParameterShards::bring_back(const at::Tensor& tensor) {
  if (phase_ == Phase::whole || !tensor.defined() || !tensor.has_storage()) return;
  const auto layer = layer_of_memory_.find(&memory_of(tensor));
  if (layer == layer_of_memory_.end()) return;
  if (phase_ == Phase::backward) return bring_layer(layer->second);
  throw InputError(Notice{at("train.shard"),
                          "parameters: the model makes a backward pass within its forward pass"});
}

void ParameterShards::bring_layer(size_t layer) {
  TORCH_CHECK(!visits_.empty(), "[ParameterShards] no stack came to layer ", layer);
  while (!contains(visits_[visit_], layer)) {
    TORCH_CHECK(visit_ > 0, "[ParameterShards] a backward pass came back to layer ", layer);
    step_back();
  }
}

bool ParameterShards::comes_again(size_t layer) const {
  return std::any_of(visits_.begin(), visits_.begin() + static_cast<std::ptrdiff_t>(visit_),
                     [&](const Visit& visit) { return contains(visit, layer); });
}

void ParameterShards::step_back() {
  std::vector<size_t> done;
  for (const size_t layer : visits_[visit_]) {
    if (!comes_again(layer))
      done.insert(done.end(), of_layer_[layer].begin(), of_layer_[layer].end());
  }
  start_summing(done);
  if (visit_ == 0) return;
  --visit_;
  go_to(visits_[visit_], visit_ > 0 ? &visits_[visit_ - 1] : nullptr);
}

void ParameterShards::backward(const at::Tensor& loss) {
  end_gathering();
  phase_ = Phase::backward;
  visit_ = visits_.empty() ? 0 : visits_.size() - 1;
  if (!visits_.empty()) go_to(visits_[visit_], visit_ > 0 ? &visits_[visit_ - 1] : nullptr);
  if (loss.defined()) loss.backward();
  while (visit_ > 0) step_back();
  if (!visits_.empty()) step_back();
  forget_layers_but({});
  start_summing(outside_);
  for (size_t i = 0; i < gradients_.size(); ++i) {
    TORCH_CHECK(!parameter(i).grad().defined(), "[ParameterShards] the gradient of ",
                optimizer_.parameters().names[i], " came after its layer");
  }
  phase_ = Phase::forward;
}

void ParameterShards::start_summing(const std::vector<size_t>& parameters) {
  end_summing();
  if (parameters.empty()) return;
  const at::NoGradGuard no_grad;
  summing_.parameters = parameters;
  for (const size_t i : parameters) {
    const auto weight = optimizer_.weights().tensors[i];
    auto& gradient = parameter(i).mutable_grad();
    summing_.sums.push_back(gradient.defined()
                                ? gradient.to(weight.scalar_type())
                                : at::zeros(weight.sizes(), weight.options().requires_grad(false)));
    gradient.reset();
  }
  summing_.end = start_(summing_.sums);
}

void ParameterShards::end_summing() {
  if (!summing_.end) return;
  const auto done = std::exchange(summing_, {});
  done.end();
  for (size_t j = 0; j < done.parameters.size(); ++j) {
    const size_t i = done.parameters[j];
    if (!is_own(i)) continue;
    if (gradients_[i].defined()) {
      gradients_[i].add_(done.sums[j]);
    } else {
      gradients_[i] = done.sums[j];
    }
  }
}

void ParameterShards::finish(const std::vector<at::Tensor>& further) {
  const at::NoGradGuard no_grad;
  end_summing();
  for (size_t i = 0; i < gradients_.size(); ++i) {
    const auto& weight = optimizer_.weights().tensors[i];
    if (is_own(i) && !gradients_[i].defined())
      gradients_[i] = at::zeros(weight.sizes(), weight.options().requires_grad(false));
  }
  sum_(further);
  release();
}

void ParameterShards::gather_whole(On where) {
  release();
  phase_ = Phase::whole;
  const bool keeps = where == On::every_rank || place_.is_first();
  const auto gather = [&](const std::vector<size_t>& parameters) {
    if (parameters.empty()) return;
    gathering_ = start_gathering(parameters);
    end_gathering();
    if (!keeps) give_up(parameters);
  };
  gather(outside_);
  for (const auto& parameters : of_layer_) gather(parameters);
  is_outside_here_ = keeps;
  is_here_.assign(is_here_.size(), keeps);
}

std::vector<at::Tensor> ParameterShards::whole_weights() const {
  std::vector<at::Tensor> whole;
  const auto& weights = optimizer_.weights().tensors;
  for (size_t i = 0; i < weights.size(); ++i) {
    auto weight = on_first_rank(is_own(i) ? weights[i] : at::Tensor(), weights[i].sizes(),
                                weights[i].options().requires_grad(false), place_, sum_);
    if (place_.is_first()) whole.push_back(std::move(weight));
  }
  return whole;
}

std::map<std::string, at::Tensor> ParameterShards::whole_state(const Ema& ema) const {
  auto state = ema.state_dict();
  const auto& weights = optimizer_.weights();
  for (size_t i = 0; i < weights.tensors.size(); ++i) {
    const auto name = "ema." + weights.names[i];
    const auto sum = on_first_rank(
        is_own(i) ? state.at(name) : at::Tensor(), weights.tensors[i].sizes(),
        weights.tensors[i].options().dtype(at::kFloat).requires_grad(false), place_, sum_);
    if (place_.is_first()) state[name] = sum;
  }
  return state;
}

}  // namespace x_transformers
