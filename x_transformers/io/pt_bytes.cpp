#include "x_transformers/io/pt_bytes.h"

#include <c10/core/CPUAllocator.h>
#include <fmt/format.h>

#include <cstring>
#include <utility>

namespace x_transformers {

const PickleValue& PtBytes::pickle(Unpickler::Persistent persistent) {
  Unpickler& pickle = pickles_.emplace_back(bytes_, std::move(persistent));
  const PickleValue& value = pickle.load();
  take(pickle.size());
  return value;
}

std::vector<int64_t> PtBytes::integers(std::size_t count) {
  std::vector<int64_t> values(count);
  const std::string_view bytes = take(count * sizeof(int64_t));
  if (count > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

std::string_view PtBytes::take(std::uint64_t bytes) {
  if (bytes > bytes_.size()) {
    throw BadPickle(
        fmt::format("truncated: {} bytes expected where {} are left", bytes, bytes_.size()));
  }
  const std::string_view taken = bytes_.substr(0, bytes);
  bytes_.remove_prefix(bytes);
  return taken;
}

c10::Storage PtBytes::storage(std::uint64_t item_bytes, std::uint64_t& elements) {
  const int64_t count = integers(1).front();
  if (count < 0 || static_cast<std::uint64_t>(count) > bytes_.size() / item_bytes) {
    throw BadPickle(fmt::format("truncated: a storage of {} elements of {} bytes where {} are left",
                                count, item_bytes, bytes_.size()));
  }
  elements = static_cast<std::uint64_t>(count);
  const std::string_view bytes = take(elements * item_bytes);
  const auto* data = bytes.data();
  at::DataPtr memory;
  if (reinterpret_cast<std::uintptr_t>(data) % item_bytes != 0) {
    memory = c10::GetCPUAllocator()->allocate(bytes.size());
    if (!bytes.empty()) std::memcpy(memory.mutable_get(), data, bytes.size());
  } else {
    using Owner = std::shared_ptr<MappedFile>;
    // The mapping is private: its memory may be written.
    memory = at::DataPtr(
        const_cast<char*>(data), new Owner(file_),
        [](void* owner) { delete static_cast<Owner*>(owner); }, at::Device(at::kCPU));
  }
  return {c10::Storage::use_byte_size_t(), bytes.size(), std::move(memory),
          /*allocator=*/nullptr, /*resizable=*/false};
}

std::string_view bytes_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.data()), file.size()};
}

}  // namespace x_transformers
