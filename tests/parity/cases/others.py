"""Classes beyond the core: an example or two of each."""
from .base import B, D, N, add, dec, flt, lens, lm, mems, tok

X = dict(x=tok(B, N))
XL = lm(dec(rel_pos_bias=True), max_seq_len=6, max_mem_len=12)
add('xl.loss', dict(type='XLAutoregressiveWrapper', net=XL), dict(x=tok(B, 13)))
add('xl.loss_mems', dict(type='XLAutoregressiveWrapper', net=XL), dict(x=tok(B, 7)) | mems(2))
add('xl.ignore_index', dict(type='XLAutoregressiveWrapper', net=XL, ignore_index=3, pad_value=1),
    dict(x=tok(B, 13)))

add('dpo.plain', dict(type='DPO', model=lm(dec())),
    dict(preferred_seq=tok(B, N), unpreferred_seq=tok(B, N),
                                                        prompt_mask=lens(N, 3, 2)))
add('dpo.beta_pad', dict(type='DPO', model=lm(dec()), beta=0.3, pad_id=2),
    dict(preferred_seq=tok(B, N), unpreferred_seq=tok(B, N), prompt_mask=lens(N, 3, 2)))
add('neo_mlp.plain', dict(type='NeoMLP', dim_in=3, dim_hidden=4, dim_out=2, dim_model=D, depth=2),
    dict(x=flt(B, 3)))
add('neo_mlp.embeds', dict(type='NeoMLP', dim_in=3, dim_hidden=4, dim_out=2, dim_model=D, depth=1,
                           encoder_kwargs=dict(attn_dim_head=8, heads=2)), dict(x=flt(B, 3)),
                           dict(return_embeds=True))
BELIEF = dict(type='BeliefStateWrapper', forward_decoder=lm(dec(), max_seq_len=12))
add('belief.plain', BELIEF, dict(seq=tok(B, 5)))
ENTROPY = dict(type='EntropyBasedTokenizer', decoder=lm(dec()), entropy_threshold=2.7)
add('entropy.plain', ENTROPY, dict(seq=tok(B, N)), grads=False)
