// A call is described as a graph of cuDNN's, which compiles a kernel for it. Graphs are kept: calls
// of the same sizes, strides and options share one. What is known to give wrong numbers without an
// error (measured with cuDNN 9.19) is not asked for: built-in ALiBi in CUDA graphs, gradients of a
// bias that queries share, key lengths.
#include "x_transformers/cuda/scored_attention.h"

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#ifdef XT_CUDNN_FRONTEND

#include <cudnn_frontend.h>
#include <dlfcn.h>

#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

// The frontend looks up cuDNN's functions here (NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING).
namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;
}

namespace x_transformers::kernels::cuda {
namespace {

namespace fe = cudnn_frontend;
using Graph = std::shared_ptr<fe::graph::Graph>;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;
using Mode = fe::PointwiseMode_t;
using Type = fe::DataType_t;

enum Uid : int64_t {
  kQ = 1,
  kK,
  kV,
  kOut,
  kLogSumExp,
  kOutGrad,
  kQGrad,
  kKGrad,
  kVGrad,
  kSlopes,
  kSink
};

/// The library that LibTorch has loaded; null where it has none.
void* cudnn_library() {
  static void* const library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_NOLOAD);
  return library;
}

/// The scores on their way through the stages, as cuDNN asks for them: forward, and in the backward
/// graph forward again and then back.
class ScoreStages {
 public:
  ScoreStages(const ScoredAttention& call, Tensor slopes)
      : call_(call), slopes_(std::move(slopes)) {}

  Tensor forward(const Graph& graph, Tensor scores) {
    if (slopes_) {
      auto distance = offset(graph, scores);
      if (!call_.causal) distance = pointwise(graph, Mode::ABS, distance);
      const auto bias = pointwise(graph, Mode::MUL, distance, slopes_);
      scores = pointwise(graph, call_.causal ? Mode::ADD : Mode::SUB, scores, bias);
    }
    if (call_.softclamp > 0) {
      const auto inner = pointwise(graph, Mode::MUL, scores, number(1.0f / call_.softclamp));
      tanh_ = pointwise(graph, Mode::TANH_FWD, inner);
      scores = pointwise(graph, Mode::MUL, tanh_, number(call_.softclamp));
    }
    if (!call_.causal) return scores;
    const auto sees =
        pointwise(graph, Mode::CMP_GE, row(graph, scores), column(graph, scores), Type::BOOLEAN);
    return graph->pointwise(scores, number(-std::numeric_limits<float>::infinity()), sees,
                            attributes(Mode::BINARY_SELECT, Type::FLOAT));
  }

  /// Of softclamp: grad - grad tanh^2. The other stages add or hide.
  Tensor backward(const Graph& graph, const Tensor& grad) {
    if (call_.softclamp <= 0) return grad;
    const auto square = pointwise(graph, Mode::MUL, tanh_, tanh_);
    return pointwise(graph, Mode::SUB, grad, pointwise(graph, Mode::MUL, grad, square));
  }

 private:
  static fe::graph::Pointwise_attributes attributes(Mode mode, Type type) {
    return fe::graph::Pointwise_attributes().set_mode(mode).set_compute_data_type(type);
  }
  static Tensor pointwise(const Graph& graph, Mode mode, const Tensor& a) {
    return graph->pointwise(a, attributes(mode, Type::FLOAT));
  }
  static Tensor pointwise(const Graph& graph, Mode mode, const Tensor& a, const Tensor& b,
                          Type type = Type::FLOAT) {
    auto result = graph->pointwise(a, b, attributes(mode, type));
    if (type != Type::FLOAT) result->set_data_type(type);
    return result;
  }
  static Tensor index(const Graph& graph, const Tensor& scores, int64_t axis) {
    auto result = graph->pointwise(scores, attributes(Mode::GEN_INDEX, Type::INT32).set_axis(axis));
    result->set_data_type(Type::INT32);
    return result;
  }
  /// The position of the query: the last one stands at the last key.
  Tensor row(const Graph& graph, const Tensor& scores) const {
    const auto place = index(graph, scores, 2);
    const auto shift = call_.keys - call_.queries;
    if (shift == 0) return place;
    const auto by = std::make_shared<fe::graph::Tensor_attributes>(static_cast<int32_t>(shift));
    return pointwise(graph, Mode::ADD, place, by, Type::INT32);
  }
  static Tensor column(const Graph& graph, const Tensor& scores) { return index(graph, scores, 3); }
  /// Position of the key minus that of the query.
  Tensor offset(const Graph& graph, const Tensor& scores) const {
    return pointwise(graph, Mode::SUB, column(graph, scores), row(graph, scores), Type::INT32);
  }
  static Tensor number(float value) {
    return std::make_shared<fe::graph::Tensor_attributes>(value);
  }

