// ZetaTransformer in the interchange.
#include "x_transformers/models/zeta_transformer.h"

#include <ATen/ATen.h>

#include <utility>

#include "x_transformers/interchange/models/transformer_wrapper.h"
#include "x_transformers/interchange/registry.h"

namespace x_transformers {
namespace {

std::shared_ptr<Model> make_model(const ZetaTransformerOptions& options) {
  std::shared_ptr<TransformerWrapperImpl> net = std::make_shared<ZetaTransformerImpl>(options);
  return transformer_wrapper_model("ZetaTransformer", TransformerWrapper(std::move(net)));
}

/// The provider with the options that the model tells it.
Json spell_out_zeta(const Json& config) {
  auto options = options_from_json<ZetaTransformerOptions>(config, "config");
  options.embedding_provider = with_sizes(options.embedding_provider, embedding_sizes(options));
  return options_to_json(options);
}

}  // namespace

void register_zeta_transformer(ModelTypes& types) {
  auto type = model_type<ZetaTransformerOptions>(make_model);
  type.is_net = true;
  type.spell_out = spell_out_zeta;
  types.add({"ZetaTransformer", TypeGroup::models,
             "a TransformerWrapper with an embedding of your own (Zeta)"},
            type);
}

}  // namespace x_transformers
