#include "x_transformers/io/weight_file.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pickle_writer.h"
#include "test_files.h"
#include "warnings.h"
#include "x_transformers/io/known_models.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/io/weight_names.h"

namespace x_transformers {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Key;
using testing::Not;
using testing::StartsWith;

// Two layers within a net, as in a model within a wrapper.
struct Net : torch::nn::Module {
  Net() {
    auto net = register_module("net", std::make_shared<torch::nn::Module>("net"));
    for (const char* name : {"a", "b"}) {
      auto layer = net->register_module(name, std::make_shared<torch::nn::Module>(name));
      layer->register_parameter("weight", at::zeros({2}));
    }
  }
};

const Compat kCompat;

class WeightFileTest : public FolderTest {
 protected:
  static std::string pickled_weight(float value) {
    const std::string storage = pickled::storage("FloatStorage", "0", 1);
    const auto tensor = pickled::tensor(storage, 0, {1}, {1});
    return archive_of({{"data.pkl", pickled::pickle(pickled::dict({{pickled::text("x"), tensor}}))},
                       {"data/0", pickled::bytes_of(value)}});
  }
  std::filesystem::path write(const std::string& name, const std::string& bytes) const {
    write_bytes(folder_ / name, bytes);
    return folder_ / name;
  }
  // Both weights of a Net under these names, of ones and twos.
  std::filesystem::path net_file(const std::string& a, const std::string& b) const {
    auto path = folder_ / "net.safetensors";
    save_safetensors(path, {{a, at::ones({2})}, {b, at::full({2}, 2.0)}});
    return path;
  }
  static std::string refusal(const std::filesystem::path& path,
                             const WeightSelection& selection = {}) {
    return message_of<InputError>([&] { load_model_weights(path, selection); });
  }
};

TEST_F(WeightFileTest, WhoseTheWeightsAreIsSavedAndRead) {
  const auto path = folder_ / "weights.safetensors";
  save_weights(path, {{"x", at::ones({1})}}, "9.0.0");
  EXPECT_EQ(load_model_weights(path).xt_compat, "9.0.0");
  EXPECT_EQ(load_model_weights(path, {.xt_compat = "9.0.0"}).xt_compat, "9.0.0");
  EXPECT_EQ(refusal(path, {.xt_compat = "8.0.0"}),
            "xt_compat: expected 9.0.0, as " + path.string() + " says itself, got '8.0.0'");
  save_safetensors(path, {{"x", at::ones({1})}});
  EXPECT_EQ(load_model_weights(path).xt_compat, "");
  EXPECT_EQ(load_model_weights(path, {.xt_compat = "8.0.0"}).xt_compat, "8.0.0");
  EXPECT_EQ(refusal(path, {.xt_compat = "new"}),
            "xt_compat: expected a release of x-transformers, such as 2.16.1, got 'new'");
  Net net;
  EXPECT_THAT(
      message_of<InputError>([&] { load_weights(net, kCompat, path, {.xt_compat = "2.31.10"}); }),
      HasSubstr("the weights have the meaning of x-transformers 2.31.10"));
}

TEST_F(WeightFileTest, UnsoundAliasesAreRefused) {
  const auto path = folder_ / "weights.safetensors";
  for (const char* aliases : {"[", "[]", R"({"y":"z"})", R"({"y":1})", R"({"x":"x"})"}) {
    SCOPED_TRACE(aliases);
    save_safetensors(path, {{"x", at::ones({1})}}, {{"aliases", aliases}});
    EXPECT_THAT(refusal(path), HasSubstr(path.string() + ": metadata.aliases"));
  }
}

TEST_F(WeightFileTest, TheContentSaysWhatAFileIs) {
  const std::string storage = pickled::storage("FloatStorage", "0", 1);
  const std::string value =
      pickled::dict({{pickled::text("x"), pickled::tensor(storage, 0, {1}, {1})}});
  save_safetensors(folder_ / "sound", {{"x", at::full({1}, 3.0)}});
  const std::vector<std::string> contents{pickled_weight(3.0F),
                                          stream_of(value, {{"0", pickled::bytes_of(3.0F)}}, 4),
                                          read_bytes(folder_ / "sound")};
  for (const auto& content : contents) {
    for (const char* name : {"w.pt", "w.ckpt", "w.pth.tar", "w.safetensors", "w", "w.json"}) {
      EXPECT_EQ(load_model_weights(write(name, content)).tensors.at("x").item<float>(), 3.0F)
          << name;
    }
  }
}

// The length of a header comes first, and may be the first bytes of other formats.
TEST_F(WeightFileTest, SafetensorsOfAnyHeaderLength) {
  const std::string header = R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  for (const std::uint64_t length : {0x7b, 0x0280, 0x0380, 0x0480, 0x0580, 0x4b50}) {
    std::string padded = header;
    padded.resize(length, ' ');
    const auto path = write("w.pt", pickled::bytes_of(length) + padded + pickled::bytes_of(3.0F));
    EXPECT_EQ(load_model_weights(path).tensors.at("x").item<float>(), 3.0F) << length;
  }
}

TEST_F(WeightFileTest, WhatIsNoFileOfWeightsIsNamed) {
  const std::vector<std::pair<std::string, std::string>> files{
      {"", "the file is empty"},
      {"GGUF and more",
       "expected weights: safetensors, a file of torch.save, or the index of "
       "several; it is a GGUF file of llama.cpp"},
      {"version https://git-lfs.github.com/spec/v1\n", "git lfs pull fetches it"},
      {"\x1f\x8b\x08", "packed by gzip; unpack it first"},
      {"<!DOCTYPE html>", "a web page, not the file itself"},
      {"hello", "expected weights: safetensors"},
      {R"({"type": "Encoder"})", "JSON, but no index of weights: it has no weight_map"},
  };
  for (const auto& [content, expected] : files) {
    const auto path = write("file.bin", content);
    EXPECT_THAT(refusal(path), AllOf(StartsWith(path.string() + ": "), HasSubstr(expected)));
  }
  const auto pointer = write("w.safetensors", "version https://git-lfs.github.com/spec/v1\n");
  EXPECT_THAT(refusal(pointer), HasSubstr("a pointer of Git LFS, not the file itself"));
  for (const auto& [magic, expected] :
       std::vector<std::pair<std::int32_t, std::string>>{{20240326, "a model of llm.c"},
                                                         {20240327, "the state of a run of llm.c"},
                                                         {20240803, "a Llama 3 model of llm.c"},
                                                         {20240520, "a token file of llm.c"},
                                                         {20240801, "a token file of llm.c"}}) {
    EXPECT_THAT(refusal(write("model.bin", pickled::bytes_of(magic) + std::string(1020, '\0'))),
                HasSubstr(expected));
  }
  EXPECT_THAT(refusal(folder_ / "missing"), HasSubstr("missing: no such file"));
  EXPECT_THAT(refusal("/dev/zero"), HasSubstr("expected a regular file"));
}

TEST_F(WeightFileTest, AModelInSeveralFilesIsReadByItsIndex) {
  save_safetensors(folder_ / "m-1.safetensors", {{"a", at::ones({1})}});
  write("m-2.bin", pickled_weight(4.0F));
  const auto index = write("m.safetensors.index.json",
                           R"({"weight_map": {"a": "m-1.safetensors", "x": "m-2.bin"}})");
  for (const auto& path : {index, folder_}) {
    const auto weights = load_model_weights(path).tensors;
    EXPECT_THAT(weights, ElementsAre(Key("a"), Key("x")));
    EXPECT_EQ(weights.at("x").item<float>(), 4.0F);
  }
  const std::vector<std::pair<std::string, std::string>> unsound{
      {R"({"weight_map": {"b": "m-1.safetensors"}})", "the files lack tensors that it names: b"},
      {R"({"weight_map": {"a": "m-9.safetensors"}})", "m-9.safetensors: no such file"},
      {R"({"weight_map": {"a": "../m-1.safetensors"}})", "weight_map.a: expected a file beside"},
      {R"({"weight_map": {"a": 1}})", "weight_map.a: expected the name of a file"},
      {R"({"weight_map": [1]})", "it has no weight_map"},
      {R"({"weight_map": )", "m.safetensors.index.json"},
  };
  for (const auto& [content, expected] : unsound) {
    write("m.safetensors.index.json", content);
    EXPECT_THAT(refusal(index), HasSubstr(expected));
  }
  save_safetensors(folder_ / "m-3.safetensors", {{"a", at::ones({1})}});
  write("m.safetensors.index.json",
        R"({"weight_map": {"a": "m-1.safetensors", "b": "m-3.safetensors"}})");
  EXPECT_THAT(refusal(index), HasSubstr("m-3.safetensors: also in another file of the index: a"));
}

TEST_F(WeightFileTest, AnIndexOfOtherFilesIsTold) {
  save_safetensors(folder_ / "m-1.safetensors", {{"a", at::ones({1})}, {"b", at::ones({1})}});
  save_safetensors(folder_ / "m-2.safetensors", {{"c", at::ones({1})}});
  const auto index = write("m.safetensors.index.json",
                           R"({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors",
                               "c": "m-2.safetensors"}})");
  const CollectedWarnings warnings;
  EXPECT_EQ(load_model_weights(index).tensors.size(), 3U);
  EXPECT_THAT(warnings.messages(),
              ElementsAre(HasSubstr("is not that of these files: m-1.safetensors has what it says "
                                    "to be in another one, b")));
}

