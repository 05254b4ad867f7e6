// What learning a vocabulary takes (`tokenizer train`).
#pragma once

#include <cstdint>

namespace x_transformers {

inline constexpr int64_t kLargestVocabulary = int64_t{1} << 24;
inline constexpr int64_t kMostLearningThreads = 128;

}  // namespace x_transformers
