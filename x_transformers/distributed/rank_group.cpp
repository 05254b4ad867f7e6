#include "x_transformers/distributed/rank_group.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <future>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/distributed/agent_store.h"
#include "x_transformers/distributed/joined_device.h"
#include "x_transformers/distributed/transport.h"

namespace x_transformers {
namespace {

/// For all processes to come.
constexpr double kJoinSeconds = 120;
/// What is summed up at a time, and so held twice.
constexpr int64_t kNumbersAtOnce = int64_t{1} << 22;

SumType sum_type_of(const at::Tensor& tensor) {
  if (tensor.scalar_type() == at::kDouble) return SumType::float64;
  return tensor.is_floating_point() ? SumType::float32 : SumType::int64;
}

at::ScalarType scalar_type_of(SumType type) {
  switch (type) {
    case SumType::float32:
      return at::kFloat;
    case SumType::float64:
      return at::kDouble;
    case SumType::int64:
      break;
  }
  return at::kLong;
}

Meeting meet_as(const RankEnvironment& environment, int64_t port) {
  const auto deadline = in_seconds(kJoinSeconds);
  const auto [rank, world] = environment.place;
  auto own = own_rank_info(rank, port);
  const auto key = "x_transformers/" + environment.attempt;
  if (rank == 0) {
    Socket listener;
    if (environment.listener) {
      listener = Socket(*environment.listener);
    } else {
      listener =
          listen_at(ListenOn::every_address, environment.has_agent_store ? 0 : environment.port);
    }
    if (environment.has_agent_store) {
      auto met_at = own;
      met_at.port = port_of(listener);
      write_to_store(environment.address, environment.port, key, rank_info_text(met_at));
    }
    return meet_others(listener, own, world, environment.key, deadline);
  }
  Socket connection;
  if (environment.has_agent_store) {
    const auto first = read_from_store(environment.address, environment.port, key, kJoinSeconds);
    connection = reach(parse_rank_info(first), deadline);
  } else {
    connection = connect_to({environment.address}, environment.port, deadline);
  }
  return meet_first(std::move(connection), own, world, environment.key, deadline);
}

}  // namespace

/// The thread that calls the transport, with what it has to do in order.
class RankGroup::Thread {
 public:
  using Work = std::function<void(Transport&)>;

  Thread() : state_(std::make_shared<State>()) {
    thread_ = std::thread([state = state_] { run(*state); });
  }

  /// With `is_stuck` the thread, which may wait for ever, is left alone.
  void end(bool is_stuck) {
    {
      const std::lock_guard lock(state_->mutex);
      state_->ends = true;
    }
    state_->changed.notify_all();
    if (!thread_.joinable()) return;
    if (is_stuck) {
      thread_.detach();
    } else {
      thread_.join();
    }
  }

  /// Has the thread make the transport that it calls from then on.
  std::future<void> make(std::function<std::unique_ptr<Transport>()> made) {
    return add([state = state_.get(), made = std::move(made)] { state->transport = made(); });
  }

  std::future<void> start(Work work) {
    return add([state = state_.get(), work = std::move(work)] { work(*state->transport); });
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::packaged_task<void()>> tasks;
    bool ends = false;
    std::unique_ptr<Transport> transport;  // of the thread alone
  };

  std::future<void> add(std::function<void()> work) {
    std::packaged_task<void()> task(std::move(work));
    auto future = task.get_future();
    {
      const std::lock_guard lock(state_->mutex);
      state_->tasks.push_back(std::move(task));
    }
    state_->changed.notify_all();
    return future;
  }

  static void run(State& state) {
    std::unique_lock lock(state.mutex);
    for (;;) {
      state.changed.wait(lock, [&] { return state.ends || !state.tasks.empty(); });
      if (state.tasks.empty()) break;
      auto task = std::move(state.tasks.front());
      state.tasks.pop_front();
      lock.unlock();
      task();
      lock.lock();
    }
    state.transport.reset();
  }

  std::shared_ptr<State> state_;
  std::thread thread_;
};

/// Tensors that are summed up as one row of numbers.
struct RankGroup::Row {
  SumType type = SumType::float32;
  std::vector<at::Tensor> tensors = {};
  int64_t count = 0;
  at::Tensor numbers = {};  ///< flat

  bool is_tensor() const {
    return tensors.size() == 1 && tensors[0].is_contiguous() &&
           tensors[0].scalar_type() == scalar_type_of(type);
  }

  void pack() {
    if (is_tensor()) {
      numbers = tensors[0];
      return;
    }
    numbers = at::empty({count}, scalar_type_of(type));
    int64_t first = 0;
    for (const auto& tensor : tensors) {
      numbers.narrow(0, first, tensor.numel()).view(tensor.sizes()).copy_(tensor);
      first += tensor.numel();
    }
  }

