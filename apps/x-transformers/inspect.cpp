// inspect: what goes on inside a trained model as it reads a text.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/comparison_files.h"
#include "x_transformers/core/cause.h"
#include "x_transformers/core/device.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/data/examples.h"
#include "x_transformers/inspect/inspection_files.h"
#include "x_transformers/io/atomic_file.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/runs/gnuplot.h"
#include "x_transformers/train/language_model.h"

namespace x_transformers {

namespace {

namespace fs = std::filesystem;

constexpr const char* kMaps = "attention.safetensors";

struct InspectCommand {
  std::string run, text, target, out, device = "cpu";
  std::vector<int64_t> ids, target_ids;
  InspectionChoice choice;
  int64_t threads = 0;
  bool json = false;
};

/// What to read, as tokens of the model.
struct ReadTokens {
  at::Tensor tokens, source;
};

/// The tokens of a text, or those that are given.
std::vector<int64_t> tokens_of(const LanguageModel& loaded, const std::string& name,
                               const std::string& text, const std::vector<int64_t>& ids) {
  const auto other = option(name == "text" ? "--ids" : "--target-ids");
  require(text.empty() || ids.empty(), at("--" + name), "expected it or {}, got both", other);
  require(!text.empty() || !ids.empty(), at("--" + name),
          "expected a text that is not empty, or {}", other);
  auto tokens = ids;
  if (ids.empty()) {
    require(loaded.tokenizer != nullptr, at("--" + name),
            "the model's tokens stand for no text that is known; give {}",
            option(name == "text" ? "--ids" : "--target-ids"));
    tokens = loaded.tokenizer->encode(text);
  }
  const auto readable = loaded.readable_tokens();
  for (const auto token : tokens)
    expect(token >= 0 && (!readable || token < readable->count),
           at(ids.empty()      ? "--" + name
              : name == "text" ? "--ids"
                               : "--target-ids"),
           token, "tokens of the model{}",
           readable ? fmt::format(", 0 to {}", readable->count - 1) : "");
  return tokens;
}

ReadTokens read_tokens(const InspectCommand& command, const LanguageModel& loaded,
                       const at::Device& device) {
  const auto as_tensor = [&](const std::vector<int64_t>& ids) {
    return at::tensor(ids, at::kLong).to(device);
  };
  auto first = tokens_of(loaded, "text", command.text, command.ids);
  if (loaded.model->translation_writer() == nullptr) {
    require(command.target.empty() && command.target_ids.empty(), at("--target"),
            "is for models that translate a source");
    expect(first.size() > 1, at("--text"), first.size(),
           "two tokens or more: the first is not predicted");
    return {as_tensor(first), {}};
  }
  auto target = tokens_of(loaded, "target", command.target, command.target_ids);
  if (!command.target.empty()) {
    const auto boundary = boundary_token(*loaded.tokenizer);
    target.insert(target.begin(), boundary);
    target.push_back(boundary);
  }
  expect(target.size() > 1, at("--target-ids"), target.size(), "two tokens or more");
  return {as_tensor(target), as_tensor(first)};
}

/// Removes what an earlier inspection has left in the folder: it would be taken for one of this.
void remove_earlier(const fs::path& folder) {
  std::error_code ignored;
  fs::remove(folder / kMaps, ignored);
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const auto ending = entry.path().extension();
    const bool is_picture = ending == ".png" || ending == ".svg";
    if (is_picture && is_inspection_picture(entry.path().stem().string()))
      fs::remove(entry.path(), ignored);
  }
}

/// Returns whether there are some.
bool write_pictures(const Inspection& found, const TokenNames& names,
                    const InspectionChoice& choice, const fs::path& folder, InspectionPage& page) {
  bool is_drawn = false;
  for (const auto& picture : inspection_pictures(found, names, choice)) {
    if (const auto png = picture.draw("png")) {
      write_file_atomically(folder / (picture.file + ".png"), *png);
      is_drawn = true;
    }
    if (const auto svg = picture.draw("svg")) {
      write_file_atomically(folder / (picture.file + ".svg"), *svg);
      page.pictures.emplace_back(picture.title, *svg);
    }
  }
  if (!is_drawn)
    std::fprintf(stderr, "x-transformers: no pictures: %s\n", gnuplot_unsupported().c_str());
  return is_drawn;
}

/// A layer by its number in its stack and what it is; `name` itself where no layer is called so.
std::string layer_in_words(const Inspection& found, const std::string& name) {
  const auto layer = std::find_if(found.layers.begin(), found.layers.end(),
                                  [&](const LayerView& each) { return each.name == name; });
  if (layer == found.layers.end()) return name;
  const auto is_of_stack = [&](const LayerView& each) { return each.stack == layer->stack; };
  const bool has_others = !std::all_of(found.layers.begin(), found.layers.end(), is_of_stack);
  const auto number = std::count_if(found.layers.begin(), layer, is_of_stack);
  return fmt::format("{}layer {}, {}", has_others ? layer->stack + ": " : "", number, layer->kind);
}

void run_inspect(const InspectCommand& command) {
  use_most_threads(command.threads);
  const auto device = open_device(command.device, "--device");
  const fs::path run = command.run;
  const auto loaded = load_language_model({.path = run}, device);
  const auto read = read_tokens(command, loaded, device);
  const auto found = inspect_model(*loaded.model, read.tokens, read.source);
  spelled(as_flags({"layers", "heads"}), [&] { require_chosen(command.choice, found); });
  const TokenNames names(loaded.tokenizer.get());
  const fs::path folder = command.out.empty()
                              ? (fs::is_directory(run) ? run : run.parent_path()) / "inspect"
                              : fs::path(command.out);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw InputError(caused(at(folder.string() + ":"), "cannot make the folder", cause_of(error)));
  remove_earlier(folder);
  auto json = inspection_json(found, names);
  json["run"] = command.run;
  const auto text =
      json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  write_file_atomically(folder / "inspect.json", text);
  write_file_atomically(folder / "tokens.tsv", tokens_tsv(found, names));
  write_file_atomically(folder / "layers.tsv", layers_tsv(found));
  write_file_atomically(folder / "heads.tsv", heads_tsv(found));
  if (!found.attentions.empty()) save_safetensors(folder / kMaps, attention_maps(found));
  InspectionPage page;
  page.title = "Inside " + (run.has_filename() ? run : run.parent_path()).filename().string();
  page.facts = machine_facts();
  page.commands = {this_command()};
  const bool has_pictures = write_pictures(found, names, command.choice, folder, page);
  write_file_atomically(folder / "report.html", inspection_html(found, names, page));
  if (command.json) {
    fmt::print("{}", text);
    return;
  }
  fmt::print("loss {:.4f} nats per token over {}\n", found.loss,
             how_many(std::ssize(found.tokens) - 1, "token"));
  for (const auto& lens : found.lens) {
    double sum = 0;
    for (const double loss : lens.losses) sum += loss;
    fmt::print("  {:<40} {:.4f} if the stack ended here\n", layer_in_words(found, lens.after),
               sum / static_cast<double>(lens.losses.size()));
  }
  for (const auto& note : left_out_sentences(found)) fmt::print("{}\n", note);
  std::fprintf(stderr, "%s: report.html, inspect.json, tables (.tsv)%s%s\n",
               folder.string().c_str(), found.attentions.empty() ? "" : ", attention.safetensors",
               has_pictures ? ", pictures" : "");
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto* command = app.add_subcommand(
      "inspect", "what goes on inside a trained model as it reads a text: maps, norms, lens");
  const auto options = std::make_shared<InspectCommand>();
  command->add_option("run", options->run, "folder of a run or of a checkpoint")->required();
  command->add_option("--text", options->text,
                      "text to read; of a model that translates, the source");
  command->add_option("--target", options->target, "what a model that translates is to write");
  command->add_option("--ids", options->ids, "tokens in place of --text: 12,7,9")->delimiter(',');
  command->add_option("--target-ids", options->target_ids, "tokens in place of --target")
      ->delimiter(',');
  command
      ->add_option("--layers", options->choice.layers,
                   "attentions to draw, counted from 0 as they run: 0,2; default: all, or some of "
                   "many")
      ->delimiter(',');
  command
      ->add_option("--heads", options->choice.heads, "heads to draw; default: all, or some of many")
      ->delimiter(',');
  command->add_option("--out", options->out,
                      "folder for what is written; default: inspect in the run's");
  command->add_option("--device", options->device, "cpu or cuda");
  add_threads_option(*command, options->threads);
  command->add_flag("--json", options->json, "print the result as JSON");
  command->callback([options] { run_inspect(*options); });
}

}  // namespace x_transformers
