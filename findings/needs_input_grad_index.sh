#!/usr/bin/env bash
# LibTorch 2.11.0: AutogradContext::needs_input_grad(i) counts the tensors that were given, and not the arguments: after an
# empty std::optional<at::Tensor> it tells of a later argument than the gradients that backward returns.
#
# forward takes (x, weight, optional bias, residual), and backward returns a gradient for each of the four. An edge of the
# graph is made for a tensor that is there, and needs_input_grad counts edges. Seen, where the residual alone needs a
# gradient: without a bias needs_input_grad(2), place of the bias, is true; with a bias that needs none it is false. So an
# argument's index changes with what the caller gives, and the residual's own, 3, asks for an edge that does not exist in
# the first case (not done here). In Python ctx.needs_input_grad has an entry for each argument, None among them. Who
# writes an op with an optional input keeps in the context which of them were there, or needs_input_grad skips gradients
# that are wanted and makes those that are not.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0
folder=$(mktemp -d)
libraries=$("$python" -c 'import os, torch; print(os.path.dirname(torch.__file__))' 2>/dev/null)
cat >"$folder/function.cpp" <<'CPP'
#include <torch/torch.h>

#include <cstdio>
#include <optional>

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Optional = std::optional<at::Tensor>;

bool needed[3];

struct Linear : torch::autograd::Function<Linear> {
  static at::Tensor forward(AutogradContext*, const at::Tensor& x, const at::Tensor& weight, const Optional& bias,
                            const at::Tensor& residual) {
    const auto y = x * weight + residual;
    return bias ? y + *bias : y;
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    for (int i = 0; i < 3; ++i) needed[i] = ctx->needs_input_grad(i);  // three tensors at least are given
    return {at::Tensor(), at::Tensor(), at::Tensor(), grads[0]};
  }
};

int main() {
  const auto ones = [] { return torch::ones({2}); };
  for (const bool given : {false, true}) {
    const auto residual = ones().requires_grad_();
    Linear::apply(ones(), ones(), given ? Optional(ones()) : Optional(), residual).sum().backward();
    std::printf("C++, %s bias: needs_input_grad(0..2) %d %d %d, gradient at place 3 of the residual: %.0f\n",
                given ? "with a" : "without", needed[0], needed[1], needed[2], residual.grad()[0].item<double>());
  }
}
CPP
cxx=${CXX:-c++}
"$cxx" -std=c++20 -O0 -isystem "$libraries/include" -isystem "$libraries/include/torch/csrc/api/include" \
  "$folder/function.cpp" -o "$folder/function" -L"$libraries/lib" -Wl,--no-as-needed -ltorch_cpu -lc10 -Wl,-rpath,"$libraries/lib"
LD_LIBRARY_PATH=$("$python" -c 'import glob, os, sysconfig; print(":".join(glob.glob(os.path.join(sysconfig.get_paths()["purelib"], "nvidia/*/lib"))))') \
  "$folder/function" | tee "$folder/said"
"$python" -W ignore - <<'PY' | tee -a "$folder/said"
import torch


class Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, residual):
        y = x * weight + residual
        return y if bias is None else y + bias

    @staticmethod
    def backward(ctx, grad):
        print('Python, bias', 'given:' if given else 'None:', *map(int, ctx.needs_input_grad))
        return None, None, None, grad


for given in False, True:
    residual = torch.ones(2, requires_grad=True)
    Linear.apply(torch.ones(2), torch.ones(2), torch.ones(2) if given else None, residual).sum().backward()
PY
grep -qx 'C++, without bias: needs_input_grad(0..2) 0 0 1, gradient at place 3 of the residual: 1' "$folder/said"
grep -qx 'C++, with a bias: needs_input_grad(0..2) 0 0 0, gradient at place 3 of the residual: 1' "$folder/said"
grep -qx 'Python, bias None: 0 0 0 1' "$folder/said"
grep -qx 'Python, bias given: 0 0 0 1' "$folder/said"
echo "as described"
