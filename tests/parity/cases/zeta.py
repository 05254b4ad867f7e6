"""Zeta's Transformer: every argument of its documentation page.

The page says nothing of numbers: they are TransformerWrapper's (own_modules.py)."""
from .base import B, CONTEXT, D, MASK, N, V, X, add, dec, enc, flt, ints, mems

ZETA = dict(type='ZetaTransformer', num_tokens=V, max_seq_len=12, attn_layers=dec())
TOKENS = dict(type='TokenEmbedding', dim=D, num_tokens=V)


def case(name, inputs=X, kwargs=None, **options):
    add(f'zeta.{name}', dict(ZETA, **options), inputs, kwargs)


case('plain')
case('embedding_provider', embedding_provider=TOKENS)
case('provider_l2norm', embedding_provider=dict(TOKENS, l2norm_embed=True))
case('provider_of_positions', embedding_provider=dict(type='AbsolutePositionalEmbedding', dim=D, max_seq_len=12),
     use_abs_pos_emb=False)
case('provider_sinusoidal', embedding_provider=dict(type='ScaledSinusoidalEmbedding', dim=D, theta=100))
case('emb_dim', emb_dim=10)
case('emb_dropout', emb_dropout=0.2)
case('post_emb_norm', post_emb_norm=True)
case('num_memory_tokens', num_memory_tokens=2)
case('tie_embedding', tie_embedding=True)
case('logits_dim', logits_dim=6)
case('no_positions', use_abs_pos_emb=False)
case('scaled_sinu_pos_emb', scaled_sinu_pos_emb=True)
case('l2norm_embed', l2norm_embed=True)
case('emb_frac_gradient', emb_frac_gradient=0.3)
case('embeddings', X, dict(return_embeddings=True))
case('logits_and_embeddings', X, dict(return_logits_and_embeddings=True))
case('intermediates', X, dict(return_intermediates=True))
case('attn', X, dict(return_attn=True))
case('mask', X | MASK, attn_layers=enc())
case('max_mem_len', X, dict(return_mems=True), max_mem_len=5)
case('share_of_memory', X | mems(2), dict(return_mems=True), max_mem_len=0.45)
case('shift_mem_down', X | mems(2), dict(return_mems=True), max_mem_len=4, shift_mem_down=1)
case('pos', X | dict(pos=ints([3, 1, 4, 1, 5, 9, 2])))
case('pos_embedded', X | dict(pos=flt(N, D)))
case('prepend_embeds', X | dict(prepend_embeds=flt(B, 3, D)))
case('sum_embeds', X | dict(sum_embeds=flt(B, N, D)))
case('of_the_layers', X | CONTEXT, attn_layers=dec(cross_attend=True))
