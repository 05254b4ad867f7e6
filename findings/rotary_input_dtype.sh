#!/usr/bin/env bash
# rotary-embedding-torch 0.9.1: positions are counted in the dtype of the queries, and the first call decides for later
# ones.
#
# RotaryEmbedding keeps its frequencies in float32, and a module that is left in float32 on purpose looks safe.
# rotate_queries_or_keys counts positions in the dtype of its input: in bfloat16 (as under autocast) 257 is 256 and 1023
# is 1024, so that neighbours share a position from 257 on. The angles are then kept in a float32 buffer and handed out to
# every later call that is not longer, float32 ones too. Seen, for 1,024 positions: 1024 different rotations when float32
# comes first; 513 when bfloat16 does, and the same 513 for float32 queries after it, with errors of up to 2.4 in pairs of
# ones. For who trains or ships: one validation pass under autocast changes the numbers of a float32 model, and long
# contexts in bfloat16 lose the order of neighbouring tokens.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 rotary-embedding-torch==0.9.1
"$python" -W ignore - <<'PY'
import torch
from rotary_embedding_torch import RotaryEmbedding

POSITIONS = 1024
queries = torch.ones(1, 1, POSITIONS, 16)


def rotations(first=None):
    rotary = RotaryEmbedding(dim=16)
    if first is not None:
        rotary.rotate_queries_or_keys(queries.to(first))
    assert rotary.freqs.dtype == torch.float32
    return rotary.rotate_queries_or_keys(queries)[0, 0]


def different(rotated):
    return rotated.unique(dim=0).shape[0]


right, after = rotations(), rotations(first=torch.bfloat16)
error = (after - right).abs().max().item()
print(f'float32 queries: {different(right)} different rotations of {POSITIONS}')
print(f'float32 queries after a bfloat16 call: {different(after)}, off by up to {error:.2f}')
assert different(right) == POSITIONS
assert different(rotations(first=torch.float32)) == POSITIONS
assert different(after) < 600 and error > 1, 'positions are counted in float32 now, or not kept'
PY
echo "as described"
