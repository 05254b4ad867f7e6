// Which of an op's two passes a kernel computes, where one serves both.
#pragma once

namespace x_transformers::kernels {

enum class Pass { forward, backward };

}  // namespace x_transformers::kernels
