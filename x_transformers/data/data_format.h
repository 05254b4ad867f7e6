// The formats of data, one entry each: what is in them, which options they read, how they are
// opened.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "x_transformers/data/data_options.h"
#include "x_transformers/data/data_source.h"

namespace x_transformers {

enum class DataContent { text, tokens, text_or_tokens, text_examples, examples };

struct DataFormat {
  std::string name;  ///< as in `data.format`
  DataContent content = DataContent::examples;
  /// Those of the options that not every format reads which this one does.
  std::vector<std::string> options = {};
  std::shared_ptr<const DataSource> (*open)(const DataOptions& options,
                                            const DataContext& context) = nullptr;

  bool reads(const std::string& option) const;
};

/// The names of the formats whose files hold examples, not a stream of tokens.
std::vector<std::string> example_formats();

/// All formats that `data.format` may name.
const std::vector<DataFormat>& data_formats();

/// The format of the data: what `data.format` says or, where that is auto, the task or the name of
/// the file; an entry named "text or bin" where the files must be looked at. `data.format` must be
/// valid.
const DataFormat& format_of(const DataOptions& options);

}  // namespace x_transformers
