#!/usr/bin/env bash
# x-transformers 2.16.1: token shift moves padding into a left-padded prompt.
#
# A batch of prompts of different lengths is padded at the left, and seq_start_pos says where each begins; attention then
# sees no padding, and a padded prompt has the logits of the prompt alone. With shift_tokens it has not: the first token
# after the padding takes half of its features from the last padding token. Seen: logits differ by about 0.5; without
# shift_tokens by less than 1e-5.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 x-transformers==2.16.1 frozendict==2.4.6
"$python" - <<'PY'
import torch
from x_transformers import Decoder, TransformerWrapper

prompt = torch.tensor([[3, 5, 7]])
padded = torch.tensor([[9, 9, 3, 5, 7]])


def difference(**options):
    torch.manual_seed(0)
    net = TransformerWrapper(num_tokens=16, max_seq_len=32, attn_layers=Decoder(dim=16, depth=1, heads=2, **options))
    net.eval()
    with torch.no_grad():
        alone = net(prompt)[0]
        beside = net(padded, seq_start_pos=torch.tensor([2]))[0, 2:]
    return (alone - beside).abs().max().item()


plain, shifted = difference(), difference(shift_tokens=1)
print(f'largest difference of the logits: plain {plain:.1e}, with shift_tokens {shifted:.1e}')
assert plain < 1e-5, 'a plain decoder sees padding now'
assert shifted > 1e-2, 'token shift no longer moves padding into the prompt'
PY
echo "as described"
