#include "x_transformers/core/capture_check.h"

#include "x_transformers/core/parts.h"

namespace x_transformers {

Text capture_unsupported(torch::nn::Module& model) {
  Text found;
  each_part(model, [&](torch::nn::Module& part, const std::string&, const Spelling& spelling) {
    const auto* check = dynamic_cast<const CaptureCheck*>(&part);
    if (check != nullptr && found.empty())
      found = respelled(check->capture_unsupported(), spelling);
  });
  return found;
}

}  // namespace x_transformers
