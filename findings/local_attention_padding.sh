#!/usr/bin/env bash
# local-attention 1.11.2: with autopad an encoder attends to the zeros that were added to fill its last window.
#
# LocalAttention(autopad=True) lengthens a sequence to whole windows and cuts the result back. The added keys are zeros
# with a place of their own, and nothing hides them unless a mask is given: each takes the weight exp(0) of a key that
# fits no query. Decoders do not see them (they stand in the future); with causal=False the tokens of the last two windows
# do. Seen, 12 tokens in windows of 8: without a mask the result differs by up to 0.16 from plain softmax attention over
# the 12 tokens, with a mask that is all True by 2e-7; with 16 tokens both are exact. For who trains or ships encoders:
# one and the same text has other features when its length is not a multiple of the window, and "no mask" is not "all
# true".
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 local-attention==1.11.2
"$python" -W ignore - <<'PY'
import torch
from local_attention import LocalAttention

WINDOW, FEATURES = 8, 16


@torch.no_grad()
def errors(tokens):
    torch.manual_seed(0)
    x = torch.randn(1, tokens, FEATURES)
    local = LocalAttention(window_size=WINDOW, causal=False, autopad=True)
    right = (x @ x.mT * FEATURES ** -0.5).softmax(-1) @ x  # two windows see each other whole
    everything = torch.ones(1, tokens, dtype=torch.bool)
    return [(local(x, x, x, mask=mask) - right).abs().max().item() for mask in (None, everything)]


for tokens in (16, 12):
    plain, masked = errors(tokens)
    print(f'{tokens} tokens in windows of {WINDOW}: off by {plain:.1e} without a mask, {masked:.1e} with one that is all true')
    assert masked < 1e-5
    assert plain < 1e-5 if tokens % WINDOW == 0 else plain > 0.05, 'what is added is hidden now'
PY
echo "as described"
