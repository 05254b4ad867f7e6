#!/usr/bin/env bash
# x-transformers 2.16.1: DPO compares means over an answer's tokens, not the answers' probabilities, and not their first token.
#
# The paper's loss (arXiv:2305.18290) is of log-probabilities of whole answers, sums over their tokens. Here each is a mean,
# so that an answer of eight tokens moves the loss no more than one of two, and beta has another meaning. Masks of sequences
# are cut at their end while targets begin with the second token: the first token of an answer never counts, and pairs of
# answers of one token give ln 2 whatever the model thinks of them, without a gradient. Seen, for a policy that likes the
# preferred token: 0.693 at one token, 0.513 at two, 0.513 at eight; sums over all tokens would give 0.513, 0.371 and 0.040.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 x-transformers==2.16.1 frozendict==2.4.6
"$python" - 2>/dev/null <<'PY'
import math

import torch
from x_transformers.dpo import DPO

PROMPT, GOOD, BAD = 2, 1, 2


class OneTable(torch.nn.Module):
    """The same logits everywhere."""

    def __init__(self):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return self.logits.expand(*x.shape, 4)


def loss_of(length):
    model = DPO(OneTable(), beta=0.2)
    with torch.no_grad():
        model.policy_model.logits[GOOD] += 2  # away from the reference, which is a copy
    pair = {name: torch.tensor([[0] * PROMPT + [token] * length])
            for name, token in dict(preferred_seq=GOOD, unpreferred_seq=BAD).items()}
    mask = torch.arange(PROMPT + length)[None] < PROMPT
    loss = model(**pair, prompt_mask=mask)
    loss.backward()
    return loss.item(), model.policy_model.logits.grad.abs().sum().item()


losses = {length: loss_of(length) for length in (1, 2, 8)}
for length, (loss, gradient) in losses.items():
    by_sums = math.log1p(math.exp(-0.2 * 2 * length))
    print(f'{length} tokens: loss {loss:.3f}, gradient {gradient:.3f}; of sums {by_sums:.3f}')
assert abs(losses[1][0] - math.log(2)) < 1e-6 and losses[1][1] == 0, 'the first token of an answer counts now'
assert abs(losses[2][0] - losses[8][0]) < 1e-6, 'longer answers weigh more now'
assert abs(losses[2][0] - math.log1p(math.exp(-0.4))) < 1e-6
PY
echo "as described"
