// The types that model files name: how each is built, and what its options are.
#pragma once

#include <concepts>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/option_help.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/model.h"
#include "x_transformers/interchange/token_predictor.h"
#include "x_transformers/interchange/type_help.h"
#include "x_transformers/nn/callable_module.h"

namespace x_transformers {

/// Where a model stands in what the user gave, and the release of Python that the whole means.
struct ModelPlace {
  ModelPlace(OptionPath path, const Compat& whole) : where(std::move(path)), compat(whole) {}

  OptionPath where;  ///< errors begin with it
  Compat compat;

  ModelPlace below(const std::string& key) const { return {where / key, compat}; }
};

struct ModelType {
  std::function<std::shared_ptr<Model>(const Json& config, const ModelPlace& place)> build;
  std::function<std::vector<OptionHelp>()> help;
  /// Every option of a valid config, each spelled in one way.
  std::function<Json(const Json& config)> spell_out;
  /// Where in that stand options that weights do not depend on, as JSON pointers.
  std::function<std::set<std::string>(const Json& config)> free_options;
  /// The class of the models that it builds, as the return type of their maker has it: Model, or
  /// one derived from it.
  const std::type_info* model_class = &typeid(Model);
  bool is_net = false;  ///< whether wrappers over tokens take it (Model::token_model)
  /// Whether that class is a TokenPredictor, and whether it has a loss by chunks of tokens
  /// (Model::set_loss_chunk).
  bool predicts_tokens = false, chunks_loss = false;
  bool is_position_bias = false;  ///< whether its module is a PositionBias, which rel_pos takes
  /// Puts a net that is given without a wrapper into a model of this type, as its option "net", to
  /// train it. Of the one type that does so; null in all others.
  std::function<std::shared_ptr<Model>(std::shared_ptr<Model> net)> wrap_net = nullptr;
};

/// Types by their names, and what lists say of them.
class ModelTypes {
 public:
  /// Throws InputError where the name is taken.
  ModelType& add(TypeHelp help, ModelType type);

  const std::map<std::string, ModelType>& by_name() const { return by_name_; }
  const std::vector<TypeHelp>& help() const { return help_; }  ///< as they were added

 private:
  std::map<std::string, ModelType> by_name_;
  std::vector<TypeHelp> help_;
};

namespace detail {

/// Says of `type` what `Built`, the class of its models, shows.
template <class Built>
void describe(ModelType& type) {
  type.model_class = &typeid(Built);
  type.predicts_tokens = std::derived_from<Built, TokenPredictor>;
  type.chunks_loss = !std::same_as<decltype(&Built::set_loss_chunk), void (Model::*)(int64_t)>;
}

}  // namespace detail

/// A type whose constructor takes `OptionsType`; `make(options, config, place)` or `make(options)`
/// returns the model.
template <class OptionsType, class Make>
ModelType model_type(Make make) {
  constexpr bool kTakesPlace =
      std::invocable<Make, const OptionsType&, const Json&, const ModelPlace&>;
  ModelType type;
  type.build = [make](const Json& config, const ModelPlace& place) -> std::shared_ptr<Model> {
    auto options = options_from_json<OptionsType>(config, place.where);
    if constexpr (requires { options.compat; }) options.compat = place.compat;
    if constexpr (kTakesPlace) {
      return make(options, config, place);
    } else {
      return built(below(place.where), [&] { return make(options); });
    }
  };
  if constexpr (kTakesPlace) {
    using Built = std::invoke_result_t<Make, const OptionsType&, const Json&, const ModelPlace&>;
    detail::describe<typename Built::element_type>(type);
  } else {
    detail::describe<typename std::invoke_result_t<Make, const OptionsType&>::element_type>(type);
  }
  type.help = [] { return options_help<OptionsType>(); };
  type.spell_out = [](const Json& config) {
    return options_to_json(options_from_json<OptionsType>(config, "config"));
  };
  type.free_options = [](const Json& config) {
    return free_places(options_from_json<OptionsType>(config, "config"));
  };
  return type;
}

/// Adds a class of the user's own, or of a test's, to the types that model files may name, before
/// the first model is built. `meaning` is its line in lists of types. InputError where the name is
/// taken.
void register_model_type(const std::string& name, ModelType type, const std::string& meaning = "");

/// Throws InputError unless `method` is forward.
void require_forward(const std::string& type, const std::string& method);

/// build_model for what stands within another model.
std::shared_ptr<Model> build_part(const Json& config, const ModelPlace& place);

/// Whether build_part may return a `model_class` for `config`. Of a type whose maker returns a
/// Model it is not known before, and it may.
bool may_be(const std::type_info& model_class, const Json& config, const OptionPath& where);

/// The types of which `has` holds, in the order of lists, as words: "A, B and C".
std::string types_with(bool ModelType::*has);

/// Whether model files may name this type.
bool is_model_type(const std::string& name);

/// A type of model files as a module given as a value of a model of `compat`.
CallableModule model_callable(const ModuleSpec& spec, const Compat& compat);

// The library's own types, by the file that translates them.
void register_attend(ModelTypes& types);
void register_autoregressive(ModelTypes& types);
void register_belief_state(ModelTypes& types);
void register_blocks(ModelTypes& types);
void register_callables(ModelTypes& types);
void register_continuous(ModelTypes& types);
void register_dpo(ModelTypes& types);
void register_entropy_based_tokenizer(ModelTypes& types);
void register_flash_parts(ModelTypes& types);
void register_flash_transformer(ModelTypes& types);
void register_free_transformer(ModelTypes& types);
void register_gpt_vae(ModelTypes& types);
void register_layers(ModelTypes& types);
void register_losses(ModelTypes& types);
void register_multi_input(ModelTypes& types);
void register_neo_mlp(ModelTypes& types);
void register_nonautoregressive(ModelTypes& types);
void register_norms(ModelTypes& types);
void register_positions(ModelTypes& types);
void register_residuals(ModelTypes& types);
void register_transformer_wrapper(ModelTypes& types);
void register_universal_pretrain(ModelTypes& types);
void register_vision(ModelTypes& types);
void register_x_transformer(ModelTypes& types);
void register_xl_autoregressive(ModelTypes& types);
void register_xval(ModelTypes& types);
void register_zeta_transformer(ModelTypes& types);

}  // namespace x_transformers
