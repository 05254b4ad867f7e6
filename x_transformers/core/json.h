// JSON text and files, held to what a user may give. For .cpp files: this header brings in all of
// nlohmann-json.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "x_transformers/core/error.h"

namespace x_transformers {

using Json = nlohmann::json;

namespace detail {

/// `value` shortened for a message.
std::string shown(const Json& value);

}  // namespace detail

/// Levels of arrays and objects in what a user may give: many more than a model has, and few enough
/// for functions that call themselves.
inline constexpr int kDeepestJson = 100;

/// Parses JSON. Throws Json::exception, and InputError for a key given twice in one object and for
/// more than `deepest` levels.
Json parse_json(std::string_view text, int deepest = kDeepestJson);

/// Parses JSON given as `where`. Throws InputError that begins with it.
Json parse_json_argument(std::string_view text, const OptionPath& where);

/// Reads a JSON file. Throws InputError with the file's name, and the line for a syntax error.
Json read_json_file(const std::string& path);

}  // namespace x_transformers
