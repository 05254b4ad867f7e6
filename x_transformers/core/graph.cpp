#include "x_transformers/core/graph.h"

#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <filesystem>
#include <vector>

#include "x_transformers/core/device.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

constexpr const char* kLibrary = "libx_transformers_cuda.so";

struct Plugin {
  CaptureCudaGraph capture = nullptr;
  std::string refusal;
};

std::vector<std::string> library_paths() {
  namespace fs = std::filesystem;
  std::error_code error;
  const auto program = fs::read_symlink("/proc/self/exe", error);
  std::vector<std::string> paths;
  if (!error) {
    const auto folder = program.parent_path();
    for (const auto& place : {folder, folder.parent_path(), folder.parent_path() / "lib"}) {
      if (fs::exists(place / kLibrary, error)) paths.push_back((place / kLibrary).string());
    }
  }
  paths.emplace_back(kLibrary);
  return paths;
}

std::string last_dl_error() {
  const char* reason = dlerror();
  return reason ? reason : "unknown reason";
}

Plugin load_plugin() {
  Plugin plugin;
  void* library = nullptr;
  for (const auto& path : library_paths()) {
    library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library) break;
    if (plugin.refusal.empty()) plugin.refusal = last_dl_error();
  }
  if (!library) {
    plugin.refusal =
        fmt::format("CUDA graphs need {} (built with -DXT_CUDA=ON): {}", kLibrary, plugin.refusal);
    return plugin;
  }
  plugin.refusal.clear();
  plugin.capture = reinterpret_cast<CaptureCudaGraph>(dlsym(library, kCaptureCudaGraph));
  if (!plugin.capture)
    plugin.refusal = fmt::format("{} is of another version: {}", kLibrary, last_dl_error());
  return plugin;
}

const Plugin& plugin() {
  static const Plugin loaded = load_plugin();
  return loaded;
}

class RepeatedWork : public DeviceGraph {
 public:
  explicit RepeatedWork(std::function<void()> work) : work_(std::move(work)) {}
  void replay() override { work_(); }

 private:
  std::function<void()> work_;
};

}  // namespace

std::string graph_refusal() {
  if (auto reason = cuda_refusal(); !reason.empty()) return reason;
  return plugin().refusal;
}

std::unique_ptr<DeviceGraph> capture_graph(const c10::Device& device,
                                           const std::function<void()>& work, int warm_up) {
  if (device.is_cpu()) {
    for (int i = 0; i < warm_up; ++i) work();
    return std::make_unique<RepeatedWork>(work);
  }
  require(device.is_cuda(), "capture_graph: expected a cpu or cuda device, got " + device.str());
  const auto refusal = graph_refusal();
  require(refusal.empty(), "capture_graph: " + refusal);
  try {
    return std::unique_ptr<DeviceGraph>(plugin().capture(device, work, warm_up));
  } catch (const c10::OutOfMemoryError&) {
    throw;  // its own remedies
  } catch (const c10::Error& error) {
    throw RunError(std::string("the work cannot be captured in a CUDA graph: ") +
                   error.what_without_backtrace());
  }
}

}  // namespace x_transformers
