"""What the program has and the Python library has not, written for it: the program's own modules, and the part of the
flash_attn package that packed sequences need."""
import sys
import types

import torch
from torch import nn
from torch.nn import functional as F


class MinGRU(nn.Module):
    """The recurrence step by step, where the program has it as a scan."""

    def __init__(self, dim, dim_out=None):
        super().__init__()
        self.to_hidden_and_gate = nn.Linear(dim, 2 * (dim_out or dim), bias=False)

    def forward(self, x, hx=None):
        hidden, gate = self.to_hidden_and_gate(x).chunk(2, -1)
        candidate = torch.where(hidden >= 0, hidden + 0.5, hidden.sigmoid())
        states = [torch.zeros_like(candidate[:, 0]) if hx is None else hx[:, 0]]
        for z, new in zip(gate.sigmoid().unbind(1), candidate.unbind(1)):
            states.append((1 - z) * states[-1] + z * new)
        return torch.stack(states[1:], 1), states[-1][:, None]


class CausalConv1d(nn.Conv1d):
    """The convolution of torch.nn over [b, n, d], seeing earlier tokens only."""

    def __init__(self, dim, dim_out=None, kernel_size=4, depthwise=False):
        super().__init__(dim, dim_out or dim, kernel_size, groups=dim if depthwise else 1)

    def forward(self, x, hx=None):
        past = self.kernel_size[0] - 1
        seen = F.pad(x, (0, 0, past, 0)) if hx is None else torch.cat((hx, x), 1)
        return super().forward(seen.transpose(1, 2)).transpose(1, 2), seen[:, seen.shape[1] - past:]


def flash_attn_varlen_func(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q=None, max_seqlen_k=None, dropout_p=0.,
                           softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0., alibi_slopes=None,
                           deterministic=False):
    """The documented meaning of flash_attn's function: [tokens, heads, d], each sequence by itself."""
    if softmax_scale is None:
        softmax_scale = q.shape[-1] ** -0.5
    outs = []
    for q_from, q_to, k_from, k_to in zip(cu_seqlens_q[:-1], cu_seqlens_q[1:], cu_seqlens_k[:-1], cu_seqlens_k[1:]):
        own_q, own_k, own_v = (t.transpose(0, 1) for t in (q[q_from:q_to], k[k_from:k_to], v[k_from:k_to]))
        own_k, own_v = (t.repeat_interleave(q.shape[1] // t.shape[0], 0) for t in (own_k, own_v))
        scores = own_q @ own_k.transpose(1, 2) * softmax_scale
        i, j = scores.shape[1:]
        offset = torch.arange(j)[None] - torch.arange(i)[:, None] - (j - i)
        if softcap > 0:
            scores = softcap * (scores / softcap).tanh()
        if alibi_slopes is not None:
            scores = scores - alibi_slopes.view(-1, 1, 1) * offset.abs()
        left, right = window_size[0], 0 if causal else window_size[1]
        hidden = torch.zeros(i, j, dtype=torch.bool)
        if left >= 0:
            hidden |= offset < -left
        if right >= 0:
            hidden |= offset > right
        outs.append((scores.masked_fill(hidden, -torch.inf).softmax(-1) @ own_v).transpose(0, 1))
    return torch.cat(outs)


def install():
    """Lets the library import flash_attn and think that there is a device for it."""
    sys.modules['flash_attn'] = types.SimpleNamespace(flash_attn_varlen_func=flash_attn_varlen_func)
    torch.cuda.get_device_capability = lambda *_: (8, 0)
