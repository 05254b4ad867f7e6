#!/usr/bin/env bash
# torch 2.11.0: load_state_dict(assign=True) makes two parameters of a tied one, on the same memory: each step counts
# twice.
#
# A model with tied embeddings has one Parameter under two names. assign=True, which is how models built on the meta
# device get their weights, puts a Parameter of its own under each name. The tensors of a state_dict (of a live model, or
# read by torch.load) still share their memory, so that the model looks tied, gives the right logits and has equal tables
# for ever. But parameters() has both, gradients are split between them, and an optimizer updates the one memory twice.
# Seen with AdamW: weight decay of 10% a step makes 0.81 of a weight and not 0.90; the first step of a learning rate of
# 0.01 moves weights by up to 0.02; 80 parameters are counted where there are 40. assign=False keeps the tie. to_empty()
# unties too, with memory for each. For who trains: a large model that is loaded this way and trained on decays its
# embedding twice and steps it twice as far as the run that it continues.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0
"$python" -W ignore - <<'PY'
import torch
from torch import nn


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.embed(tokens))


torch.manual_seed(0)
tokens = torch.arange(10)
saved = Tied().state_dict()
weights = saved['embed.weight'].clone()


def after_step(assign, **options):
    with torch.device('meta' if assign else 'cpu'):
        model = Tied()
    model.load_state_dict({name: t for name, t in saved.items()}, assign=assign)
    with torch.no_grad():
        assert torch.equal(model(tokens), nn.functional.linear(weights, weights))
    adamw = torch.optim.AdamW(model.parameters(), **options)
    count = sum(p.numel() for p in model.parameters())
    nn.functional.cross_entropy(model(tokens), tokens.roll(1)).backward()
    adamw.step()
    assert torch.equal(model.embed.weight, model.head.weight)
    stepped = model.embed.weight.detach().clone()
    with torch.no_grad():
        saved['embed.weight'].copy_(weights)  # what is assigned is this memory
    return count, stepped


for assign in (False, True):
    count, stepped = after_step(assign, lr=0.01, weight_decay=0.)
    largest = (stepped - weights).abs().max().item()
    kept = (after_step(assign, lr=1e-9, weight_decay=1e8)[1] / weights).mean().item()
    print(f'assign={assign}: {count} parameters; the largest step of 0.01 is {largest:.3f}; decay by 10% leaves {kept:.3f}')
    assert count == (80 if assign else 40), 'the tie is kept now'
    assert abs(largest - (0.02 if assign else 0.01)) < 1e-4
    assert abs(kept - (0.81 if assign else 0.9)) < 1e-3
PY
echo "as described"
