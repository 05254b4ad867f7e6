#include "x_transformers/core/cause.h"

#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <algorithm>
#include <cctype>
#include <new>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"

namespace x_transformers {
namespace {

std::string first_line(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

/// "[json.exception.parse_error.101] parse error ...: ... last read: 'what was read'"
std::string words_of(const Json::exception& error) {
  constexpr size_t kLongestQuotation = 60;
  auto text = first_line(error.what());
  const auto name_end = text.find("] ");
  if (text.starts_with("[json.exception.") && name_end != std::string::npos)
    text.erase(0, name_end + 2);
  const auto quote = text.find('\'');
  if (quote == std::string::npos) return text;
  const auto begin = quote + 1, end = std::max(text.rfind('\''), begin);
  if (end - begin <= kLongestQuotation) return text;
  // The end of what was read is where the error is.
  return text.substr(0, begin) + "..." + text.substr(end - kLongestQuotation);
}

}  // namespace

std::string cause_of(const std::exception& error) {
  if (const auto* torch_error = dynamic_cast<const c10::Error*>(&error))
    return first_line(torch_error->what_without_backtrace());
  if (const auto* json_error = dynamic_cast<const Json::exception*>(&error))
    return words_of(*json_error);
  return first_line(error.what());
}

std::string cause_of(const c10::Warning& warning) { return first_line(warning.msg()); }

std::string cause_of(const std::error_code& error) { return error.message(); }

std::string cause_of_errno(int number) {
  return cause_of(std::error_code(number, std::generic_category()));
}

std::string cause_of_status(std::string_view message) {
  // file(line) [condition] reason
  auto text = first_line(message);
  if (const auto end = text.rfind("] "); end != std::string::npos) text.erase(0, end + 2);
  for (size_t at = text.find("--"); at != std::string::npos; at = text.find("--", at)) {
    for (; at < text.size() && (text[at] == '-' || text[at] == '_' ||
                                std::isalnum(static_cast<unsigned char>(text[at])));
         ++at)
      if (text[at] == '_') text[at] = '-';
  }
  return text;
}

std::string cause_of_loader() {
  const char* words = dlerror();
  return words ? words : "unknown reason";
}

std::optional<std::string> out_of_memory(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error)) return "the system gives no more";
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  if (!torch_error) return std::nullopt;
  std::string text = torch_error->what_without_backtrace();
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error)) return text.substr(0, text.find('\n'));
  // Sizes whose product 64 bits do not hold: "Storage size calculation overflowed with sizes=[...]"
  // or "numel: integer multiplication overflow".
  if (text.find("size calculation overflow") != std::string::npos ||
      text.find("integer multiplication overflow") != std::string::npos)
    return "a tensor of more bytes than 64 bits count";
  // LibTorch's CPU allocator has no type of its own: "[enforce fail at alloc_cpu.cpp:127] err == 0.
  // DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. ..."
  const auto allocator = text.find("DefaultCPUAllocator: ");
  if (allocator == std::string::npos) return std::nullopt;
  const auto tried = text.find("you tried to allocate ", allocator);
  if (tried == std::string::npos) return "the system gives no more";
  return text.substr(tried, text.find_first_of(".\n", tried) - tried);
}

Notice caused(About about, Text text, std::string cause) {
  Notice notice{std::move(about), std::move(text)};
  notice.cause = std::move(cause);
  return notice;
}

Notice notice_of(const std::exception& error) {
  if (const auto* input_error = dynamic_cast<const InputError*>(&error))
    return input_error->notice();
  if (const auto* run_error = dynamic_cast<const RunError*>(&error)) return run_error->notice();
  if (auto reason = out_of_memory(error)) return caused({}, "out of memory", std::move(*reason));
  return caused({}, {}, cause_of(error));
}

}  // namespace x_transformers
