"""Classes beyond the core: an example or two of each."""
from .base import B, D, N, add, dec, flt, lens, lm, mems, tok

add('neo_mlp.plain', dict(type='NeoMLP', dim_in=3, dim_hidden=4, dim_out=2, dim_model=D, depth=2),
    dict(x=flt(B, 3)))
add('neo_mlp.embeds', dict(type='NeoMLP', dim_in=3, dim_hidden=4, dim_out=2, dim_model=D, depth=1,
                           encoder_kwargs=dict(attn_dim_head=8, heads=2)), dict(x=flt(B, 3)),
                           dict(return_embeds=True))
BELIEF = dict(type='BeliefStateWrapper', forward_decoder=lm(dec(), max_seq_len=12))
add('belief.plain', BELIEF, dict(seq=tok(B, 5)))
ENTROPY = dict(type='EntropyBasedTokenizer', decoder=lm(dec()), entropy_threshold=2.7)
add('entropy.plain', ENTROPY, dict(seq=tok(B, N)), grads=False)
