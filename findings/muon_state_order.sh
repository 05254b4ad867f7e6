#!/usr/bin/env bash
# adam-atan2-pytorch 0.4.1: a resumed MuonAdamAtan2 gives parameters the state of others, and says nothing.
#
# MuonAdamAtan2(muon_params, params) takes the first out of the second through a set of tensors, whose order is that of
# their addresses. An optimizer's state_dict knows parameters by their place only. In the next process, or in a second
# model of this one, places belong to other parameters, and load_state_dict hands each of them the averages of whoever had
# its place. Where shapes agree (all gains and biases of a transformer of one width) nothing fails. Seen, for the 36
# parameters of 12 blocks in that group: all 36 have the averages of another after loading, and after one more step
# weights are 0.02 (two learning rates) from those of the run that was not interrupted; with
# remove_muon_params_from_params=False and lists given by hand all is right. For who trains: x-transformers models offer
# muon_parameters() for this very call, and each restart of such a run shuffles the averages of its norms and biases.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 adam-atan2-pytorch==0.4.1
"$python" -W ignore - <<'PY'
import copy

import torch
from torch import nn
from adam_atan2_pytorch import MuonAdamAtan2

WIDTH, BLOCKS = 8, 12


def build(by_hand):
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)) for _ in range(BLOCKS)))
    matrices = [p for p in model.parameters() if p.ndim == 2]
    if by_hand:
        rest = [p for p in model.parameters() if p.ndim < 2]
        return model, MuonAdamAtan2(matrices, rest, lr=1e-2, remove_muon_params_from_params=False)
    return model, MuonAdamAtan2(matrices, model.parameters(), lr=1e-2)


def step(model, optimizer):
    torch.manual_seed(1)
    optimizer.zero_grad()
    model(torch.randn(32, WIDTH)).square().mean().backward()
    optimizer.step()


def averages(model, optimizer):
    return {name: optimizer.state[p]['exp_avg_sq'].clone() for name, p in model.named_parameters() if p.ndim < 2}


def resumed(by_hand):
    first, optimizer = build(by_hand)
    for _ in range(3):
        step(first, optimizer)
    weights, state = copy.deepcopy(first.state_dict()), copy.deepcopy(optimizer.state_dict())
    second, anew = build(by_hand)  # while the first is alive, so at other addresses, as in another process
    second.load_state_dict(weights)
    anew.load_state_dict(state)
    before, after = averages(first, optimizer), averages(second, anew)
    wrong = sum(not torch.equal(before[name], after[name]) for name in before)
    step(first, optimizer)
    step(second, anew)
    apart = max((a - b).abs().max().item() for a, b in zip(first.parameters(), second.parameters()))
    return wrong, len(before), apart


for by_hand in (True, False):
    wrong, of, apart = resumed(by_hand)
    print(f'{"lists by hand" if by_hand else "parameters removed by it"}: {wrong} of {of} parameters have the averages of another; '
          f'after one more step weights are {apart:.1e} apart')
    if by_hand:
        assert wrong == 0 and apart == 0
    else:
        assert wrong > of / 3 and apart > 1e-4, 'the order is that of the arguments now'
PY
echo "as described"
