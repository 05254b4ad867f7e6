"""What the program has and the Python library has not, written for it: the program's own modules, and the part of the
flash_attn package that packed sequences need."""
import sys
import types

import torch
from torch import nn
from torch.nn import functional as F
from x_transformers import TransformerWrapper


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


class ZetaTransformer(TransformerWrapper):
    """Zeta's Transformer by its documentation page, with the arguments of that page."""

    def __init__(self, *, num_tokens, max_seq_len, attn_layers, embedding_provider=None, emb_dim=None, max_mem_len=0.,
                 shift_mem_down=0, emb_dropout=0., post_emb_norm=False, num_memory_tokens=None, tie_embedding=False,
                 logits_dim=None, use_abs_pos_emb=True, scaled_sinu_pos_emb=False, l2norm_embed=False,
                 emb_frac_gradient=1.):
        kept = int(max_mem_len * max_seq_len) if max_mem_len < 1 else int(max_mem_len)
        super().__init__(num_tokens=num_tokens, max_seq_len=max_seq_len, attn_layers=attn_layers,
                         token_emb=embedding_provider, emb_dim=emb_dim, max_mem_len=kept, shift_mem_down=shift_mem_down,
                         emb_dropout=emb_dropout, post_emb_norm=post_emb_norm, num_memory_tokens=num_memory_tokens,
                         tie_embedding=tie_embedding, logits_dim=logits_dim, use_abs_pos_emb=use_abs_pos_emb,
                         scaled_sinu_pos_emb=scaled_sinu_pos_emb, l2norm_embed=l2norm_embed,
                         emb_frac_gradient=emb_frac_gradient)
        # An embedding of positions alone has no rows.
        self.token_emb.register_forward_hook(lambda module, args, out: out.expand(*args[0].shape, -1))

    def forward(self, x, return_embeddings=False, return_logits_and_embeddings=False, return_intermediates=False,
                mask=None, return_mems=False, return_attn=False, mems=None, pos=None, prepend_embeds=None,
                sum_embeds=None, **kwargs):
        return super().forward(x, return_embeddings=return_embeddings,
                               return_logits_and_embeddings=return_logits_and_embeddings,
                               return_intermediates=return_intermediates, mask=mask, return_mems=return_mems,
                               return_attn=return_attn, mems=mems, pos=pos, prepend_embeds=prepend_embeds,
                               sum_embeds=sum_embeds, **kwargs)


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
