#include "x_transformers/core/plugin.h"

#include <dlfcn.h>
#include <link.h>

#include <filesystem>

#include "x_transformers/core/cause.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

/// The file that holds this code: a shared library, or the program.
fs::path own_file() {
  std::error_code error;
  Dl_info info{};
  void* extra = nullptr;
  const auto* code = reinterpret_cast<const void*>(&plugin_paths);
  const bool is_known = dladdr1(code, &info, &extra, RTLD_DL_LINKMAP) != 0;
  const auto* map = static_cast<const link_map*>(extra);
  // The program itself has no name there, and dladdr gives it as it was called, perhaps by PATH.
  const bool is_program = !is_known || map == nullptr || map->l_name[0] == '\0';
  return is_program ? fs::read_symlink("/proc/self/exe", error) : fs::canonical(map->l_name, error);
}

std::string file_name(const std::string& name) { return "libx_transformers_" + name + ".so"; }

struct Plugin {
  std::string file;
  void* library = nullptr;
  Notice reason = {};
};

Plugin load_plugin(const std::string& name, const char* built_by, int flags) {
  Plugin plugin{.file = file_name(name)};
  for (const auto& path : plugin_paths(name)) {
    std::error_code error;
    const bool is_path = path.find('/') != std::string::npos;
    if (is_path && !fs::exists(path, error)) continue;
    plugin.library = dlopen(path.c_str(), RTLD_NOW | flags);
    if (plugin.library) return plugin;
    if (plugin.reason.cause.empty()) plugin.reason.cause = cause_of_loader();
  }
  plugin.reason.text = text("this needs {} (built {})", plugin.file, built_by);
  return plugin;
}

PluginSymbol symbol_of(const Plugin& plugin, const char* name) {
  if (!plugin.library) return {nullptr, plugin.reason};
  void* address = dlsym(plugin.library, name);
  if (address) return {address};
  return {nullptr, caused({}, text("{} is of another version", plugin.file), cause_of_loader())};
}

}  // namespace

std::vector<std::string> plugin_paths(const std::string& name) {
  std::vector<std::string> paths;
  if (const auto file = own_file(); !file.empty()) {
    const auto folder = file.parent_path(), above = folder.parent_path();
    for (const auto& place : {folder, above, above / "lib"})
      paths.push_back((place / file_name(name)).string());
  }
  paths.emplace_back(file_name(name));
  return paths;
}

PluginSymbol cuda_plugin_symbol(const char* name) {
  static const Plugin plugin = load_plugin("cuda", "with -DXT_CUDA=ON", RTLD_LOCAL);
  return symbol_of(plugin, name);
}

PluginSymbol mpi_plugin_symbol(const char* name) {
  // Global: Open MPI loads parts of its own, which look for its symbols.
  static const Plugin plugin =
      load_plugin("mpi", "where CMake finds MPI: tools/install_deps.sh --mpi", RTLD_GLOBAL);
  return symbol_of(plugin, name);
}

}  // namespace x_transformers
