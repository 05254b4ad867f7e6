"""NeoMLP and its random Fourier features."""
from .base import B, D, add, flt

NEO = dict(type='NeoMLP', dim_in=3, dim_hidden=4, dim_out=2, dim_model=D, depth=2)
NUMBERS = dict(x=flt(B, 3))
add('neo_mlp.plain', NEO, NUMBERS)
add('neo_mlp.no_batch', NEO, dict(x=flt(3)))
add('neo_mlp.embeds', dict(NEO, depth=1, encoder_kwargs=dict(attn_dim_head=8, heads=2)), NUMBERS,
    dict(return_embeds=True))
add('neo_mlp.no_batch_embeds', dict(NEO, dim_hidden=1), dict(x=flt(3)), dict(return_embeds=True))
add('neo_mlp.encoder_kwargs', dict(NEO, encoder_kwargs=dict(
    heads=4, attn_dim_head=8, ff_glu=True, use_rmsnorm=True, rotary_pos_emb=True, attn_kv_heads=2)),
    NUMBERS)
add('neo_mlp.plain_encoder', dict(NEO, depth=1, encoder_kwargs={}), NUMBERS)
add('neo_mlp.fourier', dict(type='RandomFourierEmbed', dim=6), dict(times=flt(B, 3)), grads=False)
add('neo_mlp.fourier_times', dict(type='RandomFourierEmbed', dim=5), dict(times=flt(4)), grads=False)