TEST_F(WeightFileTest, AFolderHoldsOneFileOrIndex) {
  EXPECT_THAT(refusal(folder_), HasSubstr("found none"));
  write("w.pt", pickled_weight(1.0F));
  EXPECT_EQ(load_model_weights(folder_).tensors.size(), 1U);
  write("v.pt", pickled_weight(1.0F));
  EXPECT_THAT(refusal(folder_), HasSubstr("found v.pt, w.pt"));
  save_safetensors(folder_ / "model.safetensors", {{"m", at::ones({1})}});
  EXPECT_THAT(load_model_weights(folder_).tensors, ElementsAre(Key("m")));
}

TEST_F(WeightFileTest, TheKindOfAFileIsKnownByItsContent) {
  save_safetensors(folder_ / "sound", {{"x", at::full({1}, 3.0)}});
  const std::vector<std::pair<std::string, std::string>> kinds{
      {read_bytes(folder_ / "sound"), "weights (safetensors)"},
      {pickled_weight(1.0F), "weights (a file of torch.save)"},
      {"GGUF and more", "a GGUF file of llama.cpp"},
      {std::string("a\0b", 3), "a binary file"},
      {R"({"type": "Encoder"})", ""},
      {"", ""}};
  for (const auto& [content, kind] : kinds) EXPECT_EQ(kind_of_weights(write("f", content)), kind);
  EXPECT_EQ(kind_of_weights(write("m.index.json", "{}")), "weights (the index of several files)");
  EXPECT_EQ(kind_of_weights(folder_), "");
  EXPECT_EQ(kind_of_weights(folder_ / "none"), "");
}

