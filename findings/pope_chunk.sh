#!/usr/bin/env bash
# PoPE-pytorch 0.2.1: on a CPU a chunk of several new tokens attends to the first keys of the cache in place of the last.
#
# flash_attn_with_pope(q, k, v, causal=True) with fewer queries than keys means, as its positions do, that the queries are
# the last tokens: the frequencies of the end are theirs. Where its own CUDA kernel does not run, causality is left to
# torch's is_causal, which aligns the first query with the first key. One query is seen to; of n queries the first sees
# key 0 alone, the next keys 0 and 1, and so on: none of what they should see, their own key included. Seen, for 10
# tokens: the last one alone agrees with the whole sequence (2e-7), the last four together are off by up to 2.5. For who
# ships: the prompt of a second turn, speculative decoding and chunked prefill come in such chunks, and all tests with one
# token at a time pass.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 PoPE-pytorch==0.2.1
"$python" -W ignore - <<'PY'
import torch
from PoPE_pytorch import PoPE, flash_attn_with_pope

TOKENS, HEADS, FEATURES = 10, 2, 32
torch.manual_seed(0)
q, k, v = torch.randn(3, 1, HEADS, TOKENS, FEATURES).unbind()
with torch.no_grad():
    positions = PoPE(FEATURES, heads=HEADS)(TOKENS)


@torch.no_grad()
def attended(new):
    return flash_attn_with_pope(q[:, :, -new:], k, v, pos_emb=positions, causal=True)


whole = attended(TOKENS)
errors = {new: (attended(new) - whole[:, :, -new:]).abs().max().item() for new in (1, 2, 4)}
for new, error in errors.items():
    print(f'the last {new} of {TOKENS} tokens with cached keys: off by {error:.1e} from the whole sequence')
assert errors[1] < 1e-5
assert min(errors[2], errors[4]) > 0.1, 'chunks are aligned with the end now'
first = attended(4)[:, :, 0]
assert torch.allclose(first, v[:, :, 0], atol=1e-5), 'the first of four sees more than key 0 now'
PY
echo "as described"
