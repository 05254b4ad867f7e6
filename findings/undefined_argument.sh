#!/usr/bin/env bash
# LibTorch 2.11.0: torch::autograd::Function::apply refuses an undefined tensor as an argument, which forward could do
# without and backward may well return.
#
# An op with an optional input (a mask, a bias) has an undefined at::Tensor where the input is absent: that is what
# ATen's own ops take, what save_for_backward keeps, and what backward returns for "no gradient". Function::apply asks
# every tensor argument for its device and fails with "tensor does not have a device", in a run with gradients only:
# the same forward called directly goes through. std::optional<at::Tensor>() in its place works, and so does None in
# Python's autograd.Function.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0
folder=$(mktemp -d)
libraries=$("$python" -c 'import os, torch; print(os.path.dirname(torch.__file__))' 2>/dev/null)
cat >"$folder/function.cpp" <<'CPP'
#include <torch/torch.h>

#include <cstdio>
#include <cstring>
#include <optional>

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <class Bias>
struct Plus : torch::autograd::Function<Plus<Bias>> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const Bias& bias) {
    ctx->save_for_backward({x, at::Tensor()});  // undefined tensors are kept
    at::Tensor given;
    if constexpr (std::is_same_v<Bias, at::Tensor>) given = bias;
    else if (bias) given = *bias;
    return given.defined() ? x + given : x * 1;
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return {grads[0], ctx->get_saved_variables()[1]};
  }
};

int main() {
  const auto x = torch::ones({2}).requires_grad_();
  const char* said = "nothing";
  std::string text;
  try {
    Plus<at::Tensor>::apply(x, at::Tensor()).sum().backward();
  } catch (const c10::Error& e) {
    text = e.what_without_backtrace();
    said = text.c_str();
  }
  std::printf("an undefined tensor: %s\n", std::strtok(text.data(), "\n") ? said : "nothing");
  Plus<std::optional<at::Tensor>>::apply(x, std::optional<at::Tensor>()).sum().backward();
  std::printf("an empty optional: gradient %.0f\n", x.grad()[0].item<double>());
}
CPP
cxx=${CXX:-c++}
"$cxx" -std=c++20 -O0 -isystem "$libraries/include" -isystem "$libraries/include/torch/csrc/api/include" \
  "$folder/function.cpp" -o "$folder/function" -L"$libraries/lib" -Wl,--no-as-needed -ltorch_cpu -lc10 -Wl,-rpath,"$libraries/lib"
LD_LIBRARY_PATH=$("$python" -c 'import glob, os, sysconfig; print(":".join(glob.glob(os.path.join(sysconfig.get_paths()["purelib"], "nvidia/*/lib"))))') \
  "$folder/function" | tee "$folder/said"
grep -qx 'an undefined tensor: tensor does not have a device' "$folder/said"
grep -qx 'an empty optional: gradient 1' "$folder/said"
