"""TransformerWrapper: its options, the arguments of its forward, and both with each other."""
from .base import (B, CONTEXT, D, MASK, N, V, X, add, bit, cross, dec, enc, flt, ints, lens, lm,
                   mem_masks, mems, pre, tok)
from .stacks import ADDED, cache

HID = dict(return_intermediates=True)
TYPE = {'embed_ids.part': tok(B, N, bound=3), 'embed_ids.kind': tok(B, N, bound=4)}
for name, config, inputs, *kwargs in [
    ('plain', lm(dec()), X),
    ('encoder', lm(enc()), X | MASK),
    ('one_token', lm(dec()), dict(x=tok(1, 1))),
    ('full_length', lm(dec()), dict(x=tok(1, 12))),
    ('num_tokens', lm(dec(), num_tokens=5), dict(x=tok(B, N, bound=5))),
    ('no_abs_pos', lm(dec(), use_abs_pos_emb=False), X),
    ('max_seq_len_0', lm(dec(), max_seq_len=0), X),
    ('scaled_sinu', lm(enc(), scaled_sinu_pos_emb=True), X),
    ('l2norm_embed', lm(dec(), l2norm_embed=True), X),
    ('l2norm_embed_tied', lm(dec(), l2norm_embed=True, tie_embedding=True), X),
    ('emb_dim', lm(dec(), emb_dim=10), X),
    ('emb_dim_sinu_norm', lm(dec(), emb_dim=10, scaled_sinu_pos_emb=True, post_emb_norm=True), X),
    ('post_emb_norm', lm(dec(), post_emb_norm=True), X),
    ('emb_dropout', lm(dec(), emb_dropout=0.2), X),
    ('emb_frac_gradient', lm(dec(), emb_frac_gradient=0.3), X),
    ('emb_frac_gradient_tied', lm(dec(), emb_frac_gradient=0.3, tie_embedding=True), X),
    ('tie_embedding', lm(dec(), tie_embedding=True), X),
    ('logits_dim', lm(dec(), logits_dim=6), X),
    ('output_heads', lm(dec(), num_output_heads=3, logits_dim=4), X),
    ('output_heads_both', lm(dec(), num_output_heads=2), X,
     dict(return_logits_and_embeddings=True)),
    ('squeeze', lm(dec(), logits_dim=1, squeeze_out_last_dim=True), X),
    ('squeeze_heads', lm(dec(), logits_dim=1, num_output_heads=2, squeeze_out_last_dim=True), X),
    ('squeeze_not', lm(dec(), logits_dim=2, squeeze_out_last_dim=True), X),
    ('only_embed', lm(dec(), return_only_embed=True), X),
    ('token_emb', lm(dec(),
                     token_emb=dict(type='TokenEmbedding', dim=D, num_tokens=V,
                                    l2norm_embed=True)), X),
    ('token_emb_torch', lm(dec(),
                           token_emb=dict(type='Embedding', num_embeddings=V, embedding_dim=D)), X),
    ('to_logits', lm(dec(), to_logits=dict(type='Linear', in_features=D, out_features=9)), X),
    ('to_logits_feed_forward', lm(dec(), to_logits=dict(type='FeedForward', dim=D, mult=1)),
     X | {'to_logits_kwargs.deep_embed': flt(B, N, D)}),
    ('to_logits_recurrent', lm(dec(), to_logits=dict(type='MinGRU', dim=D, dim_out=6)), X,
     dict(return_embeddings=True)),
    ('to_logits_mixture', lm(dec(), mixture_of_softmax=True,
                             to_logits=dict(type='Linear', in_features=D, out_features=9)), X),
    ('token_emb_tied', lm(dec(), tie_embedding=True,
                          token_emb=dict(type='TokenEmbedding', dim=D, num_tokens=V)), X),
    ('token_emb_convolution',
     lm(enc(), token_emb=dict(type='Embedding', num_embeddings=V, embedding_dim=10, padding_idx=3),
        emb_dim=10, to_logits=dict(type='Linear', in_features=D, out_features=9, bias=False)),
     X | MASK),
    ('embed_num_tokens', lm(dec(), embed_num_tokens=dict(part=3, kind=4)), X | TYPE),
    ('sum_embeds', lm(dec()), X | dict(sum_embeds=flt(B, N, D))),
    ('embeds_everything',
     lm(dec(), embed_num_tokens=dict(part=3, kind=4), post_emb_norm=True, emb_dim=10),
     X | TYPE | dict(sum_embeds=flt(B, N, 10), prepend_embeds=flt(B, 3, 10))),
    ('pos', lm(dec()), X | dict(pos=ints([2, 0, 1, 5, 6, 7, 9]))),
    ('pos_batch', lm(enc(), l2norm_embed=True), X
     | dict(pos=ints([[2, 0, 1, 5, 6, 7, 9], [0, 1, 2, 3, 4, 5, 6]]))),
    ('pos_sinu', lm(dec(), scaled_sinu_pos_emb=True), X | dict(pos=ints([2, 0, 1, 5, 6, 7, 9]))),
    ('pos_embedding', lm(dec()), X | dict(pos=flt(B, N, D))),
    ('pos_rotary', lm(dec(rotary_pos_emb=True)), X | dict(pos=ints([2, 3, 4, 5, 6, 7, 9]))),
    ('pos_alibi', lm(dec(alibi_pos_bias=True)), X | dict(pos=ints([2, 3, 4, 5, 6, 7, 9]))),
    ('pos_alibi_batch', lm(dec(alibi_pos_bias=True, attn_flash=True)),
     X | dict(pos=ints([[0, 2, 3, 5, 6, 7, 9], [0, 1, 2, 3, 4, 5, 6]]))),
    ('seq_start_pos', lm(enc()), X | dict(seq_start_pos=ints([0, 3]))),
    ('seq_start_pos_l2norm', lm(enc(), l2norm_embed=True), X | dict(seq_start_pos=ints([0, 3]))),
    ('seq_start_pos_flash', lm(dec(attn_flash=True)), X | dict(seq_start_pos=ints([2, 3]))),
    ('seq_start_pos_mem_kv', lm(dec(attn_num_mem_kv=1)), X | dict(seq_start_pos=ints([0, 3]))),
    ('mask_holes', lm(dec()), X | dict(mask=bit(B, N))),
    ('attn_mask', lm(enc()), X | dict(attn_mask=bit(N, N))),
    ('attn_mask_dec', lm(dec()), X | MASK | dict(attn_mask=bit(4, N, N))),
    ('self_attn_kv_mask', lm(dec()), X | dict(self_attn_kv_mask=bit(B, N))),
    ('context', lm(dec(cross_attend=True)), X | CONTEXT),
    ('context_no_mask', lm(dec(cross_attend=True, attn_flash=True)), X
     | dict(context=flt(B, 5, D))),
    ('context_masked', lm(enc(cross_attend=True)), X | MASK | CONTEXT),
    ('context_rotary', lm(dec(cross_attend=True, rotary_pos_emb=True)), X | CONTEXT
     | dict(context_pos=ints([4, 5, 6, 7, 8]))),
    ('context_kv_heads', lm(dec(cross_attend=True, attn_kv_heads=2, cross_attn_num_mem_kv=2)), X
     | CONTEXT),
    ('context_dim', lm(dec(cross_attend=True, cross_attn_dim_context=6)), X
     | dict(context=flt(B, 5, 6))),
    ('cross_attender', lm(cross()), X | CONTEXT | MASK),
    ('prefix_decoder', lm(pre()), X, dict(prefix_attn_len=3)),
    ('prefix_decoder_each', lm(pre(rotary_pos_emb=True)), X | MASK
     | dict(prefix_attn_len=ints([2, 4]))),
    ('embeddings', lm(dec()), X, dict(return_embeddings=True)),
    ('logits_and_embeddings', lm(dec(), logits_dim=4), X, dict(return_logits_and_embeddings=True)),
    ('embeddings_and_intermediates', lm(dec()), X, dict(return_embeddings_and_intermediates=True)),
    ('intermediates', lm(dec()), X, HID),
    ('intermediates_encoder', lm(enc(pre_norm=False), num_memory_tokens=2), X | MASK, HID),
    ('intermediates_mems', lm(dec(), max_mem_len=5), X | mems(2), HID | dict(return_mems=True)),
    ('intermediates_cross', lm(dec(cross_attend=True)), X | CONTEXT, HID),
    ('attn', lm(dec()), X, dict(return_attn=True)),
    ('attn_encoder', lm(enc(attn_kv_heads=2, attn_num_mem_kv=2)), X | MASK, dict(return_attn=True)),
    ('attn_cross', lm(dec(cross_attend=True)), X | CONTEXT, dict(return_attn=True)),
    ('entropies', lm(dec()), X, dict(return_logit_entropies=True)),
    ('z_loss', lm(dec()), X, dict(return_attn_z_loss=True)),
    ('z_loss_weight', lm(enc(), attn_z_loss_weight=0.5), X,
     dict(return_attn_z_loss=True, attn_z_loss_weight=0.1)),
    ('mems', lm(dec(), max_mem_len=5), X, dict(return_mems=True)),
    ('mems_embeddings_and_intermediates', lm(dec(), max_mem_len=5), X | mems(2),
     dict(return_embeddings_and_intermediates=True, return_mems=True)),
    ('mems_given', lm(dec(), max_mem_len=5), X | mems(2), dict(return_mems=True)),
    ('mems_long', lm(dec(), max_mem_len=20), X | mems(2), dict(return_mems=True)),
    ('mems_0', lm(dec(), max_mem_len=0), X | mems(2), dict(return_mems=True)),
    ('mems_not_returned', lm(dec(), max_mem_len=5), X | mems(2)),
    ('mems_masks', lm(dec(), max_mem_len=5), X | mems(2) | mem_masks(2, 1, 2) | MASK,
     dict(return_mems=True)),
    ('mems_encoder', lm(enc(), max_mem_len=5), X | mems(2) | MASK, dict(return_mems=True)),
    ('mems_shift', lm(dec(depth=3), max_mem_len=5, shift_mem_down=1), X | mems(3),
     dict(return_mems=True)),
    ('mems_shift_2', lm(dec(depth=3, rotary_pos_emb=True), max_mem_len=5, shift_mem_down=2), X
     | mems(3),
     dict(return_mems=True)),
    ('mems_rotary', lm(dec(rotary_pos_emb=True, attn_kv_heads=2, attn_num_mem_kv=2),
                       max_mem_len=5), X | mems(2),
     dict(return_mems=True)),
    ('mems_xpos', lm(dec(rotary_xpos=True), max_mem_len=5), X | mems(2), dict(return_mems=True)),
    ('mems_alibi', lm(dec(alibi_pos_bias=True, attn_flash=True), max_mem_len=5), X | mems(2),
     dict(return_mems=True)),
    ('mems_attn', lm(dec(), max_mem_len=5), X | mems(2), dict(return_attn=True)),
    ('mems_memory_tokens', lm(dec(), max_mem_len=5, num_memory_tokens=2), X | mems(2),
     dict(return_mems=True)),
    ('memory_tokens', lm(dec(), num_memory_tokens=3), X),
    ('memory_tokens_mask', lm(enc(), num_memory_tokens=3), X | MASK),
    ('memory_tokens_dec_mask', lm(dec(), num_memory_tokens=3), X | MASK, HID),
    ('memory_tokens_rotary', lm(enc(rotary_pos_emb=True), num_memory_tokens=2), X | MASK),
    ('memory_tokens_alibi', lm(enc(alibi_pos_bias=True), num_memory_tokens=2), X),
    ('memory_tokens_every', lm(dec(), num_memory_tokens=2, memory_tokens_interspersed_every=3), X),
    ('memory_tokens_every_exact',
     lm(dec(rotary_pos_emb=True), num_memory_tokens=1, memory_tokens_interspersed_every=2),
     dict(x=tok(B, 6))),
    ('memory_tokens_prepend', lm(enc(), num_memory_tokens=2), X | MASK
     | dict(prepend_embeds=flt(B, 3, D))),
    ('cls', lm(enc(), use_cls_token=True), X),
    ('cls_mask', lm(enc(), use_cls_token=True, logits_dim=5), X | MASK),
    ('cls_several', lm(enc(), use_cls_token=True, num_cls_tokens=3), X | MASK),
    ('cls_intermediates', lm(enc(), use_cls_token=True, num_cls_tokens=2), X | MASK, HID),
    ('cls_memory_tokens', lm(enc(), use_cls_token=True, num_memory_tokens=2), X | MASK),
    ('cls_prepend', lm(enc(), use_cls_token=True), X | MASK
     | dict(prepend_embeds=flt(B, 3, D), prepend_mask=lens(3, 3, 1))),
    ('cls_decoder', lm(dec(), use_cls_token=True), X),
    ('cls_rotary', lm(enc(rotary_pos_emb=True), use_cls_token=True), X | MASK),
    ('cls_squeeze', lm(enc(), use_cls_token=True, logits_dim=1, squeeze_out_last_dim=True), X),
    ('average_pool', lm(enc(), average_pool_embed=True), X),
    ('average_pool_mask', lm(enc(), average_pool_embed=True, logits_dim=3), X | MASK),
    ('average_pool_memory_tokens', lm(enc(), average_pool_embed=True, num_memory_tokens=2), X
     | MASK),
    ('attn_pool', lm(enc(), attn_pool=True), X),
    ('attn_pool_mask', lm(enc(), attn_pool=True, num_pooled_tokens=3), X | MASK),
    ('attn_pool_depth', lm(enc(), attn_pool=True, attn_pool_depth=2, num_pooled_tokens=2), X
     | MASK),
    ('attn_pool_dim', lm(enc(), attn_pool=True, dim_pooled_tokens=10), X | MASK),
    ('attn_pool_intermediates', lm(enc(), attn_pool=True), X, HID),
    ('attn_pool_decoder', lm(dec(), attn_pool=True), X),
    ('attn_pool_decoder_intermediates', lm(dec(), attn_pool=True, num_pooled_tokens=2), X, HID),
    ('attn_pool_embeddings', lm(enc(), attn_pool=True), X, dict(return_embeddings=True)),
    ('prepend', lm(dec()), X | dict(prepend_embeds=flt(B, 3, D))),
    ('prepend_mask', lm(enc()), X | dict(prepend_embeds=flt(B, 3, D), prepend_mask=lens(3, 3, 1))),
    ('prepend_both_masks', lm(enc()), X | MASK
     | dict(prepend_embeds=flt(B, 3, D), prepend_mask=lens(3, 3, 1))),
    ('prepend_seq_mask', lm(dec()), X | MASK | dict(prepend_embeds=flt(B, 3, D))),
    ('prepend_rotary', lm(dec(rotary_pos_emb=True)), X | dict(prepend_embeds=flt(B, 3, D))),
    ('prepend_only', lm(dec()), dict(prepend_embeds=flt(B, 3, D)), dict(x=None)),
    ('recycling', lm(dec(), recycling=True), X, dict(recycle_steps=3)),
    ('recycling_train_steps', lm(enc(), recycling=True, train_max_recycle_steps=2), X | MASK,
     dict(recycle_steps=2)),
    ('recycle_steps_1', lm(dec()), X, dict(recycle_steps=1)),
    ('mixture_of_softmax', lm(dec(), mixture_of_softmax=True), X),
    ('mixture_of_softmax_k', lm(dec(), mixture_of_softmax=True, mixture_of_softmax_k=2), X | MASK),
    ('sigsoftmax', lm(dec(), sigsoftmax_logits=True), X),
    ('deep_embed', lm(dec(), ff_deep_embed=True), X),
    ('next_embed', lm(dec(), add_continuous_pred_head=True), X, dict(return_next_embed_pred=True)),
    ('next_embed_unused', lm(dec(), add_continuous_pred_head=True), X),
    ('condition', lm(dec(use_adaptive_layernorm=True, dim_condition=6)), X
     | dict(condition=flt(B, 6))),
    ('additional_kv', lm(dec()), X | ADDED),
    ('attn_bias', lm(dec()), X | dict(attn_bias=flt(4, N, N))),
    ('execute_order', lm(dec()), X, dict(layers_execute_order=[0, 1, 0, 1, 2, 3])),
    ('cache', lm(dec()), dict(x=tok(B, 5)) | cache(2, 4)),
    ('cache_intermediates', lm(dec(rotary_pos_emb=True, attn_kv_heads=2)), dict(x=tok(B, 5))
     | cache(2, 4, 2), HID),
    ('cache_alibi_flash', lm(dec(alibi_pos_bias=True, attn_flash=True)), dict(x=tok(B, 5))
     | cache(2, 4)),
    ('cache_start', lm(dec(attn_flash=True)), dict(x=tok(B, 5)) | cache(2, 4)
     | dict(seq_start_pos=ints([0, 2]))),
    ('cache_not_included', lm(dec(), input_not_include_cache=True), dict(x=tok(B, 1))
     | cache(2, 4)),
    ('cache_not_included_age', lm(dec()), dict(x=tok(B, 2)) | cache(2, 4),
     dict(input_not_include_cache=True, cache_age=2)),
    ('cache_not_included_rotary', lm(dec(rotary_pos_emb=True, attn_num_mem_kv=2)),
     dict(x=tok(B, 3)) | cache(2, 4),
     dict(input_not_include_cache=True, cache_age=3)),
    ('cache_not_included_sinu', lm(dec(), scaled_sinu_pos_emb=True, input_not_include_cache=True),
     dict(x=tok(B, 1)) | cache(2, 4)),
    ('cache_not_included_xpos', lm(dec(rotary_xpos=True), input_not_include_cache=True),
     dict(x=tok(B, 1)) | cache(2, 4)),
    ('cache_prepend', lm(dec()), dict(x=tok(B, 5), prepend_embeds=flt(B, 2, D)) | cache(2, 6)),
    ('cache_mems', lm(dec(rotary_pos_emb=True), max_mem_len=4), dict(x=tok(B, 5)) | cache(2, 4)
     | mems(2)),
    ('everything', lm(dec(rotary_xpos=True, attn_kv_heads=2, attn_num_mem_kv=2, attn_qk_norm=True,
                          attn_qk_norm_groups=2,
                          attn_qk_norm_dim_scale=True, attn_flash=True, cross_attend=True,
                          ff_glu=True, ff_swish=True,
                          ff_no_bias=True, use_rmsnorm=True), emb_dim=10, max_mem_len=6,
                          num_memory_tokens=2, tie_embedding=False,
                      post_emb_norm=True), X | MASK | CONTEXT | mems(2), dict(return_mems=True)),
]:
    add(f'wrapper.{name}', config, inputs, *kwargs)
