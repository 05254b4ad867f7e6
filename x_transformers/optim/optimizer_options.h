// Which optimizer a run trains with, and the options of each.
#pragma once

#include <string>

#include "x_transformers/optim/adafactor_options.h"
#include "x_transformers/optim/adamw_options.h"
#include "x_transformers/optim/lion_options.h"
#include "x_transformers/optim/muon_options.h"

namespace x_transformers {

/// `learning_rate` and `weight_decay` are those of every optimizer; beta1, beta2 and eps are
/// AdamW's, and of AdamW beside Muon.
struct OptimizerOptions : AdamWOptions {
  /// adamw, lion, muon (matrices by Muon, the rest by AdamW) or adafactor
  std::string optimizer = "adamw";
  /// options of lion
  LionOptions lion = {};
  /// options of muon
  MuonOptions muon = {};
  /// options of adafactor
  AdafactorOptions adafactor = {};

  template <class Visitor>
  void fields(Visitor& v) {
    v("optimizer", optimizer,
      "adamw, lion, muon (matrices by Muon, the rest by AdamW) or adafactor");
    AdamWOptions::fields(v);
    v.prefix("lion", lion, "options of lion");
    v.prefix("muon", muon, "options of muon");
    v.prefix("adafactor", adafactor, "options of adafactor");
  }
};

/// Throws InputError for values that make no sense, and for options of another optimizer than the
/// one that is chosen.
void validate(const OptimizerOptions& options);

}  // namespace x_transformers