  ScoredAttention call_;
  Tensor slopes_, tanh_;
};

/// What a graph is made for. Of the pointers it counts whether they are there.
std::vector<int64_t> key_of(const ScoredAttention& p, int8_t device) {
  std::vector<int64_t> key = {device,
                              p.backwards,
                              static_cast<int64_t>(p.element),
                              p.batch,
                              p.heads,
                              p.queries,
                              p.keys,
                              p.dim,
                              p.causal,
                              p.window,
                              p.slopes != nullptr,
                              p.sink != nullptr,
                              static_cast<int64_t>(p.scale * 1e9),
                              static_cast<int64_t>(p.softclamp * 1e9)};
  for (const auto* t : {&p.q, &p.k, &p.v, &p.out, &p.out_grad, &p.q_grad, &p.k_grad, &p.v_grad})
    key.insert(key.end(), t->strides, t->strides + 3);
  return key;
}

struct Plan {
  Graph graph;
  int64_t workspace = 0;
  std::string reason;  ///< empty: it runs
};

class PlanMaker {
 public:
  explicit PlanMaker(const ScoredAttention& call) : p_(call) {}

  Plan make(cudnnHandle_t handle) {
    graph_ = std::make_shared<fe::graph::Graph>();
    graph_->set_io_data_type(io_type())
        .set_intermediate_data_type(Type::FLOAT)
        .set_compute_data_type(Type::FLOAT);
    const auto q = input(kQ, p_.queries, p_.q), k = input(kK, p_.keys, p_.k),
               v = input(kV, p_.keys, p_.v);
    if (p_.slopes != nullptr) slopes_ = of_heads(kSlopes);
    const auto stages = std::make_shared<ScoreStages>(p_, slopes_);
    p_.backwards ? add_backward(q, k, v, stages) : add_forward(q, k, v, stages);
    Plan plan{graph_, 0, {}};
    auto built = graph_->build(handle, {fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK},
                               fe::BuildPlanPolicy_t::HEURISTICS_CHOICE, false);
    if (built.is_bad()) {
      plan.reason = "cuDNN: " + built.get_message();
    } else {
      plan.workspace = graph_->get_workspace_size();
    }
    return plan;
  }

 private:
  Type io_type() const { return p_.element == Element::float16 ? Type::HALF : Type::BFLOAT16; }
  std::vector<int64_t> sizes(int64_t length) const { return {p_.batch, p_.heads, length, p_.dim}; }
  static std::vector<int64_t> strides(const HeadsOfTokens& t) {
    return {t.strides[0], t.strides[1], t.strides[2], 1};
  }
  Tensor input(Uid uid, int64_t length, const HeadsOfTokens& memory) {
    return graph_->tensor(fe::graph::Tensor_attributes()
                              .set_uid(uid)
                              .set_dim(sizes(length))
                              .set_stride(strides(memory))
                              .set_data_type(io_type()));
  }
  Tensor of_heads(Uid uid) {
    return graph_->tensor(fe::graph::Tensor_attributes()
                              .set_uid(uid)
                              .set_dim({1, p_.heads, 1, 1})
                              .set_stride({p_.heads, 1, 1, 1})
                              .set_data_type(Type::FLOAT));
  }
  void set_log_sum_exp(const Tensor& t) const {
    t->set_uid(kLogSumExp)
        .set_dim({p_.batch, p_.heads, p_.queries, 1})
        .set_stride({p_.heads * p_.queries, p_.queries, 1, 1})
        .set_data_type(Type::FLOAT);
  }
  void set_output(const Tensor& t, Uid uid, int64_t length, const HeadsOfTokens& memory) const {
    t->set_output(true)
        .set_uid(uid)
        .set_dim(sizes(length))
        .set_stride(strides(memory))
        .set_data_type(io_type());
  }
  /// Its own causal mask begins at the first key, so of fewer queries than keys ours hides.
  bool modifies_scores() const {
    return p_.slopes != nullptr || p_.softclamp > 0 || (p_.causal && p_.queries != p_.keys);
  }

  template <class Attributes>
  void set_scores(Attributes& options, const std::shared_ptr<ScoreStages>& stages) {
    options.set_attn_scale(p_.scale);
    if (modifies_scores()) {
      options.set_score_mod(
          [stages](Graph graph, Tensor scores) { return stages->forward(graph, scores); });
    } else if (p_.causal) {
      options.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT);
      options.set_diagonal_band_right_bound(0);
      if (p_.window >= 0) options.set_diagonal_band_left_bound(static_cast<int>(p_.window) + 1);
    }
  }

  void add_forward(const Tensor& q, const Tensor& k, const Tensor& v,
                   const std::shared_ptr<ScoreStages>& stages) {
    auto options = fe::graph::SDPA_attributes().set_generate_stats(true);
    set_scores(options, stages);
    if (p_.sink != nullptr) options.set_sink_token(of_heads(kSink));
    const auto [out, log_sum_exp] = graph_->sdpa(q, k, v, options);
    set_output(out, kOut, p_.queries, p_.out);
    log_sum_exp->set_output(true);
    set_log_sum_exp(log_sum_exp);
  }

