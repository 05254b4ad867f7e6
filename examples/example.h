// What the examples share: a command line that can make them small, and a line for each result.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>

namespace x_transformers {
struct AttentionLayersOptions;
struct AutoregressiveWrapperOptions;
struct ContinuousAutoregressiveWrapperOptions;
struct ContinuousTransformerWrapperOptions;
struct DPOOptions;
struct FLASHOptions;
struct FLASHTransformerOptions;
struct GAUOptions;
struct NonAutoregressiveWrapperOptions;
struct TransformerWrapperOptions;
struct ViTransformerWrapperOptions;
struct XLAutoregressiveWrapperOptions;
struct XTransformerOptions;
struct XValAutoregressiveWrapperOptions;
struct XValTransformerWrapperOptions;
struct ZetaTransformerOptions;
}  // namespace x_transformers

namespace example {

/// The arguments of an example. Of unknown ones it says what there is, and leaves with exit code 2.
class CommandLine {
 public:
  CommandLine(int argc, char** argv);

  /// Makes the options small with --small, and prints them as JSON with --config.
  void apply(x_transformers::AttentionLayersOptions& options) const;
  void apply(x_transformers::AutoregressiveWrapperOptions& options) const;
  void apply(x_transformers::ContinuousAutoregressiveWrapperOptions& options) const;
  void apply(x_transformers::ContinuousTransformerWrapperOptions& options) const;
  void apply(x_transformers::DPOOptions& options) const;
  void apply(x_transformers::FLASHOptions& options) const;
  void apply(x_transformers::FLASHTransformerOptions& options) const;
  void apply(x_transformers::GAUOptions& options) const;
  void apply(x_transformers::NonAutoregressiveWrapperOptions& options) const;
  void apply(x_transformers::TransformerWrapperOptions& options) const;
  void apply(x_transformers::ViTransformerWrapperOptions& options) const;
  void apply(x_transformers::XLAutoregressiveWrapperOptions& options) const;
  void apply(x_transformers::XTransformerOptions& options) const;
  void apply(x_transformers::XValAutoregressiveWrapperOptions& options) const;
  void apply(x_transformers::XValTransformerWrapperOptions& options) const;
  void apply(x_transformers::ZetaTransformerOptions& options) const;

  /// Whether to run at a size that takes no time.
  bool is_small() const { return small_; }

 private:
  bool small_ = false;
  bool config_ = false;
};

/// A folder of this name for what an example leaves, below the system's folder for temporary files;
/// empty.
std::filesystem::path fresh_folder(const std::string& name);

/// Prints a result's name, and its shape or, of a single number, its value.
void show(const std::string& name, const at::Tensor& result);

}  // namespace example
