#include "x_transformers/runs/checkpoint_state.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/io/atomic_file.h"
#include "x_transformers/runs/checkpoint.h"

namespace x_transformers {
namespace {

constexpr std::string_view kDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

std::string base64_encode(const at::Tensor& bytes) {
  const at::Tensor whole = bytes.cpu().contiguous();
  const auto* data = whole.data_ptr<uint8_t>();
  const int64_t size = whole.numel();
  std::string text;
  for (int64_t i = 0; i < size; i += 3) {
    const int64_t left = std::min<int64_t>(size - i, 3);
    uint32_t block = 0;
    for (int64_t j = 0; j < 3; ++j) block = block << 8 | (j < left ? data[i + j] : 0);
    for (int64_t j = 0; j < 4; ++j) text += j <= left ? kDigits[block >> (18 - 6 * j) & 63] : '=';
  }
  return text;
}

at::Tensor base64_decode(const std::string& text) {
  require(text.size() % 4 == 0, at("base64"), "expected a length that 4 divides");
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i < text.size(); i += 4) {
    const bool is_last = i + 4 == text.size();
    const int padding = !is_last ? 0 : text[i + 2] == '=' ? 2 : text[i + 3] == '=' ? 1 : 0;
    uint32_t block = 0;
    for (int j = 0; j < 4; ++j) {
      const size_t digit = j >= 4 - padding ? 0 : kDigits.find(text[i + j]);
      require(digit != std::string_view::npos && (j < 4 - padding || text[i + j] == '='),
              at("base64"), "unexpected character at {}", i + j);
      block = block << 6 | static_cast<uint32_t>(digit);
    }
    for (int j = 0; j < 3 - padding; ++j)
      bytes.push_back(static_cast<uint8_t>(block >> (16 - 8 * j)));
  }
  return at::tensor(at::ArrayRef<uint8_t>(bytes), at::kByte);
}

bool TrainState::came_by(const TrainState& earlier) const {
  const auto count = earlier.branches.size();
  const bool is_shared =
      count <= branches.size() &&
      std::equal(earlier.branches.begin(), earlier.branches.end(), branches.begin());
  return is_shared && earlier.step <= (count < branches.size() ? branches[count].step : step);
}

const RandomState* TrainState::random_of(int64_t rank) const {
  if (rank == 0) return &random;
  const auto index = static_cast<size_t>(rank) - 1;
  return index < random_of_other_ranks.size() ? &random_of_other_ranks[index] : nullptr;
}

void TrainState::set_random(std::vector<RandomState> of_ranks) {
  random = std::move(of_ranks.front());
  of_ranks.erase(of_ranks.begin());
  random_of_other_ranks = std::move(of_ranks);
}

void save_train_state(const std::filesystem::path& path, const TrainState& state) {
  write_file_atomically(path, options_to_json(state).dump(2) + "\n");
}

TrainState load_train_state(const std::filesystem::path& path) {
  const Json json = read_json_file(path.string());
  const OptionPath where(path.string() + ":");
  auto state = options_from_json<TrainState>(json, where);
  require(json.contains("step"), at(where / "step"), "is missing");
  const auto not_negative = [&](const char* name, int64_t value) {
    require_at_least(value, 0, where / name);
  };
  not_negative("step", state.step);
  not_negative("samples", state.samples);
  not_negative("sample_length", state.sample_length);
  not_negative("data_position", state.data_position.value_or(0));
  not_negative("tokens", state.targets);
  not_negative("skipped_steps", state.skipped_steps);
  not_negative("evaluated_step", state.evaluated_step);
  not_negative("evaluations_without_gain", state.evaluations_without_gain);
  return state;
}

TrainState load_train_state(const std::filesystem::path& folder, int64_t step) {
  const auto path = folder / checkpoint_file::kState;
  auto state = load_train_state(path);
  expect(state.step == step, at(OptionPath(path.string() + ":") / "step"), state.step,
         "{}, as the folder's name says", step);
  return state;
}

}  // namespace x_transformers
