#include "x_transformers/core/error.h"
#include "x_transformers/core/plugin.h"
#include "x_transformers/core/reason.h"
#include "x_transformers/distributed/mpi_functions.h"
#include "x_transformers/distributed/transport.h"

namespace x_transformers {
namespace {

struct FoundMpi {
  const MpiFunctions* functions = nullptr;
  Notice reason;
};

FoundMpi find_mpi() {
  const auto symbol = mpi_plugin_symbol(kMpiFunctions);
  if (symbol.address == nullptr) return {nullptr, symbol.reason};
  const auto* functions = reinterpret_cast<GetMpiFunctions>(symbol.address)();
  if (functions->layout != MpiFunctions().layout)
    return {nullptr, {{}, "libx_transformers_mpi.so is of another version"}};
  return {functions, {}};
}

class MpiTransport : public Transport {
 public:
  explicit MpiTransport(const MpiFunctions& mpi) : mpi_(mpi) {
    demand(mpi_.begin(&place_.rank, &place_.world));
  }

  WorldPlace place() const override { return place_; }

  void sum(void* data, int64_t count, SumType type) override {
    const char* error = mpi_.sum(data, count, static_cast<int>(type), &gives_up, this);
    check();  // before what MPI says of it
    demand(error);
  }

  void give(void* data, int64_t bytes, int64_t owner) override {
    const char* error = mpi_.broadcast(data, bytes, owner, &gives_up, this);
    check();
    demand(error);
  }

  void finish() override { demand(mpi_.finish()); }
  bool may_be_stuck() const override { return true; }

 private:
  static bool gives_up(void* context) {
    try {
      static_cast<MpiTransport*>(context)->check();
      return false;
    } catch (const std::exception&) {
      return true;
    }
  }

  static void demand(const char* error) {
    if (error == nullptr) return;
    Notice notice{{}, "MPI"};
    notice.cause = error;
    throw RunError(std::move(notice));
  }

  const MpiFunctions& mpi_;
  WorldPlace place_;
};

}  // namespace

Notice mpi_unsupported() { return find_mpi().reason; }

std::unique_ptr<Transport> make_mpi_transport() {
  const auto found = find_mpi();
  if (found.functions == nullptr)
    throw RunError(because(at("started by mpirun:"), {}, found.reason));
  return std::make_unique<MpiTransport>(*found.functions);
}

}  // namespace x_transformers
