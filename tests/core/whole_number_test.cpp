#include "x_transformers/core/whole_number.h"

#include <gtest/gtest.h>

namespace x_transformers {
namespace {

TEST(WholeNumber, IsWhatDoublesHoldExactly) {
  EXPECT_EQ(whole_number(1e3), 1000);
  EXPECT_EQ(whole_number(-2.0), -2);
  EXPECT_EQ(whole_number(2.5), std::nullopt);
  EXPECT_EQ(whole_number(1e30), std::nullopt);
  EXPECT_EQ(whole_number(9007199254740991.0), 9007199254740991);
}

TEST(WholeNumber, AnIntegerTakesItsPlaceWhereverItStands) {
  const auto json =
      Json::parse(R"({"steps": 1e3, "rate": 0.5, "sizes": [2.0, {"dim": 64.0}], "name": "1e3"})");
  EXPECT_EQ(with_integers(json).dump(),
            R"({"name":"1e3","rate":0.5,"sizes":[2,{"dim":64}],"steps":1000})");
}

}  // namespace
}  // namespace x_transformers
