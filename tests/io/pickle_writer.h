// Pickles and archives as torch.save writes them, sound or not.
#pragma once

#include <caffe2/serialize/inline_container.h>
#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace x_transformers {

/// Pieces of a pickle of protocol 2: each function gives the bytes that put one value on the stack.
namespace pickled {

template <class T>
std::string bytes_of(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}
inline std::string text(const std::string& value) {
  return std::string("X").append(bytes_of(static_cast<std::uint32_t>(value.size()))).append(value);
}
inline std::string integer(std::int64_t value) { return std::string("\x8a\x08") + bytes_of(value); }
inline std::string global(const std::string& module, const std::string& name) {
  return fmt::format("c{}\n{}\n", module, name);
}
inline std::string tuple(const std::vector<std::string>& items) {
  std::string pickle = "(";
  for (const auto& item : items) pickle += item;
  return pickle + "t";
}
inline std::string integers(const std::vector<std::int64_t>& values) {
  std::vector<std::string> items;
  for (const auto value : values) items.push_back(integer(value));
  return tuple(items);
}
inline std::string dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string pickle = "}(";
  for (const auto& [key, value] : items) pickle += key + value;
  return pickle + "u";
}
inline std::string call(const std::string& function, const std::vector<std::string>& arguments) {
  return function + tuple(arguments) + "R";
}
inline std::string storage(const std::string& kind, const std::string& key, std::int64_t size) {
  return tuple({text("storage"), global("torch", kind), text(key), text("cuda:0"), integer(size)}) +
         "Q";
}
inline std::string tensor(const std::string& storage, std::int64_t offset,
                          const std::vector<std::int64_t>& sizes,
                          const std::vector<std::int64_t>& strides) {
  return call(global("torch._utils", "_rebuild_tensor_v2"),
              {storage, integer(offset), integers(sizes), integers(strides), "\x89", "N"});
}
/// The whole pickle of one value.
inline std::string pickle(const std::string& value) {
  return std::string("\x80\x02").append(value).append(".");
}

}  // namespace pickled

/// The bytes of a zip archive of torch.save that holds `records`.
inline std::string archive_of(const std::map<std::string, std::string>& records) {
  std::string bytes;
  caffe2::serialize::PyTorchStreamWriter writer([&bytes](const void* data, std::size_t size) {
    bytes.append(static_cast<const char*>(data), size);
    return size;
  });
  for (const auto& [name, content] : records)
    writer.writeRecord(name, content.data(), content.size());
  writer.writeEndOfFile();
  return bytes;
}

}  // namespace x_transformers
