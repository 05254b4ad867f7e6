// The warning of next-token training whose net sees what it is to predict.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/warnings.h"
#include "tests/wrappers/small_net.h"
#include "x_transformers/wrappers/autoregressive.h"
#include "x_transformers/wrappers/seen_targets.h"
#include "x_transformers/wrappers/xl_autoregressive.h"

namespace x_transformers::seen_targets_test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::StartsWith;

const auto kWarning = StartsWith("net: is not causal: each token sees those after it");

TEST(SeenTargets, AreWarnedOfInTraining) {
  AutoregressiveWrapper model(small_net(LayersKind::encoder));
  XLAutoregressiveWrapper of_segments(small_net(LayersKind::attention_layers));
  const CollectedWarnings warnings;
  model->forward(random_tokens(2, 9));
  of_segments->forward(random_tokens(2, 9));
  EXPECT_THAT(warnings.messages(), ElementsAre(kWarning, kWarning));
}

TEST(SeenTargets, AreNoneOfACausalNet) {
  AutoregressiveWrapper model(small_net());
  const CollectedWarnings warnings;
  model->forward(random_tokens(2, 9));
  EXPECT_THAT(warnings.messages(), IsEmpty());
}

TEST(SeenTargets, AreNotWarnedOfWhereTheyAreMeantOrHiddenOrMeasured) {
  AutoregressiveWrapper model(small_net(LayersKind::encoder));
  const CollectedWarnings warnings;
  {
    const NonCausalMeant meant;
    model->forward(random_tokens(2, 9));
  }
  TransformerInputs hidden;
  hidden.layers.attn_mask = at::ones({9, 9}, at::kBool).tril();
  model->forward(random_tokens(2, 9), hidden);
  {
    const at::NoGradGuard no_grad;
    model->forward(random_tokens(2, 9));
  }
  model->eval();
  model->forward(random_tokens(2, 9));
  EXPECT_THAT(warnings.messages(), IsEmpty());
}

}  // namespace
}  // namespace x_transformers::seen_targets_test
