#include "x_transformers/runs/tensorboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <variant>
#include <vector>

#include "temporary_folder.h"
#include "x_transformers/core/crc.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

/// A protobuf message: field number to value, integers and fixed ones as bits.
using Fields = std::map<int, std::variant<uint64_t, std::string>>;

uint64_t take_fixed(std::string_view& bytes, size_t size) {
  uint64_t value = 0;
  std::memcpy(&value, bytes.substr(0, size).data(), size);
  bytes.remove_prefix(size);
  return value;
}

uint64_t take_varint(std::string_view& bytes) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.at(0));
    bytes.remove_prefix(1);
    value |= uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) return value;
  }
}

Fields parse(std::string_view bytes) {
  Fields fields;
  while (!bytes.empty()) {
    const auto key = take_varint(bytes);
    auto& field = fields[static_cast<int>(key >> 3)];
    switch (key & 7) {
      case 0:
        field = take_varint(bytes);
        break;
      case 1:
        field = take_fixed(bytes, 8);
        break;
      case 5:
        field = take_fixed(bytes, 4);
        break;
      case 2: {
        const auto size = take_varint(bytes);
        field = std::string(bytes.substr(0, size));
        bytes.remove_prefix(size);
        break;
      }
      default:
        ADD_FAILURE() << "wire type " << (key & 7);
        return fields;
    }
  }
  return fields;
}

/// The checksum of a record as TensorFlow's format describes it.
uint32_t record_checksum(std::string_view bytes) {
  const uint32_t crc = crc_of<kCrc32c>(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

/// Takes the records of an event file apart and checks their sums.
std::vector<Fields> read_events(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  const auto content = text.str();
  std::string_view rest = content;
  std::vector<Fields> events;
  while (!rest.empty()) {
    const auto header = rest.substr(0, 8);
    const auto size = take_fixed(rest, 8);
    EXPECT_EQ(take_fixed(rest, 4), record_checksum(header));
    const auto event = rest.substr(0, size);
    rest.remove_prefix(size);
    EXPECT_EQ(take_fixed(rest, 4), record_checksum(event));
    events.push_back(parse(event));
  }
  return events;
}

const std::string& bytes_of(const Fields& fields, int number) {
  return std::get<std::string>(fields.at(number));
}
uint64_t bits_of(const Fields& fields, int number) { return std::get<uint64_t>(fields.at(number)); }

TEST(EventWriter, StartsWithTheVersionOfTheFormat) {
  const auto folder = temporary_folder() + "tensorboard_version/nested";
  const EventWriter writer(folder);
  EXPECT_EQ(std::filesystem::path(writer.path()).parent_path(), folder);
  EXPECT_THAT(std::filesystem::path(writer.path()).filename().string(),
              testing::StartsWith("events.out.tfevents."));
  const auto events = read_events(writer.path());
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(bytes_of(events[0], 3), "brain.Event:2");
  const double written = std::bit_cast<double>(bits_of(events[0], 1));
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_NEAR(written, now, 3600);
}

TEST(EventWriter, WritesScalarsAtOnce) {
  EventWriter writer(temporary_folder() + "tensorboard_scalars");
  writer.add_scalar("train/loss", 2.5, 0);
  writer.add_scalar("lr", 3e-4, 300);
  const auto events = read_events(writer.path());
  ASSERT_EQ(events.size(), 3u);
  const auto first = parse(bytes_of(parse(bytes_of(events[1], 5)), 1));
  EXPECT_EQ(bits_of(events[1], 2), 0u);
  EXPECT_EQ(bytes_of(first, 1), "train/loss");
  EXPECT_EQ(std::bit_cast<float>(static_cast<uint32_t>(bits_of(first, 2))), 2.5f);
  const auto second = parse(bytes_of(parse(bytes_of(events[2], 5)), 1));
  EXPECT_EQ(bits_of(events[2], 2), 300u);
  EXPECT_EQ(std::bit_cast<float>(static_cast<uint32_t>(bits_of(second, 2))), 3e-4f);
}

TEST(EventWriter, AResumedRunStartsASession) {
  const auto folder = temporary_folder() + "tensorboard_resumed";
  const EventWriter first(folder), second(folder, 200);
  EXPECT_NE(first.path(), second.path());
  const auto events = read_events(second.path());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(bits_of(events[1], 2), 201u);
  EXPECT_EQ(bits_of(parse(bytes_of(events[1], 7)), 1), 1u);  // SessionLog.START
}

TEST(EventWriter, FailuresNameTheFolder) {
  EXPECT_THAT([] { EventWriter("/dev/null/events"); },
              ThrowsMessage<RunError>(HasSubstr("/dev/null/events")));
}

}  // namespace
}  // namespace x_transformers
