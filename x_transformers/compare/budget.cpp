#include "x_transformers/compare/budget.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <map>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"

namespace x_transformers {
namespace {

const std::map<std::string, Budget>& units() {
  static const std::map<std::string, Budget> known = {
      {"steps", {BudgetUnit::kSteps, 1}},    {"step", {BudgetUnit::kSteps, 1}},
      {"tok", {BudgetUnit::kTokens, 1}},     {"ktok", {BudgetUnit::kTokens, 1e3}},
      {"Mtok", {BudgetUnit::kTokens, 1e6}},  {"Gtok", {BudgetUnit::kTokens, 1e9}},
      {"s", {BudgetUnit::kSeconds, 1}},      {"min", {BudgetUnit::kSeconds, 60}},
      {"h", {BudgetUnit::kSeconds, 3600}},   {"GFLOP", {BudgetUnit::kFlops, 1e9}},
      {"TFLOP", {BudgetUnit::kFlops, 1e12}}, {"PFLOP", {BudgetUnit::kFlops, 1e15}}};
  return known;
}

}  // namespace

Budget parse_budget(const std::string& text) {
  if (text.empty()) return {};
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto found = units().find(std::string(end, text.data() + text.size()));
  const bool is_right =
      error == std::errc() && number > 0 && std::isfinite(number) && found != units().end();
  expect(is_right, at("budget"), text,
         "steps, tokens, a time or compute, as in 500steps, 20Mtok (tok, ktok, Mtok, Gtok), 10min "
         "(s, min, h) or 2PFLOP (GFLOP, TFLOP, PFLOP)");
  Budget budget = found->second;
  budget.amount *= number;
  expect(budget.unit != BudgetUnit::kSteps ||
             (budget.amount == std::floor(budget.amount) && budget.amount < 1e15),
         at("budget"), text, "a whole number of steps");
  return budget;
}

std::string words_of(const Budget& budget) {
  switch (budget.unit) {
    case BudgetUnit::kSteps:
      return how_many(static_cast<int64_t>(budget.amount), "step");
    case BudgetUnit::kTokens:
      return budget.amount >= 1e6 ? fmt::format("{:g} million tokens", budget.amount / 1e6)
                                  : fmt::format("{:g} tokens", budget.amount);
    case BudgetUnit::kSeconds:
      return fmt::format("{:g} s of training", budget.amount);
    case BudgetUnit::kFlops:
      return fmt::format("{:g} TFLOP of training", budget.amount / 1e12);
    case BudgetUnit::kRunFile:
      break;
  }
  return "the run file's steps";
}

}  // namespace x_transformers
