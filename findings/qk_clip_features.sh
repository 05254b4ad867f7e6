#!/usr/bin/env bash
# x-transformers 2.16.1: QK-clip scales features of the input where the rows of the heads are meant.
#
# Attention.qk_clip_(scores, tau) shall bring the largest score of each head down to tau and leave heads below it alone
# (arXiv:2507.20534). It multiplies the last dimension of to_q.weight and to_k.weight, which are the features of the input,
# by the factors of the heads. Seen with two heads of 16 features on dim 32: the largest score of the head above tau = 1
# goes from 47.8 to 21.2 and not to 1, and that of the head below it from 0.093 to 0.026. Where dim is not heads * dim_head
# it is a RuntimeError.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 x-transformers==2.16.1 frozendict==2.4.6
"$python" - 2>/dev/null <<'PY'
import torch
from x_transformers.x_transformers import Attention


def made(dim):
    torch.manual_seed(0)
    layer = Attention(dim=dim, heads=2, dim_head=16, causal=False).eval()
    with torch.no_grad():
        layer.to_q.weight[:16] *= 8  # rows of the first head
        layer.to_k.weight[:16] *= 8
        layer.to_q.weight[16:] *= 0.1
    return layer, torch.randn(1, 6, dim)


def scores(layer, x):
    _, seen = layer(x, return_intermediates=True)
    return seen.pre_softmax_attn


with torch.no_grad():
    layer, x = made(32)
    before = scores(layer, x)
    layer.qk_clip_(before, tau=1.)
    most, now = (s.amax(dim=(0, 2, 3)).tolist() for s in (before, scores(layer, x)))
print(f'largest scores: {most[0]:.2f} and {most[1]:.4f}; clipped at 1: {now[0]:.2f} and {now[1]:.4f}')
assert most[0] > 1 > most[1]
assert now[0] > 1.5, 'the head above tau has tau now'
assert abs(now[1] - most[1]) > 1e-4 * most[1], 'the head below tau is left alone now'

layer, x = made(48)
try:
    with torch.no_grad():
        layer.qk_clip_(scores(layer, x), tau=1.)
except RuntimeError as error:
    print(f'dim 48: {str(error).splitlines()[0]}')
else:
    raise AssertionError('dim 48 is taken now')
PY
echo "as described"
