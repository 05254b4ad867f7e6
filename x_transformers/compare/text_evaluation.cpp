#include "x_transformers/compare/text_evaluation.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "x_transformers/core/error.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/interchange/interchange.h"

namespace x_transformers {
namespace {

constexpr int64_t kBins = 10, kPassage = 64;

/// Sums over the sequences of a text.
class Sums {
 public:
  explicit Sums(int64_t worst) : worst_(worst), bins_(kBins) {}

  /// Sequences [b, n + 1] that begin `first` tokens into the text, and the logits [b, n, tokens].
  void add(const at::Tensor& sequences, const at::Tensor& logits, int64_t first) {
    const auto targets = sequences.slice(1, 1);
    const auto log_probs = at::log_softmax(logits.to(at::kFloat), -1);
    const auto losses =
        log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1).neg().to(at::kDouble).cpu();
    const auto [best, guess] = log_probs.max(-1);
    const auto confidence = best.exp().to(at::kDouble).cpu().contiguous();
    const auto hits = guess.eq(targets).cpu().contiguous();
    const auto ids = sequences.cpu().contiguous();
    const auto loss = losses.contiguous();
    const int64_t rows = ids.size(0), length = loss.size(1);
    for (int64_t row = 0; row < rows; ++row) {
      add_row({loss.data_ptr<double>() + row * length, confidence.data_ptr<double>() + row * length,
               hits.data_ptr<bool>() + row * length, ids.data_ptr<int64_t>() + row * (length + 1),
               length, first + row * length});
    }
  }

  TextEvaluation result() const {
    TextEvaluation found;
    found.tokens = all_.tokens;
    found.loss = all_.mean();
    int64_t hits = 0;
    for (int64_t i = 0; i < kBins; ++i) {
      const auto& bin = bins_[static_cast<size_t>(i)];
      hits += bin.hits;
      if (bin.tokens == 0) continue;
      const auto count = static_cast<double>(bin.tokens);
      found.calibration.push_back({static_cast<double>(i) / kBins,
                                   static_cast<double>(i + 1) / kBins, bin.confidence / count,
                                   static_cast<double>(bin.hits) / count, bin.tokens});
      found.calibration_error += std::abs(bin.confidence - static_cast<double>(bin.hits)) /
                                 static_cast<double>(all_.tokens);
    }
    found.accuracy = static_cast<double>(hits) / static_cast<double>(all_.tokens);
    for (size_t i = 0; i < positions_.size(); ++i) {
      const int64_t begin = int64_t{1} << i;
      if (positions_[i].tokens > 0)
        found.by_position.push_back(
            {begin, std::min(2 * begin - 1, longest_), positions_[i].mean(), positions_[i].tokens});
    }
    found.worst = passages_;
    return found;
  }

 private:
  struct Row {
    const double* loss;
    const double* confidence;
    const bool* hit;
    const int64_t* ids;
    int64_t length, first;
  };
  struct Bin {
    double confidence = 0;
    int64_t hits = 0, tokens = 0;
  };

  void add_row(const Row& row) {
    longest_ = std::max(longest_, row.length);
    for (int64_t i = 0; i < row.length; ++i) {
      all_.add(row.loss[i], 1);
      // i + 1 tokens stand before the target: 1, 2 to 3, 4 to 7 and so on.
      const auto doubling = static_cast<size_t>(std::bit_width(static_cast<uint64_t>(i + 1)) - 1);
      if (doubling >= positions_.size()) positions_.resize(doubling + 1);
      positions_[doubling].add(row.loss[i], 1);
      auto& bin = bins_[static_cast<size_t>(
          std::clamp<int64_t>(static_cast<int64_t>(row.confidence[i] * kBins), 0, kBins - 1))];
      bin.confidence += row.confidence[i];
      bin.hits += row.hit[i] ? 1 : 0;
      ++bin.tokens;
    }
    for (int64_t begin = 0; begin < row.length; begin += kPassage)
      add_passage(row, begin, std::min(begin + kPassage, row.length));
  }

