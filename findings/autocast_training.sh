#!/usr/bin/env bash
# torch 2.11.0: a training loop inside one autocast block computes with the weights that it began with, for ever.
#
# Autocast keeps the bfloat16 copy of each float32 weight until its outermost block ends, and asks nobody whether the weight
# has changed since. In a loop that is inside the block as a whole, optimizer steps change the weights, and no forward pass
# sees it: the loss stays the same to the last bit while gradients, all taken at the start, add up. Seen: 60 steps of SGD
# leave the loss where it was within the block, and bring it near 0 where the block is inside the loop; evaluated outside
# afterwards, the first model is worse than before it was trained. cache_enabled=False is right too. Generation is under
# no_grad and keeps nothing, so that samples within the loop do change. For who trains: the documentation wraps forward
# passes alone without saying what else happens, and a block in the outermost place (a decorator of the training function,
# a test of "does it learn") trains nothing and fails nowhere.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0
"$python" -W ignore - <<'PY'
import contextlib

import torch

STEPS = 60


def trained(around, inside):
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 1)
    x = torch.randn(64, 4)
    wanted = x.sum(1, keepdim=True)
    loss_of = lambda: (layer(x) - wanted).square().mean()
    sgd = torch.optim.SGD(layer.parameters(), 0.05)
    losses = []
    with around():
        for _ in range(STEPS):
            with inside():
                loss = loss_of()
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            losses.append(loss.item())
    with torch.no_grad():
        return losses, loss_of().item()


block = lambda **options: lambda: torch.autocast('cpu', dtype=torch.bfloat16, **options)
nothing = contextlib.nullcontext
for name, places in {'block around the loop': (block(), nothing), 'block in the loop': (nothing, block()),
                     'around, cache_enabled=False': (block(cache_enabled=False), nothing)}.items():
    losses, after = trained(*places)
    print(f'{name}: loss {losses[0]:.3f} at the first step, {losses[-1]:.3f} at the last, {after:.3f} in float32 after it')
    if name == 'block around the loop':
        assert len(set(losses)) == 1, 'weights are cast anew after a step now'
        assert after > losses[0]
    else:
        assert losses[-1] < 0.05 and after < 0.05
PY
echo "as described"