  void unpack() {
    if (is_tensor()) return;
    int64_t first = 0;
    for (auto& tensor : tensors) {
      tensor.copy_(numbers.narrow(0, first, tensor.numel()).view(tensor.sizes()));
      first += tensor.numel();
    }
    numbers.reset();
  }

  /// `tensors` in rows, the same on every rank.
  static std::vector<Row> of(const std::vector<at::Tensor>& tensors);
};

std::vector<RankGroup::Row> RankGroup::Row::of(const std::vector<at::Tensor>& tensors) {
  std::vector<Row> rows;
  for (const auto type : {SumType::float32, SumType::float64, SumType::int64}) {
    bool is_open = false;
    for (const auto& tensor : tensors) {
      TORCH_CHECK(tensor.is_cpu(), "[RankGroup] expected tensors on the CPU, got ",
                  tensor.device().str());
      if (tensor.numel() == 0 || sum_type_of(tensor) != type) continue;
      if (!is_open || rows.back().count + tensor.numel() > kNumbersAtOnce)
        rows.push_back({.type = type});
      is_open = true;
      rows.back().tensors.push_back(tensor.detach());
      rows.back().count += tensor.numel();
    }
  }
  return rows;
}

/// Tensors of one owner that go to the others as one row of bytes.
struct RankGroup::Parcel {
  int64_t owner = 0;
  std::vector<at::Tensor> tensors = {};
  int64_t size = 0;
  at::Tensor bytes = {};

  void pack(bool is_own) {
    bytes = at::empty({size}, at::kByte);
    if (is_own) each([](const at::Tensor& tensor, at::Tensor part) { part.copy_(tensor); });
  }

  void unpack(bool is_own) {
    if (!is_own) each([](at::Tensor tensor, const at::Tensor& part) { tensor.copy_(part); });
    bytes.reset();
  }

  /// `tensors` in parcels, the same on every rank.
  static std::vector<Parcel> of(const std::vector<at::Tensor>& tensors,
                                const std::vector<int64_t>& owners);

 private:
  /// Calls back with each tensor and its place in the row.
  template <class Callback>
  void each(Callback callback) const {
    auto* data = bytes.mutable_data_ptr<uint8_t>();
    for (const auto& tensor : tensors) {
      callback(tensor, at::from_blob(data, tensor.sizes(), tensor.options()));
      data += room_of(tensor);
    }
  }

  /// Each begins where numbers of any type may stand.
  static int64_t room_of(const at::Tensor& tensor) {
    constexpr int64_t kAlignment = 16;
    const auto count = static_cast<int64_t>(tensor.nbytes());
    return (count + kAlignment - 1) / kAlignment * kAlignment;
  }
};

std::vector<RankGroup::Parcel> RankGroup::Parcel::of(const std::vector<at::Tensor>& tensors,
                                                     const std::vector<int64_t>& owners) {
  constexpr int64_t kBytesAtOnce = kNumbersAtOnce * 4;
  std::vector<Parcel> parcels;
  std::map<int64_t, size_t> open;  // of each owner
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto count = room_of(tensors[i]);
    if (count == 0) continue;
    const auto found = open.find(owners[i]);
    if (found == open.end() || parcels[found->second].size + count > kBytesAtOnce) {
      open[owners[i]] = parcels.size();
      parcels.push_back({.owner = owners[i]});
    }
    auto& parcel = parcels[open[owners[i]]];
    parcel.tensors.push_back(tensors[i].detach());
    parcel.size += count;
  }
  return parcels;
}

class RankGroup::Impl {
 public:
  Impl(const RankEnvironment& environment, MonitorOptions options) {
    try {
      join(environment, std::move(options));
    } catch (...) {
      thread_.end(environment.launcher == RankLauncher::mpi);
      throw;
    }
  }

  ~Impl() { thread_.end(may_be_stuck()); }

  const Meeting& meeting() const { return monitor_->meeting(); }

  void join_devices(const DeviceJoining& joining, const c10::Device& device,
                    const OptionPath& option) {
    const auto place = meeting().place;
    require_own_devices(of_each_rank(joining.identity(device)), meeting(), option);
    std::string key(static_cast<size_t>(DeviceJoining::kKeyBytes), '\0');
    if (place.is_first()) key = joining.make_key();
    key = of_each_rank(key).front();
    // The others may never come: the thread waits for them, and this one for it or for the news.
    may_wait_for_devices_ = true;
    const auto sums = std::make_shared<std::unique_ptr<DeviceSums>>();
    auto joined = thread_.start(
        [=, join = joining.join](Transport&) { sums->reset(join(device, place, key)); });
    try {
      wait(joined);
    } catch (const c10::Error& error) {
      monitor_->wait_for_failure(kReasonSeconds);
      throw RunError(caused(at(option), "GPUs cannot be joined", cause_of(error)));
    }
    device_.emplace(std::move(*sums), device, *monitor_);
  }

