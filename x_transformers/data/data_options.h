// The `data` part of a run file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace x_transformers {

struct DataOptions {
  std::string path;
  std::string tokenizer = "bytes";
  std::string format = "auto";
  std::string val_path;
  double val_fraction = 0.1;
  int64_t val_batches = 16;
  std::optional<int64_t> seq_len;
  int64_t batch_size = 16;
  std::string order = "auto";
  int64_t seed = 0;

  template <class Visitor>
  void fields(Visitor& v) {
    v("path", path,
      "a file, or a folder whose files are read in the order of their names, folders in it too");
    v("tokenizer", tokenizer,
      "bytes, or a sentencepiece .model file; with token files it serves to print samples only");
    v("format", format,
      "text, bin (uint16 tokens as nanoGPT and llm.c write them), tensors (a safetensors file, "
      "each "
      "of whose tensors has one row an example), or auto: tensors for a .safetensors file, bin for "
      "a .bin file and for a folder that holds some, else text");
    v("val_path", val_path,
      "validation data; default: the .bin files with val in their name, else the last "
      "val_fraction");
    v("val_fraction", val_fraction, "share of the tokens or examples kept for validation; 0: none");
    v("val_batches", val_batches, "batches of one validation, spaced evenly; 0: all of the data");
    v("seq_len", seq_len, "tokens a sequence; default: the model's max_seq_len");
    v("batch_size", batch_size, "sequences or examples a batch");
    v("order", order,
      "random: each sequence or example drawn anew from all; epoch: each once, then again in "
      "another order; auto: epoch for tensors, else random");
    v("seed", seed, "seed of the order");
  }
};

/// Throws InputError naming the option that cannot be used. `seq_len` may still be absent here;
/// data of tokens needs it.
void validate(const DataOptions& options);

/// Whether the data are examples of named tensors, and not tokens: what `format` says or, where
/// that is auto, the name of the file.
bool holds_tensors(const DataOptions& options);

}  // namespace x_transformers
