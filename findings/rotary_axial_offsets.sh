#!/usr/bin/env bash
# rotary-embedding-torch 0.9.1: get_axial_freqs ignores its offsets after a call without them, and the other way round.
#
# Angles are kept by the length of an axis, and offsets are not part of that key. So the first call of an instance fixes
# the positions of all later ones of that size: with offsets first, later calls have them too; without offsets first,
# those of later calls are dropped. Seen: positions 0 to 3 asked for with an offset of 5 are 5 to 8 from a new instance,
# and 0 to 3 from one that was asked for four positions before; asked without offset after one with, they are 5 to 8. With
# cache_if_possible=False both are right. For who trains or ships models of images or video: crops, tiles and frames after
# the first are placed where the first was, and what is right depends on which call came first (freqs_for='pixel' is not
# kept and does not do this).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 rotary-embedding-torch==0.9.1
"$python" -W ignore - <<'PY'
from rotary_embedding_torch import RotaryEmbedding

SIZE, OFFSET = 4, 5
plain, moved = list(range(SIZE)), list(range(OFFSET, OFFSET + SIZE))


def positions(rotary, **options):
    return (rotary.get_axial_freqs(SIZE, **options)[:, 0] / rotary.freqs[0]).round().int().tolist()


def two_calls(first, second, **options):
    rotary = RotaryEmbedding(dim=16, **options)
    return positions(rotary, **first), positions(rotary, **second)


without, offset = {}, dict(offsets=(OFFSET,))
print('offset, then none:', seen := two_calls(offset, without))
assert seen == (moved, moved), 'a call without offset has none now'
print('none, then offset:', seen := two_calls(without, offset))
assert seen == (plain, plain), 'an offset counts now'
print('nothing kept:     ', seen := two_calls(without, offset, cache_if_possible=False))
assert seen == (plain, moved)
PY
echo "as described"
