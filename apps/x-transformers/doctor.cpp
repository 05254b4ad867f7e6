// doctor: versions, libraries that were loaded, devices.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <link.h>
#include <torch/version.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string_view>

#include "apps/x-transformers/commands.h"
#include "x_transformers/core/compat.h"
#include "x_transformers/core/device.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/machine.h"

namespace x_transformers {

namespace {

/// Paths of the loaded shared libraries whose names matter when something is wrong.
std::vector<std::string> loaded_libraries() {
  std::vector<std::string> paths;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        const std::string_view path = info->dlpi_name;
        for (const auto* part :
             {"libtorch", "libc10", "libcudart", "libcudnn", "libcublas", "libgomp", "libmkl"}) {
          if (path.find(part) != std::string_view::npos) {
            static_cast<std::vector<std::string>*>(out)->emplace_back(path);
            break;
          }
        }
        return 0;
      },
      &paths);
  return paths;
}

Json examine() {
  const auto reason = cuda_unsupported();
  return {{"libtorch", TORCH_VERSION},
          {"weights_compatible_with", release_names()},
          {"cpu_capability", at::get_cpu_capability()},
          {"threads", at::get_num_threads()},
          {"memory_bytes", machine_memory()},
          {"cuda", reason.empty() ? Json(at::detail::getCUDAHooks().deviceCount()) : Json(0)},
          {"cuda_refusal", reason},
          {"libraries", loaded_libraries()}};
}

void print_text(const Json& found) {
  fmt::print("LibTorch           {}\n", found["libtorch"].get<std::string>());
  fmt::print("weights mean       x-transformers {}\n",
             fmt::join(found["weights_compatible_with"].get<std::vector<std::string>>(), " or "));
  fmt::print("CPU                {}, {} threads, {:.1f} GB of memory\n",
             found["cpu_capability"].get<std::string>(), found["threads"].get<int>(),
             found["memory_bytes"].get<double>() / 1e9);
  const auto reason = found["cuda_refusal"].get<std::string>();
  fmt::print("CUDA               {}\n",
             reason.empty() ? fmt::format("{} devices", found["cuda"].get<int>()) : reason);
  for (const auto& path : found["libraries"])
    fmt::print("loaded             {}\n", path.get<std::string>());
}

}  // namespace

void add_doctor(CLI::App& app) {
  auto* command = app.add_subcommand("doctor", "versions, libraries found, devices");
  const auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "for machines");
  command->callback([json] {
    const auto found = examine();
    if (*json) {
      fmt::print("{}\n", found.dump());
    } else {
      print_text(found);
    }
  });
}

}  // namespace x_transformers
