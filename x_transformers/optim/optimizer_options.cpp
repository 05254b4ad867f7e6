#include "x_transformers/optim/optimizer_options.h"

#include <set>
#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/core/notice.h"
#include "x_transformers/core/option_names.h"
#include "x_transformers/core/spelling.h"

namespace x_transformers {
namespace {

template <class Part>
void check_part(const OptimizerOptions& o, const std::string& name, const Part& part) {
  spelled(prefixed(name + "_", option_names(part)), [&] { validate(part); });
  if (o.optimizer == name) return;
  for (const auto& given : differing_options(part, Part()))
    throw InputError(Notice{at(name + "_" + given), text("is an option of {}, but {} is {}", name,
                                                         option("optimizer"), o.optimizer)});
}

void refuse_unread_options_of_adamw(const OptimizerOptions& o) {
  const bool reads = o.optimizer == "adamw" || o.optimizer == "muon";
  const AdamWOptions usual;
  const auto refuse = [&](const char* name, bool is_usual) {
    require(reads || is_usual, at(name), "is an option of adamw and muon, but {} is {}",
            option("optimizer"), o.optimizer);
  };
  refuse("beta1", o.beta1 == usual.beta1);
  refuse("beta2", o.beta2 == usual.beta2);
  refuse("eps", o.eps == usual.eps);
}

}  // namespace

void validate(const OptimizerOptions& options) {
  const auto& o = options;
  const std::set<std::string> known{"adamw", "lion", "muon", "adafactor"};
  expect(known.count(o.optimizer) > 0, at("optimizer"), o.optimizer,
         "adamw, lion, muon or adafactor");
  validate(static_cast<const AdamWOptions&>(o));
  check_part(o, "lion", o.lion);
  check_part(o, "muon", o.muon);
  check_part(o, "adafactor", o.adafactor);
  refuse_unread_options_of_adamw(o);
}

}  // namespace x_transformers