  /// Keeps a passage that is among the worst; those of few tokens say little.
  void add_passage(const Row& row, int64_t begin, int64_t end) {
    if (worst_ == 0 || (end - begin) * 2 < std::min(kPassage, row.length)) return;
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) sum += row.loss[i];
    Passage passage{row.first + begin + 1,
                    sum / static_cast<double>(end - begin),
                    {row.ids + begin + 1, row.ids + end + 1}};
    const auto place =
        std::upper_bound(passages_.begin(), passages_.end(), passage,
                         [](const Passage& a, const Passage& b) { return a.loss > b.loss; });
    passages_.insert(place, std::move(passage));
    if (std::ssize(passages_) > worst_) passages_.pop_back();
  }

  int64_t worst_, longest_ = 0;
  LossSum all_;
  std::vector<Bin> bins_;
  std::vector<LossSum> positions_;
  std::vector<Passage> passages_;
};

/// The logits [b, n, tokens] of sequences [b, n + 1].
at::Tensor logits_of(Model& model, const at::Tensor& sequences) {
  const auto outputs = run_model(model, "forward", {{model.first_argument(), sequences}},
                                 Json{{"return_outputs", true}}, /*grads=*/false);
  const auto found = outputs.find("out.1.0");
  require(found != outputs.end() && found->second.dim() == 3 &&
              found->second.size(1) == sequences.size(1) - 1,
          "the model's forward gives no logits of each token, by which to evaluate it");
  return found->second;
}

}  // namespace

TextEvaluation evaluate_tokens(Model& model, const at::Tensor& tokens, int64_t seq_len,
                               int64_t worst, const at::Device& device) {
  constexpr int64_t kMostLogits = int64_t{1} << 25, kUsualVocabulary = 256;
  require(tokens.size(0) > 1, "the text is too short: at least two tokens are needed");
  const Evaluation evaluation(model.module());
  Sums sums(worst);
  const auto targets = tokens.size(0) - 1;
  int64_t first = 0, vocabulary = kUsualVocabulary;
  while (first < targets) {
    const int64_t whole = (targets - first) / seq_len;
    const int64_t length = whole > 0 ? seq_len : targets - first;
    // One sequence shows how many logits there are.
    const int64_t fitting =
        first == 0 ? 1 : std::max<int64_t>(1, kMostLogits / (length * vocabulary));
    const int64_t rows = std::clamp<int64_t>(whole, 1, std::min<int64_t>(fitting, 64));
    const auto sequences = tokens.slice(0, first, first + rows * length + 1)
                               .unfold(0, length + 1, length)
                               .contiguous()
                               .to(device);
    const auto logits = logits_of(model, sequences);
    vocabulary = logits.size(2);
    sums.add(sequences, logits, first);
    first += rows * length;
  }
  auto found = sums.result();
  found.seq_len = seq_len;
  return found;
}

nlohmann::ordered_json evaluation_json(const TextEvaluation& evaluation, const Tokenizer* tokenizer,
                                       std::optional<double> bytes_per_token) {
  using Record = nlohmann::ordered_json;
  if (!evaluation.refusal.empty())
    return {{"seq_len", evaluation.seq_len}, {"refusal", evaluation.refusal}};
  Record json{
      {"seq_len", evaluation.seq_len},
      {"tokens", evaluation.tokens},
      {"loss", evaluation.loss},
      {"perplexity", std::exp(evaluation.loss)},
      {"bits_per_byte",
       bytes_per_token ? Record(evaluation.loss / std::numbers::ln2 / *bytes_per_token) : Record()},
      {"accuracy", evaluation.accuracy},
      {"calibration_error", evaluation.calibration_error},
      {"calibration", Record::array()},
      {"by_position", Record::array()},
      {"worst", Record::array()}};
  for (const auto& bin : evaluation.calibration)
    json["calibration"].push_back({{"low", bin.low},
                                   {"high", bin.high},
                                   {"confidence", bin.confidence},
                                   {"accuracy", bin.accuracy},
                                   {"tokens", bin.tokens}});
  for (const auto& part : evaluation.by_position)
    json["by_position"].push_back(
        {{"first", part.first}, {"last", part.last}, {"loss", part.loss}, {"tokens", part.tokens}});
  for (const auto& passage : evaluation.worst) {
    Record record{{"token", passage.token}, {"loss", passage.loss}};
    if (tokenizer != nullptr) record["text"] = tokenizer->decode(passage.ids);
    json["worst"].push_back(std::move(record));
  }
  return json;
}

}  // namespace x_transformers
