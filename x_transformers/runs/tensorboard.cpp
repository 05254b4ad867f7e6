#include "x_transformers/runs/tensorboard.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/crc.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

/// The checksum as records hold it: rotated and shifted, so that sums over sums stay useful.
uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc_of<kCrc32c>(bytes), 15) + 0xA282EAD8u;
}

/// A protobuf message, field by field.
class Message {
 public:
  void add_varint(int field, uint64_t value) {
    key(field, 0);
    varint(value);
  }
  void add_double(int field, double value) {
    key(field, 1);
    fixed(std::bit_cast<uint64_t>(value), 8);
  }
  void add_bytes(int field, std::string_view value) {
    key(field, 2);
    varint(value.size());
    bytes_ += value;
  }
  void add_float(int field, float value) {
    key(field, 5);
    fixed(std::bit_cast<uint32_t>(value), 4);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void key(int field, int wire_type) { varint(static_cast<uint64_t>(field << 3 | wire_type)); }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  void fixed(uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes_ += static_cast<char>(value >> (8 * i));
  }

  std::string bytes_;
};

std::string little_endian(uint64_t value, int size) {
  std::string bytes;
  for (int i = 0; i < size; ++i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

// Field numbers of tensorflow's Event, Summary, Summary.Value and SessionLog messages.
constexpr int kEventWallTime = 1, kEventStep = 2, kEventFileVersion = 3, kEventSummary = 5,
              kEventSessionLog = 7;
constexpr int kSummaryValue = 1, kValueTag = 1, kValueSimpleValue = 2;
constexpr int kSessionLogStatus = 1, kSessionStart = 1;

Message new_event() {
  Message event;
  event.add_double(
      kEventWallTime,
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count());
  return event;
}

std::string file_name() {
  static std::atomic<int> count{0};
  char host[256] = {};
  if (::gethostname(host, sizeof host - 1) != 0 || host[0] == '\0') std::strcpy(host, "localhost");
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(
      std::chrono::system_clock::now().time_since_epoch());
  return fmt::format("events.out.tfevents.{:010d}.{}.{}.{}", seconds.count(), host, ::getpid(),
                     count++);
}

/// The path of a new event file; makes `folder`.
std::string new_file(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw RunError(caused(at(folder + ":"), "cannot make the folder", cause_of(error)));
  return (std::filesystem::path(folder) / file_name()).string();
}

}  // namespace

EventWriter::EventWriter(const std::string& folder, std::optional<int64_t> resumed_step)
    : file_(new_file(folder)) {
  auto version = new_event();
  version.add_bytes(kEventFileVersion, "brain.Event:2");
  write_event(version.bytes());
  if (resumed_step) {
    // The start of a session makes readers drop what they hold from this step on.
    Message session;
    session.add_varint(kSessionLogStatus, kSessionStart);
    auto start = new_event();
    start.add_varint(kEventStep, static_cast<uint64_t>(*resumed_step + 1));
    start.add_bytes(kEventSessionLog, session.bytes());
    write_event(start.bytes());
  }
}

void EventWriter::add_scalar(std::string_view tag, double value, int64_t step) {
  Message scalar;
  scalar.add_bytes(kValueTag, tag);
  scalar.add_float(kValueSimpleValue, static_cast<float>(value));
  Message summary;
  summary.add_bytes(kSummaryValue, scalar.bytes());
  auto event = new_event();
  event.add_varint(kEventStep, static_cast<uint64_t>(step));
  event.add_bytes(kEventSummary, summary.bytes());
  write_event(event.bytes());
}

void EventWriter::write_event(const std::string& event) {
  // A record: length, its checksum, the bytes, their checksum.
  const auto length = little_endian(event.size(), 8);
  file_.append(length + little_endian(masked_crc32c(length), 4) + event +
               little_endian(masked_crc32c(event), 4));
}

}  // namespace x_transformers
