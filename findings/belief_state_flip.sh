#!/usr/bin/env bash
# x-transformers 2.16.1 on torch 2.11.0 (CPU): turning padded rows round is its own inverse in short rows alone.
#
# BeliefStateWrapper turns each row round up to its length by sorting, and turns it back in the same way. Padding has one and
# the same sort key, and torch's sort, which is asked for nothing else, keeps the order of equal keys in rows of up to 16
# entries and mixes it from 17 on. So the padding stands somewhere else after turning twice, and what is computed of it with
# it: tests on short rows see nothing of this. Seen, for a row of which four entries exist: with 16 entries turning twice gives
# the row, with 17 and with 40 the padding is in another order; with a stable sort it is the row at every length.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 x-transformers==2.16.1 frozendict==2.4.6
"$python" - 2>/dev/null <<'PY'
import torch
from x_transformers.belief_state_wrapper import flip

LENGTH = 4


def is_its_own_inverse(turn, entries):
    row = torch.arange(entries)[None]
    return torch.equal(turn(turn(row)), row)


def stable(row):
    places = torch.arange(row.shape[1])
    order = torch.where(places < LENGTH, places, -1).argsort(descending=True, stable=True)
    return row[:, order]


seen = {entries: is_its_own_inverse(lambda row: flip(row, lens=torch.tensor([LENGTH])), entries) for entries in (8, 16, 40)}
for entries, is_inverse in seen.items():
    print(f'{entries} entries, {LENGTH} of which exist: turned twice, {"the row" if is_inverse else "another row"}')
    assert is_its_own_inverse(stable, entries)
assert seen == {8: True, 16: True, 40: False}, 'rows are turned in another way now'
PY
echo "as described"
