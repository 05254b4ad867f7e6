"""Several tokens at each place: MultiInputTransformerWrapper.

Python fails with interspersed memory tokens and with the attention z-loss, which have no case."""
from .base import (B, CONTEXT, D, N, add, bit, dec, enc, flt, ints, lens, mem_masks, mems, right,
                   tok)

X = {'x.note': tok(B, N, bound=9), 'x.pitch': tok(B, N, bound=7)}
MASK = dict(mask=lens(N, N, 4))
PREPENDED = dict(prepend_embeds=flt(B, 3, D))


def net(layers=None, **options):
    return dict(dict(type='MultiInputTransformerWrapper', num_tokens=dict(note=9, pitch=7),
                     max_seq_len=12, attn_layers=layers or dec()), **options)


for name, config, inputs, *kwargs in [
    ('plain', net(), X),
    ('one_input', net(num_tokens=dict(note=9)), {'x.note': tok(B, N, bound=9)}),
    ('one_row', net(), X | {'x.pitch': tok(1, N, bound=7)}),
    ('mask', net(enc()), X | MASK),
    ('emb_dim', net(emb_dim=6), X),
    ('emb_dim_everything', net(emb_dim=6, post_emb_norm=True, emb_frac_gradient=0.3,
                               num_memory_tokens=2), X | dict(sum_embeds=flt(B, N, 6))),
    ('post_emb_norm', net(post_emb_norm=True), X),
    ('emb_dropout', net(emb_dropout=0.3), X),
    ('emb_frac_gradient', net(emb_frac_gradient=0.1), X),
    ('no_positions', net(max_seq_len=0), X),
    ('no_abs_pos_emb', net(use_abs_pos_emb=False), X),
    ('sinusoidal', net(scaled_sinu_pos_emb=True), X),
    ('rotary', net(dec(rotary_pos_emb=True)), X),
    ('memory_tokens', net(num_memory_tokens=2), X),
    ('memory_tokens_mask', net(enc(), num_memory_tokens=2), X | MASK),
    ('memory_tokens_intermediates', net(num_memory_tokens=2), X, dict(return_intermediates=True)),
    ('memory_tokens_every_unused', net(memory_tokens_interspersed_every=3), X),
    ('return_only_embed', net(return_only_embed=True), X),
    ('embeddings', net(), X, dict(return_embeddings=True)),
    ('logits_and_embeddings', net(), X, dict(return_logits_and_embeddings=True)),
    ('intermediates', net(), X, dict(return_intermediates=True)),
    ('attn', net(), X, dict(return_attn=True)),
    ('attn_z_loss_weight', net(attn_z_loss_weight=0.5), X, dict(attn_z_loss_weight=0.5)),
    ('return_mems', net(), X, dict(return_mems=True)),
    ('return_mems_first', net(), X, dict(return_mems=True, return_attn=True)),
    ('mems', net(max_mem_len=5), X | mems(2), dict(return_mems=True)),
    ('mems_intermediates', net(), X | mems(2), dict(return_mems=True, return_intermediates=True)),
    ('mem_masks', net(enc()), X | mems(2) | mem_masks(2, 3, 2)),
    ('shift_mem_down', net(shift_mem_down=1), X | mems(2), dict(return_mems=True)),
    ('pos', net(), X | dict(pos=ints([3, 1, 4, 1, 5, 9, 2]))),
    ('pos_embedded', net(), X | dict(pos=flt(N, D))),
    ('sum_embeds', net(), X | dict(sum_embeds=flt(B, N, D))),
    ('seq_start_pos', net(dec(attn_flash=True)), X | dict(seq_start_pos=ints([0, 3]))),
    ('prepend', net(), X | PREPENDED),
    ('prepend_mask', net(enc()), X | PREPENDED | dict(prepend_mask=bit(B, 3))),
    ('prepend_both_masks', net(enc()), X | PREPENDED | dict(prepend_mask=bit(B, 3)) | MASK),
    ('context', net(dec(cross_attend=True)), X | CONTEXT),
    ('kv_mask', net(enc()), X | dict(self_attn_kv_mask=right(N, N, 5))),
]:
    add(f'multi_input.{name}', config, inputs, *kwargs)

CACHE = {f'cache.attn_intermediates.{i}.cached_kv.{j}': flt(B, 4, N - 1, 8)
         for i in range(2) for j in range(2)} | {'cache.cache_length': ('int', (), [N - 1])}
NEW = {'x.note': tok(B, 1, bound=9), 'x.pitch': tok(B, 1, bound=7)}
add('multi_input.cache', net(), X | CACHE)
add('multi_input.cache_of_earlier', net(max_seq_len=0), NEW | CACHE,
    dict(input_not_include_cache=True))

# Python's numbers where it is wrong (python_quirks).
add('multi_input.prepend_memory_tokens', dict(net(num_memory_tokens=2), python_quirks=True),
    X | PREPENDED)
add('multi_input.cache_of_earlier_positions', dict(net(), python_quirks=True), NEW | CACHE,
    dict(input_not_include_cache=True))
