#include "x_transformers/core/tensor_keeper.h"

#include <torch/csrc/autograd/engine.h>

#include <string>
#include <typeinfo>
#include <utility>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

thread_local TensorKeeper* asked_keeper = nullptr;

/// LibTorch's engine, which asks for a placeholder each time that it is about to keep a tensor.
class AskingEngine : public torch::autograd::Engine {
 public:
  AskingEngine() = default;
  std::unique_ptr<torch::autograd::SavedVariableHooks> get_default_saved_variable_hooks() override {
    return asked_keeper == nullptr ? nullptr : asked_keeper->placeholder();
  }
};

torch::autograd::Engine& asking_engine() {
  static auto* engine = new AskingEngine;  // never destroyed, as LibTorch's own
  return *engine;
}

}  // namespace

TensorKeeper* current_keeper() { return asked_keeper; }

KeepingBy::KeepingBy(TensorKeeper* keeper) : before_(std::exchange(asked_keeper, keeper)) {}

KeepingBy::~KeepingBy() { asked_keeper = before_; }

void let_autograd_ask(const char* what) {
  const auto& engine = torch::autograd::Engine::get_default_engine();
  if (typeid(engine) == typeid(AskingEngine)) return;
  if (typeid(engine) != typeid(torch::autograd::Engine))
    throw RunError(std::string(what) +
                   " here: autograd is run by an engine that is not LibTorch's own, as within "
                   "Python");
  torch::autograd::set_default_engine_stub(&asking_engine);
}

}  // namespace x_transformers
