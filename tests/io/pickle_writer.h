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
/// A tensor that torch has flagged: `flag` is conj or neg.
inline std::string flagged_tensor(const std::string& storage,
                                  const std::vector<std::int64_t>& sizes,
                                  const std::vector<std::int64_t>& strides,
                                  const std::string& flag) {
  return call(global("torch._utils", "_rebuild_tensor_v2"),
              {storage, integer(0), integers(sizes), integers(strides), "\x89", "N",
               dict({{text(flag), "\x88"}})});
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

/// The bytes of a file of torch.save before 1.6 that holds the pickled `value` and storages of
/// elements of `item` bytes by key.
inline std::string stream_of(const std::string& value,
                             const std::map<std::string, std::string>& storages, std::size_t item) {
  using namespace pickled;
  std::string bytes = std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.");
  bytes += pickle(integer(1001)) + pickle(dict({{text("little_endian"), "\x88"}})) + pickle(value);
  std::string keys = "](";
  for (const auto& [key, content] : storages) keys += text(key);
  bytes += pickle(keys + "e");
  for (const auto& [key, content] : storages)
    bytes += bytes_of(static_cast<std::int64_t>(content.size() / item)) + content;
  return bytes;
}

/// The bytes of a tar archive.
inline std::string tar_of(const std::map<std::string, std::string>& members) {
  constexpr std::size_t kBlock = 512;
  std::string bytes;
  for (const auto& [name, content] : members) {
    std::string header = name;
    header.resize(kBlock);
    header.replace(100, 8, fmt::format("{:07o}", 0644) + std::string(1, '\0'));
    header.replace(124, 12, fmt::format("{:011o}", content.size()) + std::string(1, '\0'));
    header[156] = '0';
    header.replace(257, 8, std::string("ustar\0", 6) + "00");
    header.replace(148, 8, 8, ' ');
    unsigned sum = 0;
    for (const char c : header) sum += static_cast<unsigned char>(c);
    header.replace(148, 8, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
    bytes += header + content;
    bytes.resize((bytes.size() + kBlock - 1) / kBlock * kBlock);
  }
  return bytes + std::string(2 * kBlock, '\0');
}

/// The members of a file of torch.save before 0.1.10: a storage of four floats (4 in all), a part
/// of it from the third, and the tensor x (named 7) of sizes {2} over the part.
inline std::map<std::string, std::string> tar_members() {
  using namespace pickled;
  std::string floats;
  for (const float value : {1.0F, 2.0F, 3.0F, 4.0F}) floats += bytes_of(value);
  const auto three = [](const std::string& a, const std::string& b, const std::string& c) {
    return pickle(tuple({a, b, c}));
  };
  const std::string storage_type = global("torch", "FloatStorage");
  return {
      {"sys_info", pickle("}")},
      {"storages",
       pickle(integer(1)) + three(integer(5), text("cpu"), storage_type) +
           bytes_of(std::int64_t{4}) + floats +
           pickle("](" + tuple({integer(6), integer(5), integer(2), integer(2)}) + "e")},
      {"tensors", pickle(integer(1)) +
                      three(integer(7), integer(6), global("torch", "FloatTensor")) +
                      bytes_of(std::int64_t{1}) + bytes_of(std::int64_t{2}) +
                      bytes_of(std::int64_t{1}) + bytes_of(std::int64_t{0})},
      {"pickle", pickle(dict({{text("x"), text("7") + "Q"}}))},
  };
}

}  // namespace x_transformers