TEST_F(WeightFileTest, AFileThatTheIndexNamesAndIsNotThereIsNamed) {
  const auto index = write("m.index.json", R"({"weight_map": {"a": "m-1.safetensors"}})");
  EXPECT_THAT(refusal(index), AllOf(HasSubstr("m-1.safetensors: no such file"),
                                    HasSubstr("m.index.json says that it holds a part")));
}

TEST_F(WeightFileTest, WeightsOfOtherArchitecturesAreToldAsWhatTheyAre) {
  Net net;
  const std::vector<std::pair<std::string, std::string>> names{
      {"transformer.h.0.attn.c_attn.weight", "GPT-2"},
      {"_orig_mod.transformer.h.11.attn.c_attn.weight", "GPT-2"},
      {"model.layers.0.self_attn.q_proj.weight", "Llama"},
      {"layers.0.attention.wq.weight", "Meta"},
      {"transformer.h.0.norm_1.weight", "LitGPT"},
      {"bert.encoder.layer.0.attention.self.query.weight", "BERT"},
      {"encoder.block.0.layer.0.SelfAttention.q.weight", "T5"},
      {"encoder.layers.0.self_attn.in_proj_weight", "torch.nn.Transformer"},
      {"base_model.model.layers.0.self_attn.q_proj.lora_A.weight", "LoRA"}};
  for (const auto& [name, expected] : names) {
    const auto path = folder_ / "theirs.safetensors";
    save_safetensors(path, {{name, at::ones({2})}});
    EXPECT_THAT(message_of<InputError>([&] { load_weights(net, kCompat, path); }),
                AllOf(HasSubstr("of another architecture"), HasSubstr(expected)))
        << name;
  }
  EXPECT_EQ(known_model({"net.attn_layers.layers.0.0.0.gamma", "net.x.attn.qkv.weight"}), "");
  EXPECT_EQ(known_model({"weight", "bias"}), "");
}

TEST_F(WeightFileTest, WhatIsRefusedIsToldInOneLine) {
  Net net;
  const CollectedWarnings warnings;
  const auto fits = net_file("module.net.a.weight", "module.net.b.weight");
  load_weights(net, kCompat, fits);
  EXPECT_EQ(warnings.messages().size(), 1U);
  const auto tensor = pickled::tensor(pickled::storage("FloatStorage", "0", 1), 0, {1}, {1});
  const auto value =
      pickled::dict({{pickled::text("epoch"), pickled::integer(3)},
                     {pickled::text("model"), pickled::dict({{pickled::text("y"), tensor}})}});
  const auto path = write("w.pt", archive_of({{"data.pkl", pickled::pickle(value)},
                                              {"data/0", pickled::bytes_of(1.0F)}}));
  EXPECT_THAT(message_of<InputError>([&] { load_weights(net, kCompat, path); }),
              HasSubstr("do not fit the model"));
  EXPECT_EQ(warnings.messages().size(), 1U);
  load_model_weights(path);
  EXPECT_EQ(warnings.messages().size(), 2U);
}

