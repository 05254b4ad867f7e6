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

bool is_image_name(const fs::path& path) {
  auto extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg";
}

/// The names of the folders in `path`, sorted: the classes. An image beside them is of none.
std::vector<std::string> class_names(const std::string& path) {
  require(fs::is_directory(path), at(path + ":"),
          "expected a folder with a folder of images for each class");
  std::vector<std::string> names;
  std::string lone;
  for (const auto& entry : fs::directory_iterator(path)) {
    auto name = entry.path().filename().string();
    if (name.starts_with('.')) continue;
    if (entry.is_directory()) {
      names.push_back(std::move(name));
    } else if (is_image_name(entry.path()) && (lone.empty() || entry.path().string() < lone)) {
      lone = entry.path().string();
    }
  }
  require(!names.empty(), at(path + ":"), "holds no folders, expected one for each class");
  require(lone.empty(), at(lone + ":"),
          "is an image beside the folders of classes, and so of no class; move it into "
          "one of them");
  std::sort(names.begin(), names.end());
  return names;
}

/// All images with their places among `classes`, in an order without meaning, so that any part has
/// all classes.
std::vector<LabelledFile> find_images(const std::string& path,
                                      const std::vector<std::string>& classes) {
  std::vector<LabelledFile> files, shuffled;
  for (const auto& name : class_names(path)) {
    const auto found = std::lower_bound(classes.begin(), classes.end(), name);
    const auto folder = (fs::path(path) / name).string();
    require(found != classes.end() && *found == name, at(folder + ":"),
            "is a class that the training data lack");
    for (auto& file : list_files(folder))
      files.push_back({std::move(file), found - classes.begin()});
  }
  for (size_t i = 0; i < files.size(); ++i)
    shuffled.push_back(std::move(files[permuted_index(i, files.size(), 0)]));
  return shuffled;
}

ExamplePart load_images(const std::string& path, const std::vector<std::string>& classes,
                        int64_t channels) {
  ExamplePart part{{}, {path}};
  const auto files = find_images(path, classes);
  std::vector<at::Tensor> images;
  std::vector<int64_t> labels;
  for (const auto& file : files) {
    images.push_back(read_image(file.path, channels));
    labels.push_back(file.label);
    part.places.files.push_back(file.path);
    const auto& first = images.front();
    require(images.back().sizes() == first.sizes(), at(file.path + ":"),
            "has {} x {} pixels, expected {} x {} as {} has", images.back().size(2),
            images.back().size(1), first.size(2), first.size(1), files.front().path);
  }
  part.tensors = {{"img", at::stack(images)}, {"labels", at::tensor(labels)}};
  return part;
}

}  // namespace

Examples open_image_examples(const DataOptions& options) {
  const auto classes = class_names(options.path);
  auto examples = load_parts(options, [&](const std::string& path) {
    return load_images(path, classes, options.images.channels);
  });
  require_alike(examples, options);
  return examples;
}

}  // namespace x_transformers
