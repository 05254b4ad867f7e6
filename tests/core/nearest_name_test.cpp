// Which known name a wrong one leads to.
#include "x_transformers/core/nearest_name.h"

#include <gtest/gtest.h>

#include "x_transformers/core/other_words.h"

namespace x_transformers {
namespace {

const std::vector<std::string> kModel{"num_tokens", "max_seq_len", "attn_layers", "emb_dim",
                                      "tie_embedding"};
const std::vector<std::string> kLayers{"dim",          "depth",      "heads",   "attn_kv_heads",
                                       "attn_dropout", "ff_dropout", "ff_mult", "rotary_pos_emb"};
const std::vector<std::string> kInLayers{"attn_layers.dim", "attn_layers.depth",
                                         "attn_layers.heads"};

TEST(NearestName, TakesTheWordsOfOtherLibraries) {
  EXPECT_EQ(nearest_hint("n_layer", kLayers), "it is called 'depth' here");
  EXPECT_EQ(nearest_hint("n_head", kLayers), "it is called 'heads' here");
  EXPECT_EQ(nearest_hint("num_attention_heads", kLayers), "it is called 'heads' here");
  EXPECT_EQ(nearest_hint("n_embd", kLayers), "it is called 'dim' here");
  EXPECT_EQ(nearest_hint("ff_dim", kLayers), "it is called 'ff_mult' here (a multiple of dim)");
  EXPECT_EQ(nearest_hint("dropout", kLayers), "it is called 'attn_dropout' or 'ff_dropout' here");
  EXPECT_EQ(nearest_hint("block_size", kModel), "it is called 'max_seq_len' here");
  EXPECT_EQ(nearest_hint("rope_theta", {"rotary_pos_emb", "rotary_base_rescale_factor"}),
            "it is called 'rotary_base_rescale_factor' here (the base is 10000 * factor ** (d / (d "
            "- 2)) with d = rotary_emb_dim)");
  EXPECT_EQ(nearest_hint("momentum", {"beta1", "beta2", "muon_momentum"}),
            "it is called 'beta1' or 'muon_momentum' here (of AdamW and Lion, or of Muon)");
  EXPECT_EQ(nearest_hint("amsgrad", {"grad_accum", "optimizer"}),
            "train.optimizer takes adamw, lion, muon and adafactor");
  EXPECT_EQ(nearest_hint("vocab_size", kModel), "it is called 'num_tokens' here");
}

TEST(NearestName, LooksInOtherObjects) {
  EXPECT_EQ(nearest_hint("n_layer", kModel, kInLayers), "it is 'attn_layers.depth'");
  EXPECT_EQ(nearest_hint("heads", kModel, kInLayers), "it is 'attn_layers.heads'");
  EXPECT_EQ(nearest_hint("dtype", {"precision"}, {"data.dtype"}),
            "it is 'data.dtype', or it is called 'precision' here (fp32 or bf16)");
}

TEST(NearestName, KnowsTheOtherPartsOfARun) {
  EXPECT_EQ(nearest_hint("n_layer", {"steps", "muon_adjust_lr_fn"}),
            "it is 'depth' or 'enc_depth' or 'dec_depth' of the model");
  EXPECT_EQ(nearest_hint("heads", {"steps", "seed"}), "it is 'heads' of the model");
  EXPECT_EQ(nearest_hint("lr", kModel), "it is 'train.learning_rate'");
  EXPECT_EQ(nearest_hint("learning_rate", kLayers), "it is 'train.learning_rate'");
  EXPECT_EQ(nearest_hint("batch_size", kModel), "it is 'data.batch_size'");
  EXPECT_EQ(nearest_hint("top_p", kModel), "it is 'top_p' of generate");
  EXPECT_EQ(nearest_hint("epochs", {}),
            "it is 'train.steps' (updates of the weights, not passes over the data)");
  EXPECT_EQ(nearest_hint("max_new_tokens", {"sample_length", "steps"}, {"data.seq_len"}),
            "it is called 'sample_length' here");
}

TEST(NearestName, TakesTheMeaningThatThereIs) {
  const std::vector<std::string> writing{"--tokens", "--top-k", "--temperature"};
  EXPECT_EQ(nearest_hint("--max_length", writing), "it is called '--tokens' here");
  EXPECT_EQ(nearest_hint("--max-len", writing), "it is called '--tokens' here");
  EXPECT_EQ(nearest_hint("--num-tokens", writing), "it is called '--tokens' here");
  EXPECT_EQ(nearest_hint("max_length", kModel), "it is called 'max_seq_len' here");
  EXPECT_EQ(nearest_hint("max_length", {"seed"}), "it is 'max_seq_len' or 'seq_len' of the model");
  EXPECT_EQ(nearest_hint("num_tokens", {"seed"}), "it is 'num_tokens' of the model");
}

TEST(NearestName, NamesOptionsByTheirPaths) {
  const OptionPath model("model"), layers = model / "net" / "attn_layers";
  const auto hint = nearest_option("n_layer", {model / "net"}, {layers / "dim", layers / "depth"});
  EXPECT_EQ(hint, text("it is '{}'", layers / "depth"));
  EXPECT_EQ(nearest_option("hads", {layers / "heads"}, {}),
            text("the nearest known one is '{}'", layers / "heads"));
  EXPECT_EQ(nearest_option("max_seq_len", {layers / "dim"}, {model / "net" / "max_seq_len"}),
            text("it is '{}'", model / "net" / "max_seq_len"));
  // Each place once.
  EXPECT_EQ(nearest_option("dim", {model / "net"}, {layers / "dim", layers / "dim"}),
            text("it is '{}'", layers / "dim"));
}

TEST(NearestName, IsSilentWhereNothingIsNear) {
  EXPECT_EQ(nearest_hint("gradient", {"seed"}), "");
  EXPECT_EQ(nearest_hint("xyz", kLayers), "");
}

TEST(NearestName, TellsMisspellingsFromWords) {
  EXPECT_EQ(nearest_hint("haeds", kLayers), "the nearest known one is 'heads'");
  EXPECT_EQ(nearest_hint("kv_haeds", kLayers), "the nearest known one is 'attn_kv_heads'");
  EXPECT_EQ(nearest_hint("pos_emb", kLayers), "the nearest known one is 'rotary_pos_emb'");
  const std::vector<std::string> commands{"train", "generate", "options", "bench", "info"};
  EXPECT_EQ(nearest_hint("opts", commands), "the nearest known one is 'options'");
  EXPECT_EQ(nearest_hint("gen", commands), "the nearest known one is 'generate'");
  EXPECT_EQ(nearest_hint("--topk", {"--top-k", "--top-p"}), "the nearest known one is '--top-k'");
  EXPECT_EQ(nearest_hint("anything", {}), "");
  EXPECT_EQ(nearest_hint(std::string(1 << 20, 'a'), kLayers), "");
}

TEST(NearestName, SaysWhatThereIsInstead) {
  EXPECT_EQ(nearest_hint("init_from", {"init_from_weights", "init_from"}).find("resume"),
            std::string::npos);
}

TEST(OtherWords, AreFoundHoweverTheyAreSpelled) {
  ASSERT_FALSE(other_words("--Num-Layers").empty());
  EXPECT_EQ(&other_words("--Num-Layers"), &other_words("num_layers"));
  EXPECT_TRUE(other_words("no_such_word").empty());
}

}  // namespace
}  // namespace x_transformers
