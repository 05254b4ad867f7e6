// The `data` part of a run file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace x_transformers {

/// Tasks that are made up as the run goes.
struct TaskOptions {
  /// copy: src [batch, length] of random symbols, tgt the same after a token 1 (for XTransformer);
  /// parity: x [batch, length] of bits, labels whether the ones so far are odd; path_star: x, a
  /// graph of paths that start at one node, its two ends and the path between them (for token
  /// models) (arXiv:2403.06963 (path_star))
  std::string name;
  /// symbols, bits, or nodes of a path
  int64_t length = 32;
  /// different symbols of copy, different nodes of path_star
  int64_t symbols = 16;
  /// paths of path_star
  int64_t arms = 2;

  template <class Visitor>
  void fields(Visitor& v) {
    v("name", name,
      "copy: src [batch, length] of random symbols, tgt the same after a token 1 (for "
      "XTransformer); parity: x [batch, length] of bits, labels whether the ones so far are odd; "
      "path_star: x, a graph of paths that start at one node, its two ends and the path between "
      "them (for token models)",
      "arXiv:2403.06963 (path_star)");
    v("length", length, "symbols, bits, or nodes of a path");
    v("symbols", symbols, "different symbols of copy, different nodes of path_star");
    v("arms", arms, "paths of path_star");
  }
};

/// CSV files.
struct SeriesOptions {
  /// names of the columns that are used, in order; default: all
  std::vector<std::string> columns;

  template <class Visitor>
  void fields(Visitor& v) {
    v("columns", columns, "names of the columns that are used, in order; default: all");
  }
};

/// Folders of images.
struct ImageOptions {
  /// 1: grey, 3: red, green and blue, which all images must then have
  int64_t channels = 3;

  template <class Visitor>
  void fields(Visitor& v) {
    v("channels", channels, "1: grey, 3: red, green and blue, which all images must then have");
  }
};

struct DataOptions {
  /// a file, or a folder whose files are read in the order of their names, folders in it too
  std::string path;
  /// bytes, or a sentencepiece .model file; with token files it serves to print samples only
  std::string tokenizer = "bytes";
  /// text, bytes (any file, a token a byte), bin (tokens as nanoGPT, llm.c and numpy.save write
  /// them), tensors (a safetensors file, each of whose tensors has one row an example), pairs (text
  /// of two columns separated by a tab), preferences (JSONL of prompt, chosen and rejected), series
  /// (CSV of numbers), images (a folder of PNG or JPEG files for each class), task (made up as the
  /// run goes, without a path) or auto: task where one is named, tensors for a .safetensors file,
  /// bin with a dtype, for a .bin or .npy file and for a folder that holds some, else text
  std::string format = "auto";
  /// what the numbers of a token file without a header are: uint16, uint32, uint64, int32, int64,
  /// or auto: uint16, refused where they do not look like it. Headers of llm.c and .npy files say
  /// it themselves
  std::string dtype = "auto";
  /// validation data; default: the token files with val in their name, else the last val_fraction
  std::string val_path;
  /// share of the tokens or examples kept for validation; 0: none
  double val_fraction = 0.1;
  /// batches of 16 sequences or examples that one validation looks at, whatever batch_size is, so
  /// that its loss is over the same ones; spaced evenly; 0: all of the data
  int64_t val_batches = 16;
  /// none: a sequence begins anywhere in the text; or documents: it holds whole ones, as many as
  /// fit, of which none sees another and each has its own positions. A document is a file, or what
  /// separator parts one into; longer ones than a sequence are cut (arXiv:2404.10830)
  std::string pack = "none";
  /// with pack, the token that ends a document, such as 50256 of GPT-2, or 10 where tokens are
  /// bytes and lines documents; default: the end of the file
  std::optional<int64_t> separator;
  /// tokens a sequence; default: the model's max_seq_len. Series have no default: rows a sequence
  std::optional<int64_t> seq_len;
  /// sequences or examples a batch, of each process where several train
  int64_t batch_size = 16;
  /// random: each sequence or example drawn anew from all; epoch: each once, then again in another
  /// order; auto: epoch for tensors, else random
  std::string order = "auto";
  /// seed of the order, and of tasks
  int64_t seed = 0;
  /// of format task
  TaskOptions task;
  /// of format series
  SeriesOptions series;
  /// of format images
  ImageOptions images;

  template <class Visitor>
  void fields(Visitor& v) {
    v("path", path,
      "a file, or a folder whose files are read in the order of their names, folders in it too");
    v("tokenizer", tokenizer,
      "bytes, or a sentencepiece .model file; with token files it serves to print samples only");
    v("format", format,
      "text, bytes (any file, a token a byte), bin (tokens as nanoGPT, llm.c and numpy.save write "
      "them), tensors (a safetensors file, each of whose tensors has one row an example), pairs "
      "(text of two columns separated by a tab), "
      "preferences (JSONL of prompt, chosen and rejected), series (CSV of numbers), images (a "
      "folder of PNG or JPEG files for each class), task (made up as the run goes, without a path) "
      "or auto: task where one is named, tensors for a .safetensors file, bin with a dtype, for a "
      ".bin or .npy file and for a folder that holds some, else text");
    v("dtype", dtype,
      "what the numbers of a token file without a header are: uint16, uint32, uint64, int32, "
      "int64, "
      "or auto: uint16, refused where they do not look like it. Headers of llm.c and .npy files "
      "say "
      "it themselves");
    v("val_path", val_path,
      "validation data; default: the token files with val in their name, else the last "
      "val_fraction");
    v("val_fraction", val_fraction, "share of the tokens or examples kept for validation; 0: none");
    v("val_batches", val_batches,
      "batches of 16 sequences or examples that one validation looks at, whatever batch_size is, "
      "so "
      "that its loss is over the same ones; spaced evenly; 0: all of the data");
    v("pack", pack,
      "none: a sequence begins anywhere in the text; or documents: it holds whole ones, as many as "
      "fit, of which none sees another and each has its own positions. A document is a file, or "
      "what separator parts one into; longer ones than a sequence are cut",
      "arXiv:2404.10830");
    v("separator", separator,
      "with pack, the token that ends a document, such as 50256 of GPT-2, or 10 where tokens are "
      "bytes and lines documents; default: the end of the file");
    v("seq_len", seq_len,
      "tokens a sequence; default: the model's max_seq_len. Series have no default: rows a "
      "sequence");
    v("batch_size", batch_size,
      "sequences or examples a batch, of each process where several train");
    v("order", order,
      "random: each sequence or example drawn anew from all; epoch: each once, then again in "
      "another order; auto: epoch for tensors, else random");
    v("seed", seed, "seed of the order, and of tasks");
    v("task", task, "of format task");
    v("series", series, "of format series");
    v("images", images, "of format images");
  }
};

/// Throws InputError naming the option that cannot be used. `seq_len` may still be absent here;
/// data of tokens needs it.
void validate(const DataOptions& options);

/// Whether the data are examples of named tensors, and not a stream of tokens.
bool holds_examples(const DataOptions& options);

/// Whether the data are text, which options.tokenizer turns into tokens; where the files must be
/// looked at, whether they are by the name of the path.
bool holds_text(const DataOptions& options);

}  // namespace x_transformers
