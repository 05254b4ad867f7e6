// Sums over GPUs by NCCL, called through its C interface: what distributed/device_sums.h loads. The
// library is that which LibTorch's CUDA half has loaded.
#include "x_transformers/distributed/device_sums.h"

#ifdef XT_NCCL

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/Event.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <nccl.h>

#include <chrono>
#include <cstring>
#include <mutex>
#include <utility>

#include "x_transformers/cuda/streams.h"

namespace x_transformers {
namespace {

/// For a call of another thread to end, before what is on the way is given up.
constexpr auto kCallSeconds = std::chrono::seconds(5);

/// The functions of NCCL that are called here.
struct Nccl {
  std::string missing;  ///< what of it; empty: nothing
  decltype(&ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&ncclCommInitRankConfig) init_rank = nullptr;
  decltype(&ncclAllReduce) all_reduce = nullptr;
  decltype(&ncclBroadcast) broadcast = nullptr;
  decltype(&ncclGroupStart) group_start = nullptr;
  decltype(&ncclGroupEnd) group_end = nullptr;
  decltype(&ncclCommGetAsyncError) async_error = nullptr;
  decltype(&ncclCommAbort) abort = nullptr;
  decltype(&ncclCommDestroy) destroy = nullptr;
  decltype(&ncclGetErrorString) error_string = nullptr;
  decltype(&ncclGetLastError) last_error = nullptr;

  Nccl() {
    constexpr const char* kLibrary = "libnccl.so.2";
    library_ = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) {
      missing = kLibrary;
      return;
    }
    find("ncclGetUniqueId", get_unique_id);
    find("ncclCommInitRankConfig", init_rank);
    find("ncclAllReduce", all_reduce);
    find("ncclBroadcast", broadcast);
    find("ncclGroupStart", group_start);
    find("ncclGroupEnd", group_end);
    find("ncclCommGetAsyncError", async_error);
    find("ncclCommAbort", abort);
    find("ncclCommDestroy", destroy);
    find("ncclGetErrorString", error_string);
    find("ncclGetLastError", last_error);
  }

 private:
  template <class Function>
  void find(const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library_, name));
    if (function == nullptr && missing.empty()) missing = name;
  }

  void* library_ = nullptr;
};

const Nccl& nccl() {
  static const Nccl functions;
  return functions;
}

/// What NCCL says of a result, and of what led to it.
std::string words_of(ncclResult_t result) {
  std::string words = std::string("NCCL: ") + nccl().error_string(result);
  const char* detail = nccl().last_error(nullptr);
  if (detail != nullptr && *detail != '\0') words += std::string(" (") + detail + ")";
  return words;
}

void demand(ncclResult_t result) {
  TORCH_CHECK(result == ncclSuccess || result == ncclInProgress, words_of(result));
}

/// How numbers of a type are added up.
struct HowToSum {
  ncclDataType_t type;
  ncclRedOp_t operation = ncclSum;
};

HowToSum how_to_sum(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return {ncclFloat32};
    case at::kDouble:
      return {ncclFloat64};
    case at::kHalf:
      return {ncclFloat16};
    case at::kBFloat16:
      return {ncclBfloat16};
    case at::kLong:
      return {ncclInt64};
    case at::kInt:
      return {ncclInt32};
    case at::kChar:
      return {ncclInt8};
    case at::kByte:
      return {ncclUint8};
    case at::kBool:
      return {ncclUint8, ncclMax};  // a sum that is not 0
    default:
      TORCH_CHECK(false, "[DeviceSums] cannot sum up numbers of type ", type);
  }
}

