#!/usr/bin/env bash
# local-attention 1.11.2: an encoder's queries are rotated as if they stood one window further on.
#
# With rotary positions each window's keys are those of its neighbours and itself, numbered from the first, and its
# queries take the last numbers of that range. That is their own place where nothing is looked at beyond the window
# (decoders). With causal=False, which also looks at the next window, the last numbers are the next window's. So a query's
# own key is at distance `window_size`, and the key at distance 0 is the one that many tokens later. Seen, queries and
# keys all equal, so that rotary positions alone decide: the key with most weight is the query's own in a decoder, and 8
# tokens later in an encoder of window 8. For who trains or ships: encoders learn around it, but weights do not carry over
# from or to an attention that counts distances from the query, and what decays with distance (xpos) decays from the wrong
# place.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 local-attention==1.11.2
"$python" -W ignore - <<'PY'
import torch
from local_attention import LocalAttention

WINDOW, WINDOWS, FEATURES = 8, 4, 16


@torch.no_grad()
def most_seen(causal):
    """How much later than the query the key with most weight is, for the queries of the inner windows."""
    tokens = WINDOW * WINDOWS
    local = LocalAttention(window_size=WINDOW, causal=causal, dim=FEATURES)
    same = torch.ones(1, tokens, FEATURES)
    weights = local(same, same, torch.eye(tokens)[None])[0]
    later = weights.argmax(-1) - torch.arange(tokens)
    return sorted(set(later[WINDOW:-WINDOW].tolist()))


decoder, encoder = most_seen(causal=True), most_seen(causal=False)
print(f'the key with most weight is later than the query by {decoder} in a decoder, by {encoder} in an encoder')
assert decoder == [0]
assert encoder == [WINDOW], 'an encoder counts distances from the query now'
PY
echo "as described"
