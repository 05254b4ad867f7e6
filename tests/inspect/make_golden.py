"""Writes ../golden/inspect.json: what x-transformers 2.16.1 hands out of a small model as it reads a few tokens, with the
model's weights. Needs x-transformers and torch.

make_golden.py"""
import json
from pathlib import Path

import torch
from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

CONFIG = {'type': 'TransformerWrapper', 'num_tokens': 7, 'max_seq_len': 8,
          'attn_layers': {'type': 'Decoder', 'dim': 8, 'depth': 2, 'heads': 2, 'attn_dim_head': 4, 'rel_pos_bias': True,
                          'attn_num_mem_kv': 1, 'attn_gate_values': True}}


def numbers(tensor):
    return [round(number, 7) for number in tensor.detach().flatten().tolist()]


def main():
    torch.manual_seed(0)
    layers = {key: value for key, value in CONFIG['attn_layers'].items() if key != 'type'}
    net = TransformerWrapper(num_tokens=CONFIG['num_tokens'], max_seq_len=CONFIG['max_seq_len'], attn_layers=Decoder(**layers))
    for parameter in net.parameters():
        parameter.data = torch.randn_like(parameter).mul(0.3).mul(10_000).round().div(10_000)
    net.eval()
    tokens = torch.tensor([[3, 1, 4, 1, 5, 2, 6]])
    with torch.no_grad():
        logits, intermediates = net(tokens[:, :-1], return_intermediates=True)
        loss = AutoregressiveWrapper(net)(tokens)
    attentions = intermediates.attn_intermediates
    golden = {
        'config': CONFIG,
        'weights': {name: {'shape': list(tensor.shape), 'values': numbers(tensor)} for name, tensor in net.state_dict().items()},
        'tokens': tokens[0].tolist(),
        'loss': loss.item(),
        'losses': numbers(torch.nn.functional.cross_entropy(logits[0], tokens[0, 1:], reduction='none')),
        'attention': [numbers(each.post_softmax_attn) for each in attentions],
        'layer_norms': [hidden.norm(dim=-1).mean().item() for hidden in intermediates.layer_hiddens],
    }
    path = Path(__file__).parents[1] / 'golden' / 'inspect.json'
    path.write_text(json.dumps(golden) + '\n')


if __name__ == '__main__':
    main()
