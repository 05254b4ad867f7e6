// How an op chooses among the ways to compute it: a list of engines in order of preference, each of
// which says why it cannot run a call.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "x_transformers/core/error.h"

namespace x_transformers {

/// Why an engine cannot run a call; empty: it can.
class Reasons {
 public:
  Reasons() = default;
  /// One reason, or none where it is empty.
  explicit Reasons(std::string reason) { add(std::move(reason)); }

  void add(std::string reason) {
    if (!reason.empty()) list_.push_back(std::move(reason));
  }
  void add_if(bool is_so, const char* reason) {
    if (is_so) list_.emplace_back(reason);
  }
  bool empty() const { return list_.empty(); }
  const std::vector<std::string>& list() const { return list_; }

 private:
  std::vector<std::string> list_;
};

/// An engine's name and why it cannot run a call; empty reasons: it can.
struct EngineReport {
  std::string engine;
  std::vector<std::string> reasons;
};

/// The engines of one op, in order of preference. The last is the reference, which runs every call.
template <class Call, class Result>
class Engines {
 public:
  struct Engine {
    const char* name;
    Reasons (*reasons)(const Call&);
    Result (*run)(const Call&);
  };

  explicit Engines(std::vector<Engine> engines) : engines_(std::move(engines)) {}

  /// Runs the first engine that can.
  Result run(const Call& call) const {
    for (const auto& engine : engines_) {
      if (&engine == &engines_.back() || engine.reasons(call).empty()) return engine.run(call);
    }
    throw RunError("an op without engines");
  }

  /// Runs the engine of this name. Throws InputError with its reasons where it cannot.
  Result run_on(const std::string& name, const Call& call) const {
    for (const auto& engine : engines_) {
      if (engine.name != name) continue;
      const auto reasons = engine.reasons(call);
      require(reasons.empty(), at("engine"), "{} cannot run this: {}", name,
              joined(reasons.list()));
      return engine.run(call);
    }
    std::vector<std::string> names;
    for (const auto& engine : engines_) names.emplace_back(engine.name);
    throw InputError(Notice{at("engine"), {}, "one of " + joined(names), detail::given_of(name)});
  }

  /// All engines, each with its reasons against the call.
  std::vector<EngineReport> explain(const Call& call) const {
    std::vector<EngineReport> reports;
    for (const auto& engine : engines_) {
      const auto reasons = engine.reasons(call);
      reports.push_back({engine.name, reasons.list()});
    }
    return reports;
  }

 private:
  static std::string joined(const std::vector<std::string>& words) {
    std::string all;
    for (const auto& word : words) all += (all.empty() ? "" : ", ") + word;
    return all;
  }

  std::vector<Engine> engines_;
};

}  // namespace x_transformers
