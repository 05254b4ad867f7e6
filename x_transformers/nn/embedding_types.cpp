#include "x_transformers/nn/embedding_types.h"

#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/rules.h"

namespace x_transformers {
namespace {

/// The options of the three types that a model can tell, by type.
const std::map<std::string, std::vector<std::string>>& told_options() {
  static const std::map<std::string, std::vector<std::string>> names{
      {"TokenEmbedding", {"dim", "num_tokens", "l2norm_embed"}},
      {"AbsolutePositionalEmbedding", {"dim", "max_seq_len", "l2norm_embed"}},
      {"ScaledSinusoidalEmbedding", {"dim"}}};
  return names;
}

/// An embedding of one of the three types, from its complete options.
template <class Module, class EmbeddingOptions>
std::shared_ptr<BaseEmbedding> make_given(const ModuleSpec& spec, const EmbeddingSizes& sizes) {
  const auto options =
      options_from_json<EmbeddingOptions>(Json::parse(spec.arguments), OptionPath());
  expect(options.dim == sizes.dim, at("dim"), options.dim,
         "the features of the model's embeddings, {}", sizes.dim);
  return std::make_shared<Module>(options);
}

/// The types by name. Models may be built by several threads.
struct EmbeddingRegistry {
  std::mutex mutex;
  std::map<std::string, MakeEmbedding> types{
      {"TokenEmbedding", make_given<TokenEmbeddingImpl, TokenEmbeddingOptions>},
      {"AbsolutePositionalEmbedding",
       make_given<AbsolutePositionalEmbedding, AbsolutePositionalEmbeddingOptions>},
      {"ScaledSinusoidalEmbedding",
       make_given<ScaledSinusoidalEmbedding, ScaledSinusoidalEmbeddingOptions>}};
};

EmbeddingRegistry& embedding_registry() {
  static EmbeddingRegistry all;
  return all;
}

}  // namespace

void register_embedding(const std::string& type, MakeEmbedding make) {
  const std::lock_guard lock(embedding_registry().mutex);
  require(embedding_registry().types.emplace(type, std::move(make)).second, at(type + ":"),
          "is an embedding already");
}

ModuleSpec with_sizes(const ModuleSpec& spec, const EmbeddingSizes& sizes) {
  const auto found = told_options().find(spec.type);
  if (found == told_options().end()) return spec;
  Json arguments = Json::parse(spec.arguments);
  const Json told{{"dim", sizes.dim},
                  {"num_tokens", sizes.num_tokens},
                  {"max_seq_len", sizes.max_seq_len},
                  {"l2norm_embed", sizes.l2norm_embed}};
  for (const auto& name : found->second) {
    if (!arguments.contains(name)) arguments[name] = told.at(name);
  }
  return {spec.type, arguments.dump()};
}

std::shared_ptr<BaseEmbedding> make_embedding(const ModuleSpec& spec, const EmbeddingSizes& sizes) {
  MakeEmbedding make;
  std::vector<std::string> known;
  {
    const std::lock_guard lock(embedding_registry().mutex);
    const auto& types = embedding_registry().types;
    if (const auto found = types.find(spec.type); found != types.end()) make = found->second;
    for (const auto& [name, other] : types) known.push_back(name);
  }
  if (!make) detail::unknown("type", "type", spec.type, known);
  return make(with_sizes(spec, sizes), sizes);
}

}  // namespace x_transformers
