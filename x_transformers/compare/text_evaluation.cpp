#include "x_transformers/compare/text_evaluation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <numbers>
#include <set>
#include <tuple>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/data/example_check.h"
#include "x_transformers/interchange/token_predictor.h"

namespace x_transformers {
namespace {

constexpr int64_t kBins = 10, kPassage = 64;

/// Sums over the sequences of a text.
class Sums {
 public:
  /// Where the row of sequences begins: its first token in the text, or its place.
  using PlaceOf = std::function<std::pair<int64_t, std::string>(int64_t row)>;

  explicit Sums(int64_t worst) : worst_(worst), bins_(kBins) {}

  /// Sequences [b, n + 1] and the logits [b, n, tokens]. Tokens that are negative do not count.
  void add(const at::Tensor& sequences, const at::Tensor& logits, const PlaceOf& place_of) {
    const auto targets = sequences.slice(1, 1).clamp_min(0);
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
      const auto* own = ids.data_ptr<int64_t>() + row * (length + 1) + 1;
      Row counted;
      std::tie(counted.first, counted.place) = place_of(row);
      for (int64_t i = 0; i < length; ++i) {
        if (own[i] < 0) continue;
        const auto at = row * length + i;
        counted.tokens.push_back({loss.data_ptr<double>()[at], confidence.data_ptr<double>()[at],
                                  hits.data_ptr<bool>()[at], own[i], i + 1});
      }
      add_row(counted);
    }
  }

  TextEvaluation result() const {
    require(all_.tokens > 0, "there is no token to predict");
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
  struct Token {
    double loss, confidence;
    bool hit;
    int64_t id, before;  // `before`: tokens before it in its sequence
  };
  struct Row {
    std::vector<Token> tokens;
    int64_t first = 0;
    std::string place;
  };
  struct Bin {
    double confidence = 0;
    int64_t hits = 0, tokens = 0;
  };

  void add_row(const Row& row) {
    for (const auto& token : row.tokens) {
      longest_ = std::max(longest_, token.before);
      all_.add(token.loss, 1);
      // So many tokens stand before the target: 1, 2 to 3, 4 to 7 and so on.
      const auto doubling =
          static_cast<size_t>(std::bit_width(static_cast<uint64_t>(token.before)) - 1);
      if (doubling >= positions_.size()) positions_.resize(doubling + 1);
      positions_[doubling].add(token.loss, 1);
      auto& bin = bins_[static_cast<size_t>(
          std::clamp<int64_t>(static_cast<int64_t>(token.confidence * kBins), 0, kBins - 1))];
      bin.confidence += token.confidence;
      bin.hits += token.hit ? 1 : 0;
      ++bin.tokens;
    }
    const auto length = std::ssize(row.tokens);
    for (int64_t begin = 0; begin < length; begin += kPassage)
      add_passage(row, begin, std::min(begin + kPassage, length));
  }

  /// Keeps a passage that is among the worst; those of few tokens say little.
  void add_passage(const Row& row, int64_t begin, int64_t end) {
    if (worst_ == 0 || (end - begin) * 2 < std::min(kPassage, std::ssize(row.tokens))) return;
    Passage passage;
    passage.token = row.first + row.tokens[static_cast<size_t>(begin)].before;
    passage.place = row.place;
    for (int64_t i = begin; i < end; ++i) {
      const auto& token = row.tokens[static_cast<size_t>(i)];
      passage.loss += token.loss / static_cast<double>(end - begin);
      passage.ids.push_back(token.id);
    }
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

}  // namespace

TextEvaluation evaluate_tokens(Model& model, const at::Tensor& tokens, int64_t seq_len,
                               int64_t worst, const at::Device& device) {
  constexpr int64_t kMaxLogits = int64_t{1} << 25, kUsualVocabulary = 256;
  require(tokens.size(0) > 1, "the text is too short: at least two tokens are needed");
  auto& predictor = predictor_of(model);
  const auto input = model.predicted_tensor();
  const Evaluation evaluation(model.module());
  Sums sums(worst);
  const auto targets = tokens.size(0) - 1;
  int64_t first = 0, vocabulary = kUsualVocabulary;
  while (first < targets) {
    const int64_t whole = (targets - first) / seq_len;
    const int64_t length = whole > 0 ? seq_len : targets - first;
    // One sequence shows how many logits there are.
    const int64_t fitting =
        first == 0 ? 1 : std::max<int64_t>(1, kMaxLogits / (length * vocabulary));
    const int64_t rows = std::clamp<int64_t>(whole, 1, std::min<int64_t>(fitting, 64));
    const auto sequences = tokens.slice(0, first, first + rows * length + 1)
                               .unfold(0, length + 1, length)
                               .contiguous()
                               .to(device);
    const auto logits = predictor.next_token_logits({{input, sequences}});
    vocabulary = logits.size(2);
    sums.add(sequences, logits,
             [&](int64_t row) { return std::pair(first + row * length, std::string()); });
    first += rows * length;
  }
  auto found = sums.result();
  found.seq_len = seq_len;
  found.also_knows = predictor.also_knows();
  return found;
}

TextEvaluation evaluate_examples(Model& model, const ExamplePart& examples, int64_t worst,
                                 const at::Device& device) {
  constexpr int64_t kRows = 16;
  auto& predictor = predictor_of(model);
  const auto target = model.predicted_tensor();
  std::set<std::string> names;
  for (const auto& [name, tensor] : examples.tensors) names.insert(name);
  const auto inputs = model.loss_inputs(names);
  require_fitting(examples.tensors, examples.places, inputs);
  const auto count = examples.tensors.at(target).size(0);
  const Evaluation evaluation(model.module());
  Sums sums(worst);
  int64_t longest = 0;
  for (int64_t first = 0; first < count; first += kRows) {
    const auto last = std::min(first + kRows, count);
    TensorMap batch;
    for (const auto& [name, tensor] : examples.tensors) {
      const auto* input = inputs.find(name);
      const auto rows = tensor.slice(0, first, last);
      batch[name] = (input != nullptr ? as_taken(rows, *input) : rows).to(device);
    }
    require_ids(batch, at::arange(first, last), examples.tensors, examples.places, inputs);
    auto sequences = batch.at(target);
    const auto* input = inputs.find(target);
    if (input != nullptr && input->ignored)
      sequences = sequences.masked_fill(sequences == *input->ignored, -1);
    sums.add(sequences, predictor.next_token_logits(batch),
             [&](int64_t row) { return std::pair(int64_t{0}, examples.places.of(first + row)); });
    longest = std::max(longest, sequences.size(1) - 1);
  }
  auto found = sums.result();
  found.seq_len = longest;
  found.also_knows = predictor.also_knows();
  return found;
}

nlohmann::ordered_json evaluation_json(const TextEvaluation& evaluation, const Tokenizer* tokenizer,
                                       std::optional<double> bytes_per_token) {
  using Record = nlohmann::ordered_json;
  if (!evaluation.reason.empty())
    return {{"seq_len", evaluation.seq_len}, {"reason", evaluation.reason}};
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
  if (!evaluation.also_knows.empty()) json["also_knows"] = evaluation.also_knows;
  for (const auto& passage : evaluation.worst) {
    Record record{{"token", passage.token}, {"loss", passage.loss}};
    if (!passage.place.empty()) record["place"] = passage.place;
    if (tokenizer != nullptr) record["text"] = tokenizer->decode(passage.ids);
    json["worst"].push_back(std::move(record));
  }
  return json;
}

}  // namespace x_transformers
