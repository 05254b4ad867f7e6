// How the ranks of a run come to know each other: all connect to rank 0, and it tells each of all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "x_transformers/core/world_place.h"
#include "x_transformers/distributed/socket.h"

namespace x_transformers {

/// Text that no other run comes to by chance.
std::string random_token();

/// A rank, as the others know it.
struct RankInfo {
  int64_t rank = 0;
  int64_t process = 0;
  std::string host;
  std::string network;                 ///< network_place
  std::vector<std::string> addresses;  ///< where it is reached from other hosts
  int64_t port = 0;                    ///< where it listens for ranks

  /// "rank 1 on node7"
  std::string name() const;

  template <class Visitor>
  void fields(Visitor& v) {
    v("rank", rank, "its number");
    v("process", process, "of its host's processes");
    v("host", host, "name of its host");
    v("network", network, "of the running system");
    v("addresses", addresses, "where other hosts reach it");
    v("port", port, "where it listens");
  }
};

/// This process, which listens at `port`.
RankInfo own_rank_info(int64_t rank, int64_t port);

/// As text in one line, and back. Throws RunError for what is none.
std::string rank_info_text(const RankInfo& info);
RankInfo parse_rank_info(const std::string& text);

/// A connection to a rank: at the loopback address where it shares this process's network.
Socket reach(const RankInfo& rank, Deadline deadline);

/// The ranks of a run, and this one's connections to them.
struct Meeting {
  WorldPlace place = {};
  std::vector<RankInfo> ranks = {};  ///< all, in order
  std::vector<Socket> to_others =
      {};                  ///< of rank 0: to each rank, its own not open; else one, to rank 0
  std::string token = {};  ///< what the ranks of this meeting tell each other
};

/// Rank 0: waits until all others have come to `listener` with the same `key`. Throws RunError that
/// says who is missing.
Meeting meet_others(const Socket& listener, const RankInfo& own, int64_t world,
                    const std::string& key, Deadline deadline);
/// The others: comes to rank 0 by `connection`. Throws RunError.
Meeting meet_first(Socket connection, const RankInfo& own, int64_t world, const std::string& key,
                   Deadline deadline);

}  // namespace x_transformers