# a token_emb with keyword arguments: it looks at the positions given, not at the tokens
add('wrapper.token_emb_kwargs',
    lm(dec(), token_emb=dict(type='AbsolutePositionalEmbedding', dim=D, max_seq_len=12)),
    X | {'token_emb_kwargs.pos': tok(B, N, bound=12)})

# AttentionPool and ViTransformerWrapper
ENC = dict(type='Encoder', dim=D, depth=2, heads=4, attn_dim_head=8)
SEEN = dict(context=flt(B, 5, D), mask=lens(5, 5, 3))


def pool(**options):
    return dict(dict(type='AttentionPool', dim=D, heads=4, dim_head=8), **options)


for name, config, inputs, *kwargs in [
    ('plain', pool(), dict(context=flt(B, 5, D))),
    ('mask', pool(), SEEN),
    ('tokens', pool(num_pooled_tokens=3), SEEN),
    ('dim_context', pool(dim_context=6), dict(context=flt(B, 5, 6))),
    ('add_residual', pool(add_residual=True, num_pooled_tokens=2), SEEN),
    ('depth', pool(depth=2, num_pooled_tokens=2), SEEN),
    ('depth_dim_context', pool(depth=2, dim_context=6), dict(context=flt(B, 5, 6))),
    ('transformer_blocks', pool(use_transformer_blocks=True), SEEN),
    ('squeeze', pool(squeeze_output=True), SEEN),
    ('squeeze_depth', pool(squeeze_output=True, depth=2), SEEN),
    ('attn_kwargs', pool(attn_kwargs=dict(kv_heads=2, num_mem_kv=2, qk_norm=True)), SEEN),
    ('attn_kwargs_depth', pool(depth=2, attn_kwargs=dict(kv_heads=2)), SEEN),
    ('flash', pool(attn_kwargs=dict(flash=True)), SEEN),
    ('default_heads', dict(type='AttentionPool', dim=D), SEEN),
]:
    add(f'pool.{name}', config, inputs, *kwargs)

