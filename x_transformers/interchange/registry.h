// How types enter the interchange.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "x_transformers/core/json.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers {

struct ModelType {
  std::function<std::shared_ptr<Model>(const Json& config, const std::string& where)> build;
  std::function<std::vector<OptionHelp>()> help;
};
using ModelTypes = std::map<std::string, ModelType>;

/// A model made of a module and a function for each method.
template <class Holder>
class ModuleModel : public Model {
 public:
  using Call = std::function<Value(Holder&, const std::string& method, Arguments&)>;
  ModuleModel(Holder holder, Call call) : holder_(std::move(holder)), call_(std::move(call)) {}
  torch::nn::Module& module() override { return *holder_; }
  Value call(const std::string& method, Arguments& arguments) override {
    return call_(holder_, method, arguments);
  }
  Holder& holder() { return holder_; }

 private:
  Holder holder_;
  Call call_;
};

/// Registers a type whose constructor takes `OptionsType`.
template <class Holder, class OptionsType, class Make>
void register_type(ModelTypes& types, const std::string& name, Make make,
                   typename ModuleModel<Holder>::Call call) {
  types[name] = {
      [make, call](const Json& config, const std::string& where) -> std::shared_ptr<Model> {
        const auto options = options_from_json<OptionsType>(config, where);
        try {
          return std::make_shared<ModuleModel<Holder>>(make(options), call);
        } catch (...) {
          rethrow_at(where);
        }
      },
      [] { return options_help<OptionsType>(); }};
}

/// Throws InputError unless `method` is forward.
void require_forward(const std::string& type, const std::string& method);

void register_layers(ModelTypes& types);
void register_models(ModelTypes& types);
void register_parts(ModelTypes& types);
/// Makes every type known to make_callable: models as token_emb, hybrid_module and the like.
void register_as_callables(const ModelTypes& types);

/// flash_pack_seq_kwargs: what flash_attn's function takes, as tensors and as a JSON object.
std::optional<PackedSequences> take_packed(Arguments& arguments, const std::string& name);
/// Arguments of AttentionLayers.forward other than x and its cache.
AttentionLayersInputs take_layers_inputs(Arguments& arguments);
/// Arguments of TransformerWrapper.forward other than x, its cache and the return_ flags.
TransformerInputs take_transformer_inputs(Arguments& arguments);

}  // namespace x_transformers
