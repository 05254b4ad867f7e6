#include "x_transformers/compare/comparison_folder.h"

#include <fmt/format.h>

#include <algorithm>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/notice_json.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPlanFile = "comparison.json";

int64_t integer_at(const Json& part, const std::string& name, int64_t usual) {
  const auto found = part.find(name);
  return found != part.end() && found->is_number_integer() ? found->get<int64_t>() : usual;
}

bool has_only_lock(const fs::path& folder) {
  return std::all_of(fs::directory_iterator(folder), fs::directory_iterator(),
                     [](const auto& entry) { return entry.path().filename() == ".lock"; });
}

std::string first_difference(const Json& before, const Json& now) {
  const auto patch = Json::diff(before, now);
  return patch.empty() ? "" : patch[0].value("path", "").substr(1) + " differs";
}

}  // namespace

Json seeded_run(const Json& base, int64_t steps, int64_t seed) {
  Json run = base;
  auto &data = run["data"], &train = run["train"];
  data["seed"] = integer_at(data, "seed", 0) + seed;
  train["seed"] = integer_at(train, "seed", 0) + seed;
  train["steps"] = steps;
  train.erase("early_stopping_patience");
  train["sample_every"] = 0;
  train["save_best"] = false;
  train["keep_last"] = 1;
  train["plot"] = false;
  train["tensorboard"] = false;
  train["progress"] = "none";
  if (integer_at(train, "eval_every", 1) == 0) train.erase("eval_every");
  return run;
}

Json shortened_run(const Json& base, int64_t steps) {
  Json run = seeded_run(base, steps, 0);
  auto& train = run["train"];
  train["eval_every"] = 0;
  train["log_every"] = std::max<int64_t>(1, steps / 10);
  train["save_every"] = steps;
  train["schedule"] = "constant";
  train["warmup_steps"] = steps;
  train.erase("decay_steps");
  return run;
}

ComparisonFolder::ComparisonFolder(const fs::path& out, const Json& plan, bool may_resume)
    : out_(out) {
  const auto file = out_ / kPlanFile;
  std::error_code error;
  const bool is_there = fs::exists(file, error);
  require(!is_there || may_resume, at(out_.string() + ":"),
          "holds a comparison already: {} goes on with it, {} names another folder",
          option("resume"), option("out"));
  const bool is_other =
      !is_there && fs::exists(out_, error) &&
      !(fs::is_directory(out_, error) && (fs::is_empty(out_, error) || has_only_lock(out_)));
  require(!is_other, at(out_.string() + ":"), "is not empty, and holds no comparison");
  fs::create_directories(out_ / "runs", error);
  if (error)
    throw InputError(caused(at(out_.string() + ":"), "cannot make the folder", cause_of(error)));
  lock_.emplace(out_);
  if (!is_there) {
    is_new_ = true;
    write_file_atomically(file, plan.dump(2) + "\n");
    return;
  }
  auto before = read_json_file(file.string()), now = plan;
  for (auto* each : {&before, &now}) {
    if (each->is_object()) {
      each->erase("run_file");
      each->erase("seeds");  // more of them add runs
    }
  }
  require(before == now, at(out_.string() + ":"),
          "holds a comparison of another run file, or with another budget: {}",
          first_difference(before, now));
}

RunReturn ComparisonFolder::train_once(const fs::path& stem, const Json& run, bool keeps_failure,
                                       const std::function<RunReturn(const RunTask& task)>& train,
                                       std::optional<int64_t> until) const {
  const auto with = [&](const char* ending) { return fs::path(stem.string() + ending); };
  const auto record = with(".result.json");
  std::error_code error;
  if (fs::exists(record, error)) {
    const auto saved = read_json_file(record.string());
    return {saved.value("end", "") == "finished" ? RunEnd::kFinished : RunEnd::kFailed,
            notice_from_json(saved.value("notice", Json())).value_or(Notice()),
            saved.value("is_wrong_input", false)};
  }
  fs::create_directories(stem.parent_path());
  write_file_atomically(with(".json"), run.dump(2) + "\n");
  auto result = train({with(".json"), stem, until});
  const bool is_over = result.end == RunEnd::kFinished || result.end == RunEnd::kFailed;
  const bool is_kept = result.end != RunEnd::kFailed || keeps_failure;
  if (!is_over || !is_kept) return result;
  write_file_atomically(record,
                        Json{{"end", result.end == RunEnd::kFinished ? "finished" : "failed"},
                             {"notice", notice_to_json(result.failure)},
                             {"is_wrong_input", result.is_wrong_input}}
                                .dump() +
                            "\n");
  return result;
}

void ComparisonFolder::remove_if_new() {
  if (!is_new_) return;
  std::error_code ignored;
  fs::remove_all(out_ / "runs", ignored);
  fs::remove(out_ / kPlanFile, ignored);
  fs::remove(out_ / ".lock", ignored);
  fs::remove(out_, ignored);  // if it is empty
}

}  // namespace x_transformers
