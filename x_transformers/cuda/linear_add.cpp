// cuBLASLt adds a matrix to a product on the way out; ATen's addmm copies that matrix first.
#include "x_transformers/cuda/linear_add.h"

#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/cuda/Exceptions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cublasLt.h>

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

namespace x_transformers::kernels::cuda {
namespace {

/// What destroy() ends.
template <class Handle, cublasStatus_t (*destroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle_ != nullptr) destroy(handle_);
  }
  Handle* address() { return &handle_; }
  Handle get() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};

using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;

/// The largest power of two that divides an address, up to 256.
uint32_t alignment_of(const void* memory) {
  uint32_t alignment = 256;
  while (reinterpret_cast<uintptr_t>(memory) % alignment != 0) alignment /= 2;
  return alignment;
}

/// The product as cuBLASLt sees it, by columns: out^T [dim_out, rows] = weight x^T.
class Product {
 public:
  explicit Product(const LinearAdd& p) {
    const auto type = p.element == Element::bfloat16 ? CUDA_R_16BF : CUDA_R_16F;
    TORCH_CUDABLAS_CHECK(cublasLtMatmulDescCreate(work_.address(), CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    if (p.bias != nullptr) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
    }
    make(weight_, type, p.dim, p.dim_out);
    make(x_, type, p.dim, p.rows);
    make(out_, type, p.dim_out, p.rows);
  }

  /// What cuBLASLt takes for the fastest way.
  std::optional<cublasLtMatmulAlgo_t> best(const LinearAdd& p, size_t workspace) const {
    Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy> preference;
    TORCH_CUDABLAS_CHECK(cublasLtMatmulPreferenceCreate(preference.address()));
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      TORCH_CUDABLAS_CHECK(
          cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(p.weight));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(p.x));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(p.residual));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(p.out));
    cublasLtMatmulHeuristicResult_t found = {};
    int count = 0;
    const auto status = cublasLtMatmulAlgoGetHeuristic(
        at::cuda::getCurrentCUDABlasLtHandle(), work_.get(), weight_.get(), x_.get(), out_.get(),
        out_.get(), preference.get(), 1, &found, &count);
    if (status != CUBLAS_STATUS_SUCCESS || count == 0) return std::nullopt;
    return found.algo;
  }

  void run(const LinearAdd& p, const cublasLtMatmulAlgo_t& way, cudaStream_t stream) const {
    const float one = 1;
    TORCH_CUDABLAS_CHECK(cublasLtMatmul(
        at::cuda::getCurrentCUDABlasLtHandle(), work_.get(), &one, p.weight, weight_.get(), p.x,
        x_.get(), &one, p.residual, out_.get(), p.out, out_.get(), &way,
        at::cuda::getCUDABlasLtWorkspace(), at::cuda::getCUDABlasLtWorkspaceSize(), stream));
  }

 private:
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, Value value) {
    TORCH_CUDABLAS_CHECK(
        cublasLtMatmulDescSetAttribute(work_.get(), attribute, &value, sizeof(value)));
  }
  static void make(Layout& layout, cudaDataType_t type, int64_t rows, int64_t columns) {
    TORCH_CUDABLAS_CHECK(cublasLtMatrixLayoutCreate(
        layout.address(), type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), rows));
  }

  Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy> work_;
  Layout weight_, x_, out_;
};

/// The way for calls of a kind, asked for once.
std::optional<cublasLtMatmulAlgo_t> way_for(const LinearAdd& p, int8_t device) {
  static std::mutex mutex;
  static std::map<std::array<int64_t, 7>, std::optional<cublasLtMatmulAlgo_t>> known;
  int64_t alignments = 0;
  for (const auto* memory : {p.x, p.weight, p.residual, static_cast<const void*>(p.out)})
    alignments = alignments * 512 + alignment_of(memory);
  const std::array<int64_t, 7> kind = {
      p.rows,     p.dim, p.dim_out, static_cast<int64_t>(p.element), p.bias != nullptr ? 1 : 0,
      alignments, device};
  const std::lock_guard lock(mutex);
  const auto found = known.find(kind);
  if (found != known.end()) return found->second;
  const auto way = Product(p).best(p, at::cuda::getCUDABlasLtWorkspaceSize());
  known.emplace(kind, way);
  return way;
}

}  // namespace

bool can_add_linear(const LinearAdd& params, int8_t device) {
  const c10::cuda::CUDAGuard guard(device);
  return way_for(params, device).has_value();
}

void linear_add(const LinearAdd& params, int8_t device) {
  const c10::cuda::CUDAGuard guard(device);
  const auto way = way_for(params, device);
  TORCH_CHECK(way.has_value(), "cuBLASLt has no such product");
  Product(params).run(params, *way, c10::cuda::getCurrentCUDAStream(device));
}

}  // namespace x_transformers::kernels::cuda
