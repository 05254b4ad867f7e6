#!/usr/bin/env bash
# x-transformers 2.16.1: polar positions of a batch entry are used by a head.
#
# Positions [batch, seq] give rotary embeddings an angle for each entry of the batch. With polar_pos_emb the angles are
# broadcast against queries and keys [batch, heads, seq, dim] without a place for the heads, so that entry i's positions
# become those of head i in every entry. With as many entries as heads nothing fails; the result of an entry depends on the
# positions of the others. Seen: with two entries and two heads, logits of an entry differ from those of the entry alone
# (about 0.01 to 0.1); with rotary_pos_emb they agree within 1e-5.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 x-transformers==2.16.1 frozendict==2.4.6
"$python" - 2>/dev/null <<'PY'
import torch
from x_transformers import Decoder, TransformerWrapper

tokens = torch.tensor([[3, 5, 7, 2], [1, 4, 6, 8]])
positions = torch.stack((torch.arange(4), torch.arange(4) * 3))


def difference(**options):
    torch.manual_seed(0)
    layers = Decoder(dim=128, depth=1, heads=2, attn_dim_head=64, **options)
    net = TransformerWrapper(num_tokens=16, max_seq_len=32, use_abs_pos_emb=False, attn_layers=layers)
    net.eval()
    with torch.no_grad():
        both = net(tokens, pos=positions)
        alone = net(tokens[1:], pos=positions[1])
    return (both[1] - alone[0]).abs().max().item()


rotary, polar = difference(rotary_pos_emb=True), difference(polar_pos_emb=True)
print(f'largest difference of the logits: rotary {rotary:.1e}, polar {polar:.1e}')
assert rotary < 1e-5, 'rotary positions mix entries of the batch'
assert polar > 1e-4, 'polar positions are those of each entry now'
PY
echo "as described"
