#include "x_transformers/train/run_parts.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/reason.h"
#include "x_transformers/runs/checkpoint.h"
#include "x_transformers/train/graph_step.h"

namespace x_transformers {

namespace {

/// Throws InputError where `folder` is a file, or would be within one.
void require_may_be_folder(const std::filesystem::path& folder, const About& about) {
  std::error_code error;
  for (auto path = folder; !path.empty(); path = path.parent_path()) {
    const auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status) && path != path.parent_path()) continue;
    require(std::filesystem::is_directory(status), about, "expected a folder, got the file {}",
            path.string());
    return;
  }
}

}  // namespace

void check_folder(const RunOptions& run, const std::filesystem::path& directory, bool resume,
                  const RunContext& context) {
  if (!context.place.is_first()) return;
  require_may_be_folder(context.token_folder, at("token_folder"));
  CheckpointFolder(directory).check(resume);
  require_outside_data(directory, run.data);
}

TrainerParts make_parts(const RunOptions& run, const std::filesystem::path& directory, bool resume,
                        const RunContext& context) {
  TrainerParts parts;
  parts.config = run_config_text(run);
  parts.directory = directory;
  parts.resume = resume;
  parts.context = context;
  return parts;
}

void use_data(TrainerParts& parts, const std::shared_ptr<const DataSource>& data,
              const std::vector<FileExtent>& files) {
  parts.training_batch = [data](int64_t first) { return data->training_batch(first); };
  parts.validation_batches = data->validation_batches();
  if (parts.validation_batches > 0)
    parts.validation_batch = [data](int64_t index) { return data->validation_batch(index); };
  parts.target_unit = data->target_unit();
  parts.bytes_per_token = data->bytes_per_token();
  parts.tokens = data->tokens();
  parts.data = {data->batch_size(), data->sample_length(), data->fingerprint(), files};
  if (const auto tokenizer = data->tokenizer()) parts.tokenizer = tokenizer->serialized();
}

void capture_steps(Trainer& trainer, Model& model, const Spelling& spelling) {
  if (!trainer.device().is_cuda() || !trainer.options().cuda_graph) return;
  const bool is_shared_out =
      trainer.options().shard == "parameters" && trainer.eager_step().has_other_ranks();
  const auto reason =
      is_shared_out
          ? Notice{{}, "with parameters shared out, memory comes and goes with the layers"}
          : graph_step_unsupported(model, trainer.device());
  if (!is_empty(reason)) {
    const auto told = because({}, "warning: steps run without a CUDA graph", reason);
    return trainer.message(spelling(told).line());
  }
  const auto step = std::make_shared<GraphStep>(trainer.eager_step(), trainer.device(),
                                                trainer.most_over_ranks());
  trainer.set_step_function(
      [step](const std::vector<Batch>& batches, int64_t) { return (*step)(batches); });
}

}  // namespace x_transformers
