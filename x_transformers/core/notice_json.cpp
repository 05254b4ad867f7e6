#include "x_transformers/core/notice_json.h"

#include <utility>
#include <variant>

#include "x_transformers/core/json.h"

namespace x_transformers {
namespace {

/// Plain text is a string, an option the list of its names.
Json json_of(const Text& text) {
  Json all = Json::array();
  for (const auto& piece : text.pieces()) {
    const auto* path = std::get_if<OptionPath>(&piece);
    all.push_back(path ? Json(path->names()) : Json(std::get<std::string>(piece)));
  }
  return all;
}

Text text_of(const Json& json) {
  std::vector<Text::Piece> pieces;
  for (const auto& piece : json) {
    if (piece.is_array())
      pieces.emplace_back(OptionPath(piece.get<std::vector<std::string>>()));
    else
      pieces.emplace_back(piece.get<std::string>());
  }
  return Text(std::move(pieces));
}

}  // namespace

Json notice_to_json(const Notice& notice) {
  Json about = Json::array();
  for (const auto& path : notice.about.options) about.push_back(path.names());
  return {{"about", about},
          {"text", json_of(notice.text)},
          {"expected", json_of(notice.expected)},
          {"given", notice.given ? Json(*notice.given) : Json()},
          {"hint", json_of(notice.hint)},
          {"cause", notice.cause}};
}

std::optional<Notice> notice_from_json(const Json& json) {
  try {
    Notice notice;
    for (const auto& path : json.at("about"))
      notice.about.options.emplace_back(path.get<std::vector<std::string>>());
    notice.text = text_of(json.at("text"));
    notice.expected = text_of(json.at("expected"));
    if (!json.at("given").is_null()) notice.given = json["given"].get<std::string>();
    notice.hint = text_of(json.at("hint"));
    notice.cause = json.at("cause").get<std::string>();
    return notice;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

}  // namespace x_transformers
