#include "x_transformers/interchange/net_argument.h"

#include "x_transformers/interchange/interchange.h"

namespace x_transformers {

std::shared_ptr<Model> build_net(const Json& config, const char* key, const ModelPlace& place) {
  const auto below = place.below(key);
  const auto& given = config.at(key);
  if (!given.is_object()) detail::wrong_type(below.where, "an object with a type", given);
  auto net = build_part(given, below);
  expect(is_net(given), at(below.where / "type"), given["type"].get<std::string>(),
         "a net over tokens, such as TransformerWrapper");
  return net;
}

SeeingNet seeing_net(const char* name, const TokenModel& net) {
  const auto traits = net.traits();
  return traits.is_causal ? SeeingNet() : SeeingNet{name, traits.stack};
}

}  // namespace x_transformers