TEST_F(WeightFileTest, WeightsThatAreNoNumbersAreNamed) {
  Net net;
  for (const auto& [wrong, what] :
       {std::pair{std::nan(""), "NaN"}, {HUGE_VAL, "an infinity"}, {-HUGE_VAL, "an infinity"}}) {
    auto weights = state_dict(net);
    auto& [name, tensor] = *weights.begin();
    for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
      tensor = at::ones(tensor.sizes(), type);
      tensor.view(-1)[tensor.numel() - 1] = wrong;
      const auto path = folder_ / "wrong.safetensors";
      save_safetensors(path, weights);
      EXPECT_THAT(message_of<InputError>([&] { load_weights(net, kCompat, path); }),
                  AllOf(HasSubstr("wrong.safetensors: " + name + ": holds " + what + " at ["),
                        HasSubstr("(not finite: 1 of "), HasSubstr("expected finite weights")));
    }
  }
}

TEST_F(WeightFileTest, AFileThatIsCutOffIsTruncatedByAnyName) {
  const auto whole = [&] {
    save_safetensors(folder_ / "whole", {{"x", at::ones({64})}, {"y", at::ones({64})}});
    return read_bytes(folder_ / "whole");
  }();
  for (const char* name : {"w.safetensors", "w.bin", "w"}) {
    for (const size_t left : {size_t{40}, whole.size() - 4}) {
      EXPECT_THAT(refusal(write(name, whole.substr(0, left))),
                  AllOf(HasSubstr("truncated: "), HasSubstr("fetch it or save it again")))
          << name << " " << left;
    }
  }
}

TEST_F(WeightFileTest, WhatPickleDumpWroteIsToldSo) {
  const auto path = write("w.pkl", pickled::pickle(pickled::dict({})));
  EXPECT_THAT(refusal(path), AllOf(HasSubstr("a pickle, but not one of torch.save"),
                                   HasSubstr("torch.save(TENSORS, FILE)")));
}

TEST_F(WeightFileTest, KeysStripsAndRenames) {
  const auto path = net_file("ema.net.a.weight", "online.net.b.weight");
  EXPECT_THAT(load_model_weights(path, {.key = "ema"}).tensors, ElementsAre(Key("net.a.weight")));
  EXPECT_THAT(load_model_weights(path, {.key = "ema."}).tensors, ElementsAre(Key("net.a.weight")));
  EXPECT_THAT(load_model_weights(path, {.key = "."}).tensors.size(), 2U);
  EXPECT_THAT(load_model_weights(path, {.strip = {"ema", "online.net."}}).tensors,
              ElementsAre(Key("b.weight"), Key("net.a.weight")));
  EXPECT_THAT(load_model_weights(path, {.rename = {R"(^\w+\.(net)=\1)", "weight$=bias"}}).tensors,
              ElementsAre(Key("net.a.bias"), Key("net.b.bias")));
  EXPECT_THAT(refusal(path, {.key = "em"}),
              HasSubstr("no tensors under the key 'em'; the names: "));
  EXPECT_THAT(refusal(path, {.strip = {"x."}}), StartsWith("strip: no name begins with 'x.'"));
  EXPECT_THAT(refusal(path, {.rename = {"x.=y"}}), StartsWith("rename: 'x.' matches no name"));
  EXPECT_EQ(refusal(path, {.rename = {"x"}}), "rename: expected REGEX=NEW, got 'x'");
  EXPECT_THAT(refusal(path, {.rename = {"(=y"}}),
              StartsWith("rename: '(=y' is no regular expression: "));
  EXPECT_EQ(refusal(path, {.rename = {"^.*$=y"}}), "rename: gives two tensors the name 'y'");
  EXPECT_EQ(refusal(path, {.rename = {"^ema.*="}}),
            "rename: leaves nothing of the name ema.net.a.weight");
}

