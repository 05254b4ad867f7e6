#!/usr/bin/env bash
# x-transformers 2.16.1: by default NonAutoregressiveWrapper is trained away from its targets.
#
# With use_simple_mdlm_loss_weight, which is on by default, the loss of each sequence is multiplied by
# schedule'(t) / (1 - schedule(t)), which is -1 / t for the linear schedule. The loss is a negative cross entropy: a step of
# gradient descent makes the masked tokens less likely. Seen: the default loss of a fresh model is below 0, and after 60
# steps of Adam on one repeated text the masked tokens' cross entropy has risen (3.3 to 12 nats), where it falls
# without the weight.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 x-transformers==2.16.1 frozendict==2.4.6
"$python" - 2>/dev/null <<'PY'
import torch
import torch.nn.functional as F
from x_transformers import Encoder, TransformerWrapper
from x_transformers.nonautoregressive_wrapper import NonAutoregressiveWrapper

MASK, LENGTH = 16, 8
text = torch.arange(LENGTH).repeat(16, 1)


def trained(**options):
    torch.manual_seed(0)
    net = TransformerWrapper(num_tokens=17, max_seq_len=LENGTH, attn_layers=Encoder(dim=32, depth=1, heads=2))
    model = NonAutoregressiveWrapper(net, mask_id=MASK, **options)
    hidden = torch.full_like(text, MASK)
    entropy = lambda: F.cross_entropy(net(hidden).transpose(1, 2), text).item()
    adam = torch.optim.Adam(model.parameters(), 3e-3)
    before, first = entropy(), None
    for _ in range(60):
        loss = model(text).loss
        first = loss.item() if first is None else first
        adam.zero_grad()
        loss.backward()
        adam.step()
    return first, before, entropy()


for name, options in dict(default={}, plain=dict(use_simple_mdlm_loss_weight=False)).items():
    first, before, after = trained(**options)
    print(f'{name}: first loss {first:.2f}; masked tokens cost {before:.2f} nats before, {after:.2f} after')
    if name == 'default':
        assert first < 0, 'the default loss is positive now'
        assert after > before + 1, 'the default loss teaches now'
    else:
        assert first > 0 and after < before - 1
PY
echo "as described"
