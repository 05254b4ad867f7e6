// Stop strings in a text that arrives in pieces.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace x_transformers {

/// Ends a streamed text before the first of some stop strings. Text that may be the start of one is
/// held back until that is decided; how the text is cut into pieces makes no difference. Of stop
/// strings that end at the same byte the longest counts. One object for each entry of a batch; the
/// texts are bytes, so UTF-8 passes unchanged.
class StopStrings {
 public:
  /// Throws InputError for an empty stop string. Without any, every text passes at once.
  explicit StopStrings(std::vector<std::string> stop_strings);

  /// Takes the next piece and returns the text that can be shown now. After a stop string
  /// everything is dropped.
  std::string push(std::string_view text);
  /// The text is over: returns what was held back.
  std::string finish();
  /// Whether a stop string has come.
  bool stopped() const { return stopped_; }

 private:
  /// The length of the longest stop string that the held text ends with, or 0.
  size_t ended_by() const;
  /// The length of the longest end of the held text that begins a stop string.
  size_t undecided() const;

  std::vector<std::string> stop_strings_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace x_transformers