  /// Without the sink: it is in the log-sum-exp, from which the weights are made again.
  void add_backward(const Tensor& q, const Tensor& k, const Tensor& v,
                    const std::shared_ptr<ScoreStages>& stages) {
    fe::graph::SDPA_backward_attributes options;
    set_scores(options, stages);
    if (p_.softclamp > 0) {
      options.set_score_mod_bprop(
          [stages](Graph graph, Tensor grad) { return stages->backward(graph, grad); });
    }
    const auto out = input(kOut, p_.queries, p_.out),
               grad = input(kOutGrad, p_.queries, p_.out_grad);
    const auto log_sum_exp = graph_->tensor(fe::graph::Tensor_attributes());
    set_log_sum_exp(log_sum_exp);
    const auto [q_grad, k_grad, v_grad] =
        graph_->sdpa_backward(q, k, v, out, grad, log_sum_exp, options);
    set_output(q_grad, kQGrad, p_.queries, p_.q_grad);
    set_output(k_grad, kKGrad, p_.keys, p_.k_grad);
    set_output(v_grad, kVGrad, p_.keys, p_.v_grad);
  }

  ScoredAttention p_;
  Graph graph_;
  Tensor slopes_;
};

/// The plans and handles of this process.
class Plans {
 public:
  static Plans& all() {
    static auto* const plans = new Plans();  // at exit the driver is gone before it
    return *plans;
  }

  const Plan& find(const ScoredAttention& call, int8_t device) {
    const auto key = key_of(call, device);
    const std::lock_guard lock(mutex_);
    if (const auto found = plans_.find(key); found != plans_.end()) return found->second;
    return plans_.emplace(key, make(call, device)).first->second;
  }

  cudnnHandle_t handle(int8_t device) {
    const std::lock_guard lock(mutex_);
    return handle_of(device);
  }

 private:
  Plan make(const ScoredAttention& call, int8_t device) {
    if (cudnn_library() == nullptr) return {nullptr, 0, "LibTorch has loaded no cuDNN 9"};
    fe::cudnn_dlhandle = cudnn_library();
    try {
      const c10::cuda::CUDAGuard guard(device);
      return PlanMaker(call).make(handle_of(device));
    } catch (const std::exception&) {
      return {nullptr, 0, "cuDNN's frontend does not take the graph"};
    }
  }

  cudnnHandle_t handle_of(int8_t device) {
    auto& handle = handles_[device];
    if (handle == nullptr)
      TORCH_CHECK(fe::detail::create_handle(&handle) == CUDNN_STATUS_SUCCESS,
                  "cuDNN gives no handle");
    return handle;
  }

  std::mutex mutex_;
  std::map<std::vector<int64_t>, Plan> plans_;
  std::map<int8_t, cudnnHandle_t> handles_;
};

}  // namespace

int64_t scored_attention_workspace(const ScoredAttention& params, int8_t device,
                                   std::string& reason) {
  const auto& plan = Plans::all().find(params, device);
  reason = plan.reason;
  return reason.empty() ? plan.workspace : -1;
}

void scored_attention(const ScoredAttention& p, int8_t device) {
  const auto& plan = Plans::all().find(p, device);
  TORCH_CHECK(plan.reason.empty(), plan.reason);
  const c10::cuda::CUDAGuard guard(device);
  const auto handle = Plans::all().handle(device);
  TORCH_CHECK(fe::detail::set_stream(handle, c10::cuda::getCurrentCUDAStream(device)) ==
                  CUDNN_STATUS_SUCCESS,
              "cuDNN takes no stream");
  std::unordered_map<int64_t, void*> memory = {{kQ, p.q.data},
                                               {kK, p.k.data},
                                               {kV, p.v.data},
                                               {kOut, p.out.data},
                                               {kLogSumExp, p.log_sum_exp}};
  if (p.slopes != nullptr) memory[kSlopes] = const_cast<float*>(p.slopes);
  if (p.backwards) {
    memory[kOutGrad] = p.out_grad.data;
    memory[kQGrad] = p.q_grad.data;
    memory[kKGrad] = p.k_grad.data;
    memory[kVGrad] = p.v_grad.data;
  } else if (p.sink != nullptr) {
    memory[kSink] = const_cast<float*>(p.sink);
  }
  auto status = plan.graph->execute(handle, memory, p.workspace);
  TORCH_CHECK(status.is_good(), "cuDNN: ", status.get_message());
}

}  // namespace x_transformers::kernels::cuda

#else

namespace x_transformers::kernels::cuda {

int64_t scored_attention_workspace(const ScoredAttention&, int8_t, std::string& reason) {
  reason = "built without cuDNN's frontend (tools/install_deps.sh --cuda brings it)";
  return -1;
}

void scored_attention(const ScoredAttention&, int8_t) {
  TORCH_CHECK(false, "built without cuDNN's frontend");
}

}  // namespace x_transformers::kernels::cuda

#endif
