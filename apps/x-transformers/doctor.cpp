// doctor: versions, libraries that were loaded, devices.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <link.h>
#include <torch/version.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string_view>

#include "apps/x-transformers/commands.h"
#include "x_transformers/core/compat.h"
#include "x_transformers/core/cpu_limits.h"
#include "x_transformers/core/device.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/machine.h"
#include "x_transformers/distributed/device_sums.h"
#include "x_transformers/distributed/transport.h"
#include "x_transformers/runs/gnuplot.h"

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

/// Whose parallel regions run: those of x_transformers/threads in this program, or a library's.
std::string parallel_regions() {
  Dl_info info{};
  void* address = dlsym(RTLD_DEFAULT, "GOMP_parallel");
  if (!address || !dladdr(address, &info) || !info.dli_fname) return "LibTorch's own";
  const std::string path = info.dli_fname;
  const bool is_library = path.find(".so") != std::string::npos;
  return is_library ? path : "own thread pool";
}

/// What the number of threads comes from.
Json examine_cpus() {
  const auto limits = cpu_limits();
  Json cpus = {
      {"online", limits.online}, {"affine", limits.affine}, {"usable", usable_cpus(limits)}};
  if (limits.quota) cpus["quota"] = *limits.quota;
  if (limits.load) cpus["load"] = *limits.load;
  return cpus;
}

/// "4 threads of 8 processors, 4 of which this process may run on".
std::string threads_text(const Json& found) {
  const auto& cpus = found["cpus"];
  std::string text = fmt::format("{} threads of {} processors", found["threads"].get<int>(),
                                 cpus["online"].get<int>());
  if (cpus["affine"] != cpus["online"])
    text += fmt::format(", {} of which this process may run on", cpus["affine"].get<int>());
  if (cpus.contains("quota"))
    text += fmt::format(", a control group's quota of {:.3g}", cpus["quota"].get<double>());
  if (cpus.contains("load"))
    text += fmt::format(", load {:.2f} over the last minute", cpus["load"].get<double>());
  return text;
}

Json examine() {
  const auto reason = cuda_unsupported();
  use_threads(std::nullopt);
  return {{"libtorch", TORCH_VERSION},
          {"weights_compatible_with", release_names()},
          {"cpu_capability", at::get_cpu_capability()},
          {"threads", at::get_num_threads()},
          {"cpus", examine_cpus()},
          {"parallel_regions", parallel_regions()},
          {"memory_bytes", machine_memory()},
          {"cuda", cuda_device_count()},
          {"cuda_unsupported", reason.line()},
          {"nccl_unsupported", nccl_unsupported().line()},
          {"mpi_unsupported", mpi_unsupported().line()},
          {"gnuplot_unsupported", has_gnuplot() ? "" : gnuplot_unsupported()},
          {"libraries", loaded_libraries()}};
}

void print_text(const Json& found) {
  fmt::print("LibTorch           {}\n", found["libtorch"].get<std::string>());
  fmt::print("reads weights of   x-transformers {}\n",
             fmt::join(found["weights_compatible_with"].get<std::vector<std::string>>(), " or "));
  fmt::print("CPU                {}, {:.1f} GB of memory\n",
             found["cpu_capability"].get<std::string>(), found["memory_bytes"].get<double>() / 1e9);
  fmt::print("threads            {}; parallel regions: {}\n", threads_text(found),
             found["parallel_regions"].get<std::string>());
  const auto reason = found["cuda_unsupported"].get<std::string>();
  fmt::print("CUDA               {}\n",
             reason.empty() ? fmt::format("{} devices", found["cuda"].get<int>())
                            : fmt::format("no: {} (needed for --device cuda alone)", reason));
  const auto no_nccl = found["nccl_unsupported"].get<std::string>();
  fmt::print("NCCL               {}\n", no_nccl.empty() ? "joins GPUs (train --gpus)" : no_nccl);
  const auto no_mpi = found["mpi_unsupported"].get<std::string>();
  fmt::print("MPI                {}\n",
             no_mpi.empty() ? "for processes that mpirun starts" : no_mpi);
  const auto no_pictures = found["gnuplot_unsupported"].get<std::string>();
  fmt::print("pictures           {}\n", no_pictures.empty() ? "gnuplot draws them" : no_pictures);
  for (const auto& path : found["libraries"])
    fmt::print("loaded             {}\n", path.get<std::string>());
}

}  // namespace

void add_doctor(CLI::App& app) {
  auto* command = app.add_subcommand("doctor", "versions, libraries found, devices");
  const auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "print the result as JSON");
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
