// Where the options of a run file stand, for who names one without its path.
#pragma once

#include <string>
#include <vector>

#include "x_transformers/core/json.h"
#include "x_transformers/core/option_help.h"

namespace x_transformers {

/// An option that a run file has or could have.
struct OptionPlace {
  std::vector<std::string> object;  ///< the keys of the object that it stands in: model, net, ...
  OptionHelp help;

  /// model.net.attn_layers.rotary_pos_emb
  std::string path() const;
};

/// All options of a run file: of its model and the models within it, of its data and its training.
class OptionPlaces {
 public:
  explicit OptionPlaces(const Json& run);

  /// The option that `name` means: by its name alone, or by as much of its path as tells it from
  /// others ("attn_layers.depth", "attn.flash", "train.seed"). Throws InputError, about `where`, of
  /// a name that is unknown (with the nearest one) or means several.
  const OptionPlace& find(const std::string& name, const OptionPath& where) const;

 private:
  void add(const std::vector<std::string>& object, const std::vector<OptionHelp>& lines);

  std::vector<OptionPlace> places_;
};

/// Whether an option is true or false.
bool is_switch(const OptionPlace& place);

/// Sets an option in a run file, in the spelling that it has there (attn_flash, attn: {flash}).
void set_option(Json& run, const OptionPlace& place, const Json& value);
/// What a run file says of an option, or its default.
Json option_value(const Json& run, const OptionPlace& place);

}  // namespace x_transformers