TEST_F(WeightFileTest, BeginningsThatAllNamesShareArePutRight) {
  const std::vector<std::pair<std::string, std::string>> beginnings{
      {"net.", ""},
      {"module.net.", "without 'module.'"},
      {"_orig_mod.module.net.", "without '_orig_mod.' and the like, without 'module.'"},
      {"net._orig_mod.", "without '_orig_mod.' and the like"},
      {"model.module.net.", "without 'model.module.'"},
      {"", "with 'net.' in front"},
      {"module.", "without 'module.', with 'net.' in front"},
      {"_forward_module.net.", "without '_orig_mod.' and the like"},
  };
  for (const auto& [beginning, said] : beginnings) {
    SCOPED_TRACE(beginning);
    Net net;
    const auto path = net_file(beginning + "a.weight", beginning + "b.weight");
    const CollectedWarnings warnings;
    const TensorMap taken = load_weights(net, kCompat, path);
    EXPECT_THAT(taken, ElementsAre(Key("net.a.weight"), Key("net.b.weight")));
    EXPECT_EQ(state_dict(net).at("net.b.weight").sum().item<float>(), 4.0F);
    if (said.empty()) {
      EXPECT_THAT(warnings.messages(), IsEmpty());
    } else {
      EXPECT_THAT(warnings.messages(),
                  ElementsAre(path.string() + ": the names are taken " + said));
    }
  }
}

TEST_F(WeightFileTest, WhatIsWrongBesidesABeginningIsSaidWithoutIt) {
  for (const std::string beginning :
       {"", "module.net.", "net._orig_mod.", "model._orig_mod.module.net."}) {
    Net net;
    const auto path = net_file(beginning + "a.weight", beginning + "c.weight");
    EXPECT_THAT(message_of<InputError>([&] { load_weights(net, kCompat, path); }),
                AllOf(HasSubstr("1 missing: net.b.weight; 1 unexpected: net.c.weight (of names "),
                      HasSubstr(beginning.empty() ? "with 'net.' in front" : "without '")))
        << beginning;
  }
}

TEST_F(WeightFileTest, NamesThatPyTorchHasWrappedAreTold) {
  const auto weight = at::ones({2});
  for (const auto& [name, wrapper] : {std::pair{"_orig_mod.a.weight", "_orig_mod."},
                                      {"net._orig_mod.a", "_orig_mod."},
                                      {"module.a.weight", "module."},
                                      {"my_orig_mod.a", ""},
                                      {"a.module.b", ""},
                                      {"net.a", ""}})
    EXPECT_EQ(wrapper_in_names({{name, weight}}), wrapper) << name;
}

TEST_F(WeightFileTest, OneOfSeveralFilesIsToldSo) {
  Net net;
  const auto weight = at::ones({2});
  const auto alone = [&](const std::string& name) {
    save_safetensors(folder_ / name, {{"net.a.weight", weight}});
    return message_of<InputError>([&] { load_weights(net, kCompat, folder_ / name); });
  };
  EXPECT_THAT(alone("w-00001-of-00002.safetensors"),
              HasSubstr("1 missing: net.b.weight; by its name it is file 1 of 2, whose index "));
  write("w.safetensors.index.json", R"({"weight_map": {
      "net.a.weight": "w-00001-of-00002.safetensors", "net.b.weight": "second.safetensors"}})");
  write("other.index.json", "{}");
  for (const char* name : {"w-00001-of-00002.safetensors", "second.safetensors"})
    EXPECT_THAT(alone(name), HasSubstr("; it is one of 2 files, and w.safetensors.index.json "
                                       "stands for all of them"));
  EXPECT_THAT(alone("w-00001-of-00001.safetensors"), Not(HasSubstr("file 1")));
  EXPECT_EQ(part_of_several(folder_ / "third.safetensors"), "");
}

TEST_F(WeightFileTest, WhatNoBeginningExplainsIsRefused) {
  Net net;
  const auto refused = [&](const std::string& a, const std::string& b) {
    const auto path = net_file(a, b);
    auto message = message_of<InputError>([&] { load_weights(net, kCompat, path); });
    EXPECT_THAT(message, StartsWith(path.string() + ": the weights do not fit the model: "));
    return message;
  };
  EXPECT_THAT(refused("x.net.b.weight", "y.net.b.weight"),
              HasSubstr("2 missing: net.a.weight, net.b.weight; 2 unexpected: x.net.b.weight"));
  EXPECT_THAT(refused("ema.net.a.weight", "step"), Not(HasSubstr("key")));
  const auto path = folder_ / "more.safetensors";
  const auto weight = at::ones({2});
  save_safetensors(path,
                   {{"ema.net.a.weight", weight}, {"ema.net.b.weight", weight}, {"s", weight}});
  EXPECT_THAT(
      message_of<InputError>([&] { load_weights(net, kCompat, path); }),
      HasSubstr("; 2 of the file's 3 names fit without 'ema.': key takes these alone (ema)"));
  EXPECT_EQ(state_dict(net).at("net.a.weight").sum().item<float>(), 0.0F);
}

}  // namespace
}  // namespace x_transformers
