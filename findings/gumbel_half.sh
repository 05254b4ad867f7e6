#!/usr/bin/env bash
# x-transformers 2.16.1: drawing tokens with Gumbel noise in bfloat16 prefers small ids and never draws rare tokens.
#
# gumbel_sample adds -log(-log(u)) to the logits and takes the highest; u is drawn in the dtype of the logits. Of bfloat16
# torch draws multiples of 1/256 (so 256 numbers), and the noise ends at 5.54: what is further below the best token comes
# up only through a low draw of that one, and in a large vocabulary hundreds of tokens share the highest noise, of which
# argmax takes the first. Seen: of 16,384 equal logits float32 draws ids of 0.47 times the vocabulary on average, bfloat16
# of 0.015; sixteen tokens 7 below the best are drawn 58 times of 4,000 in theory, 51 times in float32 and 6 times in
# bfloat16. For who ships: NonAutoregressiveWrapper and FreeTransformer generate so, stochastic beam search adds the same
# noise, and a model in bfloat16 writes other text than in float32 although its logits are as good. Draw the noise in
# float32.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 x-transformers==2.16.1 frozendict==2.4.6
"$python" -W ignore - <<'PY'
import math

import torch
from x_transformers.nonautoregressive_wrapper import gumbel_sample

TOKENS, RARE, BELOW, DRAWS = 16384, 16, 7., 4000
in_theory = DRAWS * RARE * math.exp(-BELOW) / (1 + RARE * math.exp(-BELOW))


def drawn(dtype):
    torch.manual_seed(0)
    place = gumbel_sample(torch.zeros(200, TOKENS, dtype=dtype)).float().mean().item() / TOKENS
    logits = torch.zeros(DRAWS, 1 + RARE, dtype=dtype)
    logits[:, 0] = BELOW
    return place, (gumbel_sample(logits) != 0).sum().item()


for dtype in (torch.float32, torch.bfloat16):
    place, rare = drawn(dtype)
    print(f'{dtype}: mean id of equal tokens {place:.3f} of the vocabulary; rare tokens drawn {rare} times, '
          f'{in_theory:.0f} in theory')
    if dtype == torch.float32:
        assert 0.42 < place < 0.58 and in_theory / 2 < rare < in_theory * 2
    else:
        assert place < 0.05 and rare < in_theory / 3, 'noise is drawn in float32 now'
PY
echo "as described"
