// What learning a vocabulary takes (`tokenizer train`).
#pragma once

#include <cstdint>

namespace x_transformers {

inline constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
inline constexpr int64_t kMaxLearningThreads = 128;

}  // namespace x_transformers