  StartedSum start_sum(const std::vector<at::Tensor>& tensors) {
    if (are_joined(tensors)) return device_->start_sum(tensors);
    return start_sum_on_host(tensors);
  }

  void sum(const std::vector<at::Tensor>& tensors) {
    if (are_joined(tensors)) {
      device_->start_sum(tensors)();
    } else {
      sum_on_host(tensors);
    }
  }

  StartedSum start_giving(const std::vector<at::Tensor>& tensors,
                          const std::vector<int64_t>& owners) {
    TORCH_CHECK(tensors.size() == owners.size(), "[RankGroup] expected an owner of each tensor");
    if (are_joined(tensors)) return device_->start_giving(tensors, owners);
    const at::NoGradGuard no_grad;
    struct Begun {
      Parcel parcel;
      std::future<void> end;
    };
    const auto begun = std::make_shared<std::deque<Begun>>();
    for (auto& parcel : Parcel::of(tensors, owners)) {
      parcel.pack(is_own(parcel));
      auto end = thread_.start([parcel](Transport& transport) {
        transport.give(parcel.bytes.mutable_data_ptr(), parcel.size, parcel.owner);
      });
      begun->push_back({std::move(parcel), std::move(end)});
    }
    return [this, begun] {
      const at::NoGradGuard no_grad_at_the_end;
      for (auto& each : *begun) {
        wait(each.end);
        each.parcel.unpack(is_own(each.parcel));
      }
    };
  }

  int64_t most(int64_t own) {
    if (device_) device_->check();
    const auto [rank, world] = meeting().place;
    const auto numbers = at::zeros({world}, at::kLong);  // each fills its own
    numbers[rank] = own;
    sum_on_host({numbers});
    return numbers.max().item<int64_t>();
  }

  void leave() {
    most(0);  // all are here
    if (device_) {
      auto finished_device = thread_.start([this](Transport&) { device_->finish(); });
      wait(finished_device);
    }
    auto finished = thread_.start([](Transport& transport) { transport.finish(); });
    wait(finished);
    has_left_ = true;
    monitor_->leave();
  }

  bool report(const Notice& notice, bool is_input_error) {
    return monitor_->report(notice, is_input_error);
  }

  void check() const { monitor_->check(); }

  bool may_be_stuck() const { return (is_mpi_ || may_wait_for_devices_) && !has_left_; }

 private:
  bool is_own(const Parcel& parcel) const { return parcel.owner == meeting().place.rank; }

  bool are_joined(const std::vector<at::Tensor>& tensors) const {
    return device_ && !tensors.empty() && tensors.front().device() == device_->device();
  }

  StartedSum start_sum_on_host(const std::vector<at::Tensor>& tensors) {
    const at::NoGradGuard no_grad;
    struct Begun {
      Row row;
      std::future<void> end;
    };
    const auto begun = std::make_shared<std::deque<Begun>>();
    for (auto& row : Row::of(tensors)) {
      row.pack();
      auto end = thread_.start([numbers = row.numbers, type = row.type](Transport& transport) {
        transport.sum(numbers.mutable_data_ptr(), numbers.numel(), type);
      });
      begun->push_back({std::move(row), std::move(end)});
    }
    return [this, begun] {
      const at::NoGradGuard no_grad_at_the_end;
      for (auto& each : *begun) {
        wait(each.end);
        each.row.unpack();
      }
    };
  }

  void sum_on_host(const std::vector<at::Tensor>& tensors) {
    // One row is packed while the one before is summed up.
    std::optional<StartedSum> before;
    for (const auto& row : Row::of(tensors)) {
      auto started = start_sum_on_host(row.tensors);
      if (before) (*before)();
      before = std::move(started);
    }
    if (before) (*before)();
  }

  /// Bytes of each rank, as many of each.
  std::vector<std::string> of_each_rank(const std::string& own) {
    const auto [rank, world] = meeting().place;
    const auto count = static_cast<int64_t>(own.size());
    const auto rows = at::zeros({world, count}, at::kByte);  // each fills its own
    std::copy(own.begin(), own.end(), rows[rank].mutable_data_ptr<uint8_t>());
    sum_on_host({rows});
    std::vector<std::string> all;
    for (int64_t i = 0; i < world; ++i) {
      const auto* bytes = rows[i].const_data_ptr<uint8_t>();
      all.emplace_back(bytes, bytes + count);
    }
    return all;
  }

