// Module::clone of models, objectives and stacks: the same values in tensors of their own.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "warnings.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/type_help.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/wrappers/autoregressive.h"
#include "x_transformers/wrappers/nonautoregressive.h"

namespace x_transformers {
namespace {

std::set<std::string> cloneable_types() {
  std::set<std::string> types{"Attention", "FeedForward"};
  for (const auto& type : model_type_help()) {
    if (type.group <= TypeGroup::stacks) types.insert(type.name);
  }
  return types;
}

void expect_equal_apart(const TensorMap& original, const TensorMap& copy) {
  ASSERT_EQ(original.size(), copy.size());
  for (const auto& [name, value] : original) {
    const auto found = copy.find(name);
    ASSERT_TRUE(found != copy.end()) << name;
    EXPECT_TRUE(at::equal(value, found->second)) << name;
    EXPECT_EQ(value.requires_grad(), found->second.requires_grad()) << name;
    if (value.numel() == 0) continue;
    EXPECT_NE(value.data_ptr(), found->second.data_ptr()) << name;
  }
}

TEST(Clone, OfEveryModelOfTheGoldenCasesHasItsValues) {
  const auto types = cloneable_types();
  std::set<std::string> cloned_types;
  for (const auto& entry : std::filesystem::directory_iterator(XT_TEST_DATA "/parity")) {
    const Json group = Json::parse(std::ifstream(entry.path()));
    for (const auto& golden : group.at("cases")) {
      const Json& config = golden["config"];
      const auto type = config.value("type", "");
      if (!types.count(type)) continue;
      SCOPED_TRACE(golden["name"].get<std::string>());
      const CollectedWarnings warnings;
      const auto model = build_model(config);
      torch::nn::Module& module = model->module();
      {
        const at::NoGradGuard no_grad;
        for (auto& parameter : module.parameters()) parameter.uniform_(-1, 1);
      }
      const auto told = warnings.messages().size();
      if (config.contains("token_critic")) {  // has a function that cannot be copied
        EXPECT_THROW(module.clone(), InputError);
        continue;
      }
      at::manual_seed(3);
      const auto next = at::rand({1});
      at::manual_seed(3);
      const auto copy = module.clone();
      EXPECT_TRUE(at::equal(at::rand({1}), next)) << "random numbers were drawn";
      EXPECT_EQ(warnings.messages().size(), told);
      ASSERT_TRUE(copy);
      expect_equal_apart(state_dict(module), state_dict(*copy));
      cloned_types.insert(type);
    }
  }
  for (const char* type : {"TransformerWrapper", "XTransformer", "AutoregressiveWrapper", "Decoder",
                           "BeliefStateWrapper", "GPTVAE", "FreeTransformer", "DPO"})
    EXPECT_TRUE(cloned_types.count(type)) << type << " was not tried";
}

TransformerWrapper small_model() {
  TransformerWrapperOptions options;
  options.num_tokens = 11;
  options.max_seq_len = 8;
  options.attn_layers = {.kind = LayersKind::decoder, .dim = 16, .depth = 2};
  options.attn_layers.heads = 2;
  return TransformerWrapper(options);
}

TEST(Clone, ComputesTheSameAndIsTrainedApart) {
  auto model = small_model();
  model->eval();
  const auto copy = std::dynamic_pointer_cast<TransformerWrapperImpl>(model->clone());
  ASSERT_TRUE(copy);
  EXPECT_FALSE(copy->attn_layers()->is_training());
  const auto tokens = at::randint(11, {2, 8});
  const auto expected = model->forward(tokens).detach().clone();
  EXPECT_TRUE(at::equal(copy->forward(tokens), expected));
  {
    const at::NoGradGuard no_grad;
    for (auto& parameter : copy->parameters()) parameter.add_(1);
  }
  EXPECT_TRUE(at::equal(model->forward(tokens), expected));
}

TEST(Clone, KeepsTypesAndWhatIsFrozen) {
  auto model = small_model();
  model->to(at::kBFloat16);
  model->attn_layers()->parameters()[0].set_requires_grad(false);
  const auto copy = std::dynamic_pointer_cast<TransformerWrapperImpl>(model->clone());
  for (const auto& parameter : copy->parameters())
    EXPECT_EQ(parameter.scalar_type(), at::kBFloat16);
  EXPECT_FALSE(copy->attn_layers()->parameters()[0].requires_grad());
  EXPECT_TRUE(copy->attn_layers()->parameters()[1].requires_grad());
}

TEST(Clone, OfAWrapperHasItsOwnNet) {
  AutoregressiveWrapper wrapper(small_model());
  wrapper->set_loss_chunk(4);
  const auto copy = std::dynamic_pointer_cast<AutoregressiveWrapperImpl>(wrapper->clone());
  ASSERT_TRUE(copy);
  EXPECT_NE(copy->net(), wrapper->net());
  const auto tokens = at::randint(11, {2, 8});
  const auto output = copy->forward(tokens);
  EXPECT_TRUE(at::equal(output.loss, wrapper->forward(tokens).loss));
  EXPECT_FALSE(output.logits.defined()) << "the chunks of the loss were lost";
}

TEST(Clone, OfWhatWasChangedSinceItWasBuiltIsRefused) {
  auto model = small_model();
  model->register_parameter("added", at::zeros({1}));
  EXPECT_THROW(model->clone(), InputError);
}

}  // namespace
}  // namespace x_transformers
