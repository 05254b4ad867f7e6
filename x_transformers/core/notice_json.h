// Notices as JSON, by which one process hands them to another, or keeps them for a later one.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "x_transformers/core/notice.h"

namespace x_transformers {

nlohmann::json notice_to_json(const Notice& notice);
/// Nothing: it is not the JSON of a notice.
std::optional<Notice> notice_from_json(const nlohmann::json& json);

}  // namespace x_transformers
