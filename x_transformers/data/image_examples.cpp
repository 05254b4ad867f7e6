#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/data/examples.h"
#include "x_transformers/data/files.h"
#include "x_transformers/data/image_file.h"
#include "x_transformers/data/random.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

struct LabelledFile {
  std::string path;
  int64_t label = 0;
};

/// The folders in `path`, by name.
std::vector<std::string> class_folders(const std::string& path) {
  require(fs::is_directory(path), path +
                                      ": expected a folder with a folder of images for each "
                                      "class");
  std::vector<std::string> folders;
  for (const auto& entry : fs::directory_iterator(path)) {
    const auto name = entry.path().filename().string();
    if (entry.is_directory() && !name.starts_with('.')) folders.push_back(entry.path().string());
  }
  require(!folders.empty(), path + ": holds no folders, expected one for each class");
  std::sort(folders.begin(), folders.end());
  return folders;
}

/// All images with their classes, in an order without meaning, so that any part has all classes.
std::vector<LabelledFile> find_images(const std::string& path) {
  std::vector<LabelledFile> files, shuffled;
  int64_t label = 0;
  for (const auto& folder : class_folders(path)) {
    for (auto& file : list_files(folder)) files.push_back({std::move(file), label});
    ++label;
  }
  for (size_t i = 0; i < files.size(); ++i)
    shuffled.push_back(std::move(files[permuted_index(i, files.size(), 0)]));
  return shuffled;
}

TensorMap load_images(const std::string& path, int64_t channels) {
  const auto files = find_images(path);
  std::vector<at::Tensor> images;
  std::vector<int64_t> labels;
  for (const auto& file : files) {
    images.push_back(read_image(file.path, channels));
    labels.push_back(file.label);
    const auto& first = images.front();
    require(images.back().sizes() == first.sizes(),
            fmt::format("{}: has {} x {} pixels, expected {} x {} as {} has", file.path,
                        images.back().size(2), images.back().size(1), first.size(2), first.size(1),
                        files.front().path));
  }
  return {{"img", at::stack(images)}, {"labels", at::tensor(labels)}};
}

}  // namespace

Examples open_image_examples(const DataOptions& options) {
  auto examples = load_parts(
      options, [&](const std::string& path) { return load_images(path, options.images.channels); });
  require_alike(examples, options);
  return examples;
}

}  // namespace x_transformers