class NcclSums : public DeviceSums {
 public:
  NcclSums(const c10::Device& device, const WorldPlace& place, const ncclUniqueId& id)
      : device_(device),
        // Of high priority, so that what others wait for does not wait for what nobody does.
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device.index())) {
    const c10::cuda::CUDAGuard on_device(device_);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 1;
    demand(nccl().init_rank(&communicator_, static_cast<int>(place.world), id,
                            static_cast<int>(place.rank), &config));
    // Connects all, which a captured sum could not wait for.
    const at::NoGradGuard no_grad;
    const auto number = at::zeros({1}, at::TensorOptions(device_).dtype(at::kFloat));
    start_sum({number})();
    C10_CUDA_CHECK(cudaStreamSynchronize(c10::cuda::getCurrentCUDAStream(device_.index())));
  }

  ~NcclSums() override { abort(); }
  NcclSums(const NcclSums&) = delete;
  NcclSums& operator=(const NcclSums&) = delete;

  StartedSum start_sum(const std::vector<at::Tensor>& tensors) override {
    std::vector<HowToSum> how;
    for (const auto& tensor : tensors) how.push_back(how_to_sum(tensor.scalar_type()));
    return start(tensors, [&](size_t i, void* data, size_t count) {
      return nccl().all_reduce(data, data, count, how[i].type, how[i].operation, communicator_,
                               stream_);
    });
  }

  StartedSum start_giving(const std::vector<at::Tensor>& tensors,
                          const std::vector<int64_t>& owners) override {
    return start(tensors, [&](size_t i, void* data, size_t count) {
      return nccl().broadcast(data, data, count * tensors[i].element_size(), ncclUint8,
                              static_cast<int>(owners[i]), communicator_, stream_);
    });
  }

  std::string error() override {
    const std::unique_lock lock(calls_, std::try_to_lock);
    if (!lock || communicator_ == nullptr) return "";
    ncclResult_t found = ncclSuccess;
    const auto result = nccl().async_error(communicator_, &found);
    if (result != ncclSuccess) return words_of(result);
    return found == ncclSuccess || found == ncclInProgress ? "" : words_of(found);
  }

  void abort() override {
    // A call that never ends is not waited for: the process ends then (MonitorOptions::on_stuck).
    std::unique_lock lock(calls_, kCallSeconds);
    if (!lock) return;
    const auto communicator = std::exchange(communicator_, nullptr);
    lock.unlock();
    if (communicator == nullptr) return;
    const c10::cuda::CUDAGuard on_device(device_);
    nccl().abort(communicator);
  }

  void finish() override {
    const c10::cuda::CUDAGuard on_device(device_);
    C10_CUDA_CHECK(cudaStreamSynchronize(stream_));
    const std::lock_guard lock(calls_);
    demand(nccl().destroy(std::exchange(communicator_, nullptr)));
  }

 private:
  /// A sum on its way, with what it keeps alive.
  struct Begun {
    std::vector<at::Tensor> tensors, numbers;  ///< as given, and contiguous
    c10::Event end{c10::kCUDA};
  };

  /// Calls `move` for each tensor, with its memory and how many numbers are there, in one launch.
  template <class Move>
  StartedSum start(const std::vector<at::Tensor>& tensors, Move move) {
    const at::NoGradGuard no_grad;
    const c10::cuda::CUDAGuard on_device(device_);
    auto begun = std::make_shared<Begun>();
    for (const auto& tensor : tensors) {
      TORCH_CHECK(tensor.device() == device_, "[DeviceSums] expected tensors on ", device_.str(),
                  ", got ", tensor.device().str());
      begun->tensors.push_back(tensor.detach());
      begun->numbers.push_back(begun->tensors.back().contiguous());
    }
    follow(c10::cuda::getCurrentCUDAStream(device_.index()), stream_);
    launch(begun->numbers, move);
    begun->end.record(stream_);
    return [begun, device = device_] {
      const at::NoGradGuard no_grad_at_the_end;
      const c10::cuda::CUDAGuard on_device_at_the_end(device);
      begun->end.block(c10::cuda::getCurrentCUDAStream(device.index()));
      for (size_t i = 0; i < begun->tensors.size(); ++i) {
        if (!begun->numbers[i].is_same(begun->tensors[i]))
          begun->tensors[i].copy_(begun->numbers[i]);
      }
    };
  }

  template <class Move>
  void launch(const std::vector<at::Tensor>& numbers, const Move& move) {
    const std::lock_guard lock(calls_);
    TORCH_CHECK(communicator_ != nullptr, "the sums over GPUs were given up");
    demand(nccl().group_start());
    ncclResult_t result = ncclSuccess;
    for (size_t i = 0; i < numbers.size() && result == ncclSuccess; ++i) {
      const auto count = static_cast<size_t>(numbers[i].numel());
      if (count > 0) result = move(i, numbers[i].mutable_data_ptr(), count);
    }
    const auto ended = nccl().group_end();  // a group that has begun must end
    demand(result);
    demand(ended);
  }

  c10::Device device_;
  c10::cuda::CUDAStream stream_;
  std::timed_mutex calls_;  // NCCL's of one communicator come one after the other
  ncclComm_t communicator_ = nullptr;
};

std::string nccl_joining_unsupported() {
  return nccl().missing.empty()
             ? ""
             : "of NCCL, which LibTorch's CUDA half brings, there is no " + nccl().missing;
}

std::string gpu_identity(const c10::Device& device) {
  cudaDeviceProp properties{};
  C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, device.index()));
  return {properties.uuid.bytes, sizeof properties.uuid.bytes};
}

std::string make_nccl_key() {
  ncclUniqueId id{};
  static_assert(sizeof id.internal == DeviceJoining::kKeyBytes);
  demand(nccl().get_unique_id(&id));
  return {id.internal, sizeof id.internal};
}

DeviceSums* join_by_nccl(const c10::Device& device, const WorldPlace& place,
                         const std::string& key) {
  ncclUniqueId id{};
  TORCH_CHECK(key.size() == sizeof id.internal, "[DeviceSums] a key of ", key.size(), " bytes");
  std::memcpy(id.internal, key.data(), key.size());
  return new NcclSums(device, place, id);
}

constexpr DeviceJoining kJoining{.unsupported = nccl_joining_unsupported,
                                 .identity = gpu_identity,
                                 .make_key = make_nccl_key,
                                 .join = join_by_nccl};

}  // namespace
}  // namespace x_transformers

#else

namespace x_transformers {
namespace {

constexpr DeviceJoining kJoining{.unsupported = [] {
  return std::string("libx_transformers_cuda.so was built without NCCL's header, nccl.h");
}};

}  // namespace
}  // namespace x_transformers

#endif

extern "C" __attribute__((visibility("default"))) const x_transformers::DeviceJoining*
x_transformers_nccl_joining() {
  return &x_transformers::kJoining;
}