  void join(const RankEnvironment& environment, MonitorOptions options) {
    is_mpi_ = environment.launcher == RankLauncher::mpi;
    const auto deadline = in_seconds(kJoinSeconds);
    if (is_mpi_) {
      monitor_.emplace(meet_by_mpi(environment, deadline), std::move(options));
      auto checked = thread_.start([this](Transport& transport) { watch(transport); });
      return wait(checked);
    }
    const bool is_own = environment.launcher == RankLauncher::own;
    const Socket listener = listen_at(is_own ? ListenOn::this_host : ListenOn::every_address, 0);
    monitor_.emplace(meet_as(environment, port_of(listener)), std::move(options));
    auto made = thread_.make([this, &listener, deadline] {
      auto transport = make_socket_transport(meeting(), listener, deadline);
      watch(*transport);
      return transport;
    });
    made.get();
  }

  void watch(Transport& transport) {
    transport.set_check([this] { monitor_->check(); });
  }

  /// All MPI calls are of one thread, the first too.
  Meeting meet_by_mpi(const RankEnvironment& environment, Deadline deadline) {
    const auto place = environment.place;
    thread_
        .make([place] {
          auto transport = make_mpi_transport();
          const auto [rank, world] = transport->place();
          if (rank == place.rank && world == place.world) return transport;
          throw RunError(fmt::format(
              "MPI says rank {} of {}, its launcher rank {} of {}: they are of different "
              "MPIs; build with the MPI whose mpirun starts the processes",
              rank, world, place.rank, place.world));
        })
        .get();
    Socket listener;
    auto own = own_rank_info(place.rank, 0);
    if (place.is_first()) {
      listener = listen_at(ListenOn::every_address, 0);
      own.port = port_of(listener);
    }
    auto first = rank_info_text(own);
    thread_.start([&](Transport& transport) { transport.give_text(first); }).get();
    constexpr const char* kKey = "mpi";
    if (place.is_first()) return meet_others(listener, own, place.world, kKey, deadline);
    return meet_first(reach(parse_rank_info(first), deadline), own, place.world, kKey, deadline);
  }

  /// Waits for the end of a call, or of the run.
  void wait(std::future<void>& end) {
    struct Waiting {
      explicit Waiting(RankMonitor& given) : monitor(given) { monitor.set_waiting(true); }
      ~Waiting() { monitor.set_waiting(false); }
      RankMonitor& monitor;
    } const waiting(*monitor_);
    constexpr auto kCheck = std::chrono::milliseconds(100);
    while (end.wait_for(kCheck) != std::future_status::ready) monitor_->check();
    try {
      end.get();
    } catch (const OtherRankFailed&) {
      throw;
    } catch (const RunError&) {
      monitor_->wait_for_failure(kReasonSeconds);
      throw;
    }
  }

  Thread thread_;
  std::optional<RankMonitor> monitor_;
  std::optional<JoinedDevice> device_;
  bool is_mpi_ = false, has_left_ = false, may_wait_for_devices_ = false;
};

RankGroup::RankGroup(const RankEnvironment& environment, MonitorOptions options)
    : impl_(std::make_unique<Impl>(environment, std::move(options))) {}

RankGroup::~RankGroup() = default;

const WorldPlace& RankGroup::place() const { return impl_->meeting().place; }

std::vector<std::string> RankGroup::names() const {
  std::vector<std::string> names;
  for (const auto& rank : impl_->meeting().ranks) names.push_back(rank.name());
  return names;
}

void RankGroup::join_devices(const c10::Device& device, const OptionPath& option) {
  join_devices(nccl_joining(option), device, option);
}

void RankGroup::join_devices(const DeviceJoining& joining, const c10::Device& device,
                             const OptionPath& option) {
  impl_->join_devices(joining, device, option);
}

void RankGroup::sum(const std::vector<at::Tensor>& tensors) { impl_->sum(tensors); }

StartedSum RankGroup::start_sum(const std::vector<at::Tensor>& tensors) {
  return impl_->start_sum(tensors);
}

StartedSum RankGroup::start_giving(const std::vector<at::Tensor>& tensors,
                                   const std::vector<int64_t>& owners) {
  return impl_->start_giving(tensors, owners);
}

int64_t RankGroup::most(int64_t own) { return impl_->most(own); }

void RankGroup::check() const { impl_->check(); }

void RankGroup::leave() { impl_->leave(); }

bool RankGroup::report(const Notice& notice, bool is_input_error) {
  return impl_->report(notice, is_input_error);
}

bool RankGroup::may_be_stuck() const { return impl_->may_be_stuck(); }

}  // namespace x_transformers
