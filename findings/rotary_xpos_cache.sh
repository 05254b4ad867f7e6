#!/usr/bin/env bash
# rotary-embedding-torch 0.9.1: with xpos, decoding with cached keys gives other scores than the whole sequence does.
#
# xpos multiplies a query by scale ** p and a key by scale ** -p, p being the distance from the middle of the sequence
# over 512, so that only the distance between the two is left. rotate_queries_with_cached_keys takes the middle of the
# queries it is given for the queries, which is 0 for one new token, and the middle of all keys for the keys. Half of the
# length of the cache is left over: each score is as if the query stood that much further on. Seen, for a query and a key
# of ones at the same place (16 features, so a score of 16): 15.4 with 64 cached keys, 12.2 with 512, 6.4 with 2,048;
# without xpos 16 always. For who ships: text is generated with attention that fades as the text grows, while the loss,
# which is of whole sequences, shows nothing.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 rotary-embedding-torch==0.9.1
"$python" -W ignore - <<'PY'
import torch
from rotary_embedding_torch import RotaryEmbedding

FEATURES = 16


def last_score(keys, xpos, cached):
    rotary = RotaryEmbedding(dim=FEATURES, use_xpos=xpos)
    ones = torch.ones(1, 1, keys, FEATURES)
    if cached:
        q, k = rotary.rotate_queries_with_cached_keys(ones[:, :, -1:], ones)
    elif xpos:
        q, k = rotary.rotate_queries_and_keys(ones, ones)
    else:
        q = k = rotary.rotate_queries_or_keys(ones)
    return (q[0, 0, -1] @ k[0, 0, -1]).item()


seen = {}
for keys in (64, 512, 2048):
    for xpos in (False, True):
        seen[keys, xpos] = whole, cached = [last_score(keys, xpos, c) for c in (False, True)]
        print(f'{keys} keys, xpos {xpos}: {whole:.1f} in the whole sequence, {cached:.1f} with cached keys')
        assert abs(whole - FEATURES) < 0.01
        assert xpos or abs(cached - FEATURES) < 0.01
decoded = [seen[keys, True][1] for keys in (64, 512, 2048)]
assert FEATURES - 0.2 > decoded[0] > decoded[1] + 1 > decoded[2] + 2, 'decoding agrees with the whole sequence now'
PY
echo "as described"