IMG = dict(img=flt(B, 3, 8, 8))


def vit(net=ENC, **options):
    return dict(dict(type='ViTransformerWrapper', image_size=8, patch_size=4, attn_layers=net),
                **options)


for name, config, inputs, *kwargs in [
    ('classes', vit(num_classes=5), IMG),
    ('no_classes', vit(), IMG),
    ('embeddings', vit(num_classes=5), IMG, dict(return_embeddings=True)),
    ('logits_and_embeddings', vit(num_classes=5), IMG, dict(return_logits_and_embeddings=True)),
    ('registers', vit(num_classes=5, num_register_tokens=3), IMG),
    ('registers_embeddings', vit(num_register_tokens=2), IMG, dict(return_embeddings=True)),
    ('post_emb_norm', vit(num_classes=5, post_emb_norm=True), IMG),
    ('channels', vit(num_classes=5, channels=1, patch_size=2), dict(img=flt(B, 1, 8, 8))),
    ('smaller_image', vit(num_classes=5, patch_size=2), dict(img=flt(B, 3, 4, 6))),
    ('dropout', vit(num_classes=5, emb_dropout=0.2), IMG),
    ('rotary_flash', vit(ENC | dict(rotary_pos_emb=True, attn_flash=True, ff_glu=True),
                         num_classes=5), IMG),
    ('kv_heads_mem_kv', vit(ENC | dict(attn_kv_heads=2, attn_num_mem_kv=2, use_rmsnorm=True),
                            num_classes=5), IMG),
]:
    add(f'vit.{name}', config, inputs, *kwargs)
