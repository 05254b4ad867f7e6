#include "x_transformers/distributed/meeting.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"

namespace x_transformers {
namespace {

/// Time for one who has connected to say who it is; what says nothing is no rank.
constexpr double kHelloSeconds = 5;

Json parse_message(const std::string& text) {
  Json message = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!message.is_object()) throw RunError("a connection brings what no rank sends");
  return message;
}

RankInfo info_of(const Json& json) {
  try {
    return options_from_json<RankInfo>(json, "rank");
  } catch (const InputError& error) {
    throw RunError(error.notice());
  }
}

std::string text_member(const Json& message, const char* name) {
  return message.contains(name) && message[name].is_string() ? message[name].get<std::string>()
                                                             : std::string();
}

/// Who has connected; throws RunError where it is no rank of this run.
RankInfo hello_of(const Socket& socket, int64_t world, const std::string& key) {
  const Json hello = parse_message(receive_text(socket, in_seconds(kHelloSeconds)));
  if (text_member(hello, "key") != key) throw RunError("of another run");
  auto info = info_of(hello.contains("info") ? hello["info"] : Json::object());
  const bool is_counted = hello.contains("world") && hello["world"] == world;
  if (!is_counted || info.rank < 1 || info.rank >= world)
    throw RunError(fmt::format("rank {}: not one of {} processes", info.rank, world));
  return info;
}

[[noreturn]] void fail_missing(const Meeting& meeting, int64_t world) {
  std::vector<int64_t> missing;
  for (int64_t rank = 1; rank < world; ++rank)
    if (!meeting.to_others[static_cast<size_t>(rank)].is_open()) missing.push_back(rank);
  throw RunError(fmt::format("{} of {} processes did not come: rank {}", missing.size(), world,
                             fmt::join(missing, ", ")));
}

}  // namespace

std::string random_token() {
  std::random_device device;
  std::string token;
  for (int i = 0; i < 4; ++i) token += fmt::format("{:08x}", device());
  return token;
}

std::string RankInfo::name() const { return fmt::format("rank {} on {}", rank, host); }

RankInfo own_rank_info(int64_t rank, int64_t port) {
  return {rank, ::getpid(), host_name(), network_place(), own_addresses(), port};
}

std::string rank_info_text(const RankInfo& info) { return options_to_json(info).dump(); }

RankInfo parse_rank_info(const std::string& text) { return info_of(parse_message(text)); }

Socket reach(const RankInfo& rank, Deadline deadline) {
  std::vector<std::string> hosts;
  if (rank.network == network_place()) hosts.emplace_back("127.0.0.1");
  hosts.insert(hosts.end(), rank.addresses.begin(), rank.addresses.end());
  if (hosts.empty()) hosts.push_back(rank.host);
  return connect_to(hosts, rank.port, deadline);
}

Meeting meet_others(const Socket& listener, const RankInfo& own, int64_t world,
                    const std::string& key, Deadline deadline) {
  Meeting meeting{.place = {own.rank, world}, .token = random_token()};
  meeting.ranks.resize(static_cast<size_t>(world));
  meeting.ranks[0] = own;
  meeting.to_others.resize(static_cast<size_t>(world));
  for (int64_t met = 1; met < world;) {
    auto connection = accept_from(listener, deadline);
    if (!connection) fail_missing(meeting, world);
    try {
      const auto info = hello_of(*connection, world, key);
      auto& place = meeting.to_others[static_cast<size_t>(info.rank)];
      if (place.is_open()) throw RunError(Notice{at(info.name()), "a second one"});
      meeting.ranks[static_cast<size_t>(info.rank)] = info;
      place = std::move(*connection);
      ++met;
    } catch (const RunError&) {
      continue;  // no rank of this run
    }
  }
  Json all = Json::array();
  for (const auto& rank : meeting.ranks) all.push_back(options_to_json(rank));
  const auto text = Json{{"token", meeting.token}, {"ranks", all}}.dump();
  for (const auto& socket : meeting.to_others)
    if (socket.is_open()) send_text(socket, text, deadline);
  return meeting;
}

Meeting meet_first(Socket connection, const RankInfo& own, int64_t world, const std::string& key,
                   Deadline deadline) {
  const Json hello = {{"key", key}, {"world", world}, {"info", options_to_json(own)}};
  send_text(connection, hello.dump(), deadline);
  const Json answer = parse_message(receive_text(connection, deadline));
  Meeting meeting{.place = {own.rank, world}, .token = text_member(answer, "token")};
  const Json ranks = answer.contains("ranks") ? answer["ranks"] : Json::array();
  for (const auto& each : ranks) meeting.ranks.push_back(info_of(each));
  if (static_cast<int64_t>(meeting.ranks.size()) != world)
    throw RunError(fmt::format("rank 0 knows {}, not {}",
                               how_many(std::ssize(meeting.ranks), "process"), world));
  meeting.to_others.push_back(std::move(connection));
  return meeting;
}

}  // namespace x_transformers
