#!/usr/bin/env bash
# x-transformers 2.16.1: a deep copy of a model with tied embeddings makes its logits with the table of the model it was
# copied from.
#
# With tie_embedding=True to_logits is a lambda that closes over the model (t @ self.token_emb.emb.weight.t()).
# copy.deepcopy copies modules and parameters, and functions by reference: the copy embeds tokens by its own table and
# scores them by the original's. Its state_dict shows nothing of that. A copy that is kept as it was (DPO's frozen
# reference, an average of weights, the best model so far) therefore moves with the training of the original: here its
# logits change by about 7 where its own parameters, frozen, have not changed at all, and a loss of the copy alone gives
# the original's table a gradient. Loading the copy's state_dict into a model that was built anew gives other logits than
# the copy has.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 x-transformers==2.16.1 frozendict==2.4.6
"$python" - 2>/dev/null <<'PY'
import copy

import torch
from x_transformers import Decoder, TransformerWrapper


def build(tied):
    torch.manual_seed(0)
    layers = Decoder(dim=32, depth=1, heads=2, attn_dim_head=16)
    return TransformerWrapper(num_tokens=16, max_seq_len=8, tie_embedding=tied, attn_layers=layers).eval()


def moved(tied):
    model = build(tied)
    kept = copy.deepcopy(model).requires_grad_(False)
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        before = kept(tokens)
        parameters = [p.clone() for p in kept.parameters()]
        for parameter in model.parameters():
            parameter.mul_(2)  # training of the original
        after = kept(tokens)
        anew = build(tied)
        anew.load_state_dict(kept.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(parameters, kept.parameters()))
        assert torch.equal(anew(tokens), before)
    kept.requires_grad_(True)(tokens).square().mean().backward()
    leak = model.token_emb.emb.weight.grad
    return (after - before).abs().max().item(), 0. if leak is None else leak.abs().max().item()


for tied in (False, True):
    change, leak = moved(tied)
    print(f'tie_embedding={tied}: logits of the frozen copy move by {change:.3f}, gradient in the original {leak:.3f}')
    assert (change > 0.1) == tied and (leak > 0) == tied, 'a copy has a table of its own now'
PY
echo "as described"
