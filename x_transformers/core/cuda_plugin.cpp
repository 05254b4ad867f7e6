#include "x_transformers/core/cuda_plugin.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>

#include <filesystem>

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLibrary = "libx_transformers_cuda.so";

/// The file that holds this code: a shared library, or the program.
fs::path own_file() {
  std::error_code error;
  Dl_info info{};
  void* extra = nullptr;
  const auto* code = reinterpret_cast<const void*>(&cuda_plugin_paths);
  const bool is_known = dladdr1(code, &info, &extra, RTLD_DL_LINKMAP) != 0;
  const auto* map = static_cast<const link_map*>(extra);
  // The program itself has no name there, and dladdr gives it as it was called, perhaps by PATH.
  const bool is_program = !is_known || map == nullptr || map->l_name[0] == '\0';
  return is_program ? fs::read_symlink("/proc/self/exe", error) : fs::canonical(map->l_name, error);
}

std::string last_dl_error() {
  const char* reason = dlerror();
  return reason ? reason : "unknown reason";
}

struct Plugin {
  void* library = nullptr;
  std::string reason;
};

Plugin load_plugin() {
  Plugin plugin;
  for (const auto& path : cuda_plugin_paths()) {
    std::error_code error;
    const bool is_path = path.find('/') != std::string::npos;
    if (is_path && !fs::exists(path, error)) continue;
    plugin.library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (plugin.library) return {plugin.library, ""};
    if (plugin.reason.empty()) plugin.reason = last_dl_error();
  }
  plugin.reason =
      fmt::format("this needs {} (built with -DXT_CUDA=ON): {}", kLibrary, plugin.reason);
  return plugin;
}

}  // namespace

std::vector<std::string> cuda_plugin_paths() {
  std::vector<std::string> paths;
  if (const auto file = own_file(); !file.empty()) {
    const auto folder = file.parent_path(), above = folder.parent_path();
    for (const auto& place : {folder, above, above / "lib"})
      paths.push_back((place / kLibrary).string());
  }
  paths.emplace_back(kLibrary);
  return paths;
}

CudaPluginSymbol cuda_plugin_symbol(const char* name) {
  static const Plugin plugin = load_plugin();
  if (!plugin.library) return {nullptr, plugin.reason};
  void* address = dlsym(plugin.library, name);
  if (address) return {address, ""};
  return {nullptr, fmt::format("{} is of another version: {}", kLibrary, last_dl_error())};
}

}  // namespace x_transformers
