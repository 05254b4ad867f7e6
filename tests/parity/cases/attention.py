"""A lone Attention, and its options within a stack."""
from .base import (B, D, N, V, MASK, X, HIDDEN, add, bit, bools, dec, each, each_module, enc,
                   flt, ints, lens, lm, mems, nums, tok,
                   mem_masks, right)

CONTEXT = dict(context=flt(B, 5, D), context_mask=lens(5, 5, 3))


def attn(**options):
    return dict(dict(type='Attention', dim=D, heads=4, dim_head=8), **options)


OUT = dict(return_intermediates=True)
GRU = dict(type='GRU', input_size=D, hidden_size=32, batch_first=True)


def lstm(**options):
    return GRU | dict(type='LSTM') | options


LOWER = bools([[j <= i for j in range(N)] for i in range(N)])
each_module('attention', {
    'plain': (attn(), HIDDEN),
    'default_dim_head': (dict(type='Attention', dim=D, heads=2), HIDDEN),
    'causal': (attn(causal=True), HIDDEN),
    'flash': (attn(flash=True), HIDDEN | MASK),
    'flash_causal': (attn(flash=True, causal=True), HIDDEN | MASK),
    'mask': (attn(), HIDDEN | MASK),
    'mask_causal': (attn(causal=True), HIDDEN | MASK),
    'mask_holes': (attn(), HIDDEN | dict(mask=bit(B, N))),
    'context': (attn(), HIDDEN | CONTEXT),
    'context_both_masks': (attn(), HIDDEN | CONTEXT | MASK),
    'dim_context': (attn(dim_context=6), HIDDEN | dict(context=flt(B, 5, 6))),
    'dim_out': (attn(dim_out=5), HIDDEN),
    'attn_mask': (attn(), HIDDEN | dict(attn_mask=LOWER)),
    'attn_mask_heads': (attn(), HIDDEN | dict(attn_mask=bit(4, N, N))),
    'attn_mask_batch': (attn(), HIDDEN | dict(attn_mask=bit(B, 1, N, N)) | MASK),
    'attn_bias': (attn(), HIDDEN | dict(attn_bias=flt(4, N, N))),
    'attn_bias_flash': (attn(flash=True, causal=True), HIDDEN | dict(attn_bias=flt(4, N, N))),
    'one_kv_head': (attn(one_kv_head=True), HIDDEN),
    'one_kv_head_flash': (attn(one_kv_head=True, flash=True, causal=True), HIDDEN),
    'kv_heads': (attn(kv_heads=2), HIDDEN),
    'kv_heads_mem_kv': (attn(kv_heads=2, num_mem_kv=3, causal=True), HIDDEN | MASK),
    'value_dim_head': (attn(value_dim_head=5), HIDDEN),
    'value_dim_head_flash': (attn(value_dim_head=12, flash=True), HIDDEN),
    'mem_kv': (attn(num_mem_kv=3), HIDDEN | MASK),
    'mem_kv_bias': (attn(num_mem_kv=3), HIDDEN | dict(attn_bias=flt(4, N, N + 3))),
    'mem': (attn(causal=True), HIDDEN | dict(mem=flt(B, 3, D))),
    'mem_mask': (attn(causal=True), HIDDEN | MASK
                 | dict(mem=flt(B, 3, D), mem_mask=right(3, 1, 2))),
    'mem_mask_only': (attn(causal=True, kv_heads=2), HIDDEN
                      | dict(mem=flt(B, 3, D), mem_mask=right(3, 1, 2))),
    'qk_norm': (attn(qk_norm=True), HIDDEN),
    'qk_norm_groups': (attn(qk_norm=True, qk_norm_groups=2), HIDDEN),
    'qk_norm_scale': (attn(qk_norm=True, qk_norm_scale=3), HIDDEN),
    'qk_norm_dim_scale': (attn(qk_norm=True, qk_norm_dim_scale=True), HIDDEN),
    'qk_norm_all': (attn(qk_norm=True, qk_norm_groups=2, qk_norm_scale=4, qk_norm_dim_scale=True,
                         kv_heads=2, num_mem_kv=2,
                         causal=True), HIDDEN),
    'qk_norm_all_flash': (attn(qk_norm=True, qk_norm_groups=2, qk_norm_scale=4,
                               qk_norm_dim_scale=True, kv_heads=2,
                               num_mem_kv=2, causal=True, flash=True), HIDDEN | MASK),
    'zero_init_output': (attn(zero_init_output=True), HIDDEN),
    'dropout': (attn(dropout=0.3, sublayer_dropout=0.2), HIDDEN),
    'rotary': (attn(causal=True), HIDDEN
               | {'rotary_pos_emb.0': flt(1, N, 4), 'rotary_pos_emb.1': flt(1, N, 4, scale=0.1)}),
    'rotary_partial_heads': (attn(rotate_num_heads=3), HIDDEN | {'rotary_pos_emb.0': flt(1, N, 4),
                                                                 'rotary_pos_emb.1': flt(1, N, 4)}),
    'rotary_context': (attn(), HIDDEN | CONTEXT | {
        'rotary_pos_emb.0': flt(1, N, 4), 'rotary_pos_emb.1': flt(1, N, 4),
        'context_rotary_pos_emb.0': flt(B, 5, 4), 'context_rotary_pos_emb.1': flt(B, 5, 4)}),
    'intermediates': (attn(), HIDDEN, OUT),
    'intermediates_mem': (attn(kv_heads=2), HIDDEN | dict(mem=flt(B, 3, D)), OUT),
    'cache': (attn(causal=True, kv_heads=2), dict(x=flt(B, 1, D))
              | {f'cache.cached_kv.{i}': flt(B, 2, 4, 8) for i in range(2)},
              OUT),
    'additional_kv': (attn(), HIDDEN
                      | {f'additional_key_values.{i}': flt(B, 4, 3, 8) for i in range(2)}),
    'additional_kv_heads': (attn(kv_heads=2, causal=True),
                            HIDDEN | {f'additional_key_values.{i}': flt(B, 1, 3, 8)
                                      for i in range(2)}),
    'additional_kv_mask': (attn(), HIDDEN | MASK | dict(additional_key_value_mask=bit(B, 3))
                           | {f'additional_key_values.{i}': flt(B, 4, 3, 8) for i in range(2)}),
    'kv_input_residual': (attn(), HIDDEN | dict(kv_input_residual=flt(B, N, D))),
    'value_residual': (attn(), HIDDEN | dict(value_residual=flt(B, 4, N, 8))),
    'value_residual_mix': (attn(learned_value_residual_mix=True), HIDDEN
                           | dict(value_residual=flt(B, 4, N, 8))),
    'prev_attn': (attn(), HIDDEN | dict(prev_attn=flt(B, 4, N, N))),
    'rel_pos': (attn(causal=True), HIDDEN, dict(rel_pos=dict(type='AlibiPositionalBias', heads=4))),
    'rel_pos_pos': (attn(causal=True), HIDDEN | dict(pos=ints([0, 2, 3, 5, 6, 7, 9])),
                    dict(rel_pos=dict(type='AlibiPositionalBias', heads=2, total_heads=4))),
    'rel_pos_pos_heads': (attn(causal=True), HIDDEN | dict(pos=tok(B, 2, N, bound=12)),
                          dict(rel_pos=dict(type='AlibiPositionalBias', heads=2, total_heads=4))),
    'rel_pos_pos_one_row': (attn(), HIDDEN | dict(pos=tok(1, 4, N, bound=12)),
                            dict(rel_pos=dict(type='AlibiPositionalBias', heads=4))),
    'diff_residuals': (attn(qkv_receive_diff_residuals=True), dict(x=flt(3, B, N, D))),
    'hybrid_mask': (attn(dim_head=4,
                         hybrid_module=dict(type='Encoder', dim=D, depth=1, heads=2,
                                            attn_dim_head=8),
                         hybrid_fold_axial_dim=1, hybrid_mask_kwarg='mask'), HIDDEN | MASK),
    'hybrid_gru': (attn(causal=True, hybrid_module=GRU, hybrid_fold_axial_dim=3), HIDDEN, OUT),
    'hybrid_min_gru': (attn(causal=True, hybrid_module=dict(type='MinGRU', dim=D, dim_out=32),
                            hybrid_fold_axial_dim=1, hybrid_learned_mix=True), HIDDEN, OUT),
    'hybrid_convolution': (attn(hybrid_module=dict(type='CausalConv1d', dim=D, dim_out=32,
                                                   kernel_size=3),
                                hybrid_fold_axial_dim=2), HIDDEN | MASK, OUT),
    'hybrid_depthwise': (attn(hybrid_module=dict(type='CausalConv1d', dim=D, dim_out=32,
                                                 depthwise=True), hybrid_fold_axial_dim=1,
                              kv_heads=2, on_attn=True, head_scale=True), HIDDEN),
    'hybrid_context': (attn(hybrid_module=GRU, hybrid_fold_axial_dim=1), HIDDEN | CONTEXT),
    'hybrid_lstm': (attn(causal=True, hybrid_module=lstm(), hybrid_fold_axial_dim=3), HIDDEN, OUT),
    'hybrid_lstm_layers': (attn(hybrid_module=lstm(num_layers=2, bias=False, dropout=0.2),
                                hybrid_fold_axial_dim=1, hybrid_learned_mix=True), HIDDEN, OUT),
    'hybrid_lstm_both_ways': (attn(hybrid_module=lstm(hidden_size=16, bidirectional=True),
                                   hybrid_fold_axial_dim=1), HIDDEN | MASK),
    'hybrid_lstm_time_first': (attn(hybrid_module=lstm(batch_first=False),
                                    hybrid_fold_axial_dim=1), HIDDEN),
    'hybrid_lstm_projected': (attn(causal=True, hybrid_module=lstm(hidden_size=40, proj_size=32),
                                   hybrid_fold_axial_dim=1), HIDDEN, OUT),
    'hybrid_rnn': (attn(causal=True, hybrid_module=GRU | dict(type='RNN'),
                        hybrid_fold_axial_dim=2), HIDDEN, OUT),
    'hybrid_rnn_goes_on': (attn(causal=True, hybrid_module=GRU | dict(
        type='RNN', nonlinearity='relu', num_layers=2), hybrid_fold_axial_dim=1),
        {'x': flt(B, 1, D), 'cache.hybrid_hidden': flt(2, B, 32)}
        | {f'cache.cached_kv.{i}': flt(B, 4, 4, 8) for i in range(2)}, OUT),
    'hybrid_identity': (attn(hybrid_module=dict(type='Identity'), hybrid_fold_axial_dim=1,
                             dim_head=4), HIDDEN),
    'hybrid_rms_norm': (attn(hybrid_module=dict(type='RMSNorm', dim=D), hybrid_fold_axial_dim=1,
                             dim_head=4), HIDDEN),
    'hybrid_goes_on': (attn(causal=True, hybrid_module=GRU, hybrid_fold_axial_dim=1),
                       {'x': flt(B, 1, D), 'cache.hybrid_hidden': flt(1, B, 32)}
                       | {f'cache.cached_kv.{i}': flt(B, 4, 4, 8) for i in range(2)}, OUT),
    'polar': (attn(), HIDDEN | {'polar_pos_emb.0': flt(1, N, 8), 'polar_pos_emb.1': flt(4, 1, 8)}),
    'one_token': (attn(causal=True), dict(x=flt(1, 1, D))),
    'custom_attn_fn': (attn(custom_attn_fn=dict(type='Softmax', dim=-1)), HIDDEN),
    'custom_attn_fn_parameter': (attn(custom_attn_fn=dict(type='PReLU')), HIDDEN, OUT),
    'custom_attn_fn_no_dim': (attn(custom_attn_fn=dict(type='Softmax')), HIDDEN),
    'custom_attn_fn_celu': (attn(custom_attn_fn=dict(type='CELU', alpha=0.5)), HIDDEN),
    'custom_attn_fn_causal': (attn(custom_attn_fn=dict(type='Sigmoid'), causal=True, kv_heads=2),
                              HIDDEN | MASK),
    # what changes nothing is taken, as in Python
    'unused_hybrid': (attn(hybrid_fold_axial_dim=2, hybrid_mask_kwarg='mask',
                           hybrid_learned_mix=True), HIDDEN | MASK),
    'unused_pos': (attn(causal=True), HIDDEN | dict(pos=ints([0, 2, 3, 5, 6, 7, 9]))),
    'unused_sigmoid': (attn(custom_attn_fn=dict(type='Softmax', dim=-1), sigmoid=True), HIDDEN),
    'unused_hard': (attn(custom_attn_fn=dict(type='Sigmoid'), hard=True), HIDDEN),
    'unused_gumbel_softmax': (attn(custom_attn_fn=dict(type='Sigmoid'), gumbel_softmax=True),
                              HIDDEN),
    'unused_sparse_topk': (attn(custom_attn_fn=dict(type='Softmax', dim=-1), sparse_topk=2), HIDDEN),
})

# each option of Attention in a stack
SDP = dict(enable_flash=False, enable_math=True, enable_mem_efficient=False)
each('attn', dec, {
    'plain': {},
    'flash': dict(attn_flash=True),
    'flash_alibi': dict(attn_flash=True, alibi_pos_bias=True),
    'flash_mem_kv': dict(attn_flash=True, attn_num_mem_kv=2),
    'flash_sdp_kwargs': dict(attn_flash=True, attn_attend_sdp_kwargs=SDP),
    'onnxable': dict(attn_onnxable=True),
    'heads': dict(heads=3),
    'dim_head': dict(attn_dim_head=6, heads=2),
    'one_kv_head': dict(attn_one_kv_head=True),
    'kv_heads': dict(attn_kv_heads=2),
    'value_dim_head': dict(attn_value_dim_head=5),
    'mem_kv': dict(attn_num_mem_kv=3),
    'qk_norm': dict(attn_qk_norm=True),
    'qk_norm_options': dict(attn_qk_norm=True, attn_qk_norm_groups=2, attn_qk_norm_scale=5,
                            attn_qk_norm_dim_scale=True),
    'zero_init_output': dict(attn_zero_init_output=True),
    'dropout': dict(attn_dropout=0.2, attn_sublayer_dropout=0.1),
    'talking_heads': dict(attn_pre_talking_heads=True, attn_post_talking_heads=True),
    'pre_scale_post_talking_heads': dict(attn_pre_scale_post_talking_heads=True),
    'head_scale': dict(attn_head_scale=True),
    'sparse_topk': dict(attn_sparse_topk=3),
    'sparse_topk_straight_through': dict(attn_sparse_topk=3,
                                         attn_sparse_topk_straight_through=True),
    'on_attn': dict(attn_on_attn=True),
    'gate_value_heads': dict(attn_gate_value_heads=True),
    'gate_values': dict(attn_gate_values=True),
    'swiglu_values': dict(attn_gate_values=True, attn_swiglu_values=True),
    'hard': dict(attn_hard=True),
    'max_attend_past': dict(attn_max_attend_past=2),
    'max_attend_past_mem_kv': dict(attn_max_attend_past=2, attn_num_mem_kv=2),
    'value_rmsnorm': dict(attn_value_rmsnorm=True),
    'l2_distance': dict(attn_l2_distance=True),
    'sigmoid': dict(attn_sigmoid=True),
    'selective': dict(attn_selective=True),
    'cog_signed': dict(attn_cog_signed=True),
    'custom_attn_fn': dict(attn_custom_attn_fn=dict(type='Softmax', dim=-1)),
    'hybrid': dict(attn_hybrid_module=GRU, attn_hybrid_fold_axial_dim=2),
    'hybrid_learned_mix': dict(attn_hybrid_module=GRU, attn_hybrid_fold_axial_dim=1,
                               attn_hybrid_learned_mix=True),
    'hybrid_convolution': dict(attn_hybrid_module=dict(type='CausalConv1d', dim=D, dim_out=32),
                               attn_hybrid_fold_axial_dim=1),
    'add_zero_kv': dict(attn_add_zero_kv=True),
    'head_learned_sink': dict(attn_head_learned_sink=True),
    'rotate_num_heads': dict(rotary_pos_emb=True, rotate_num_heads=2),
    'data_dependent_alibi': dict(attn_data_dependent_alibi=True),
    'data_dependent_alibi_kwargs': dict(attn_data_dependent_alibi=True,
                                        attn_data_dependent_alibi_kwargs=dict(bias_init=2.,
                                            post_log_scale=0.5)),
    'data_dependent_alibi_per_row': dict(attn_data_dependent_alibi=True,
                                         attn_data_dependent_alibi_per_row=True,
                                         attn_data_dependent_alibi_per_row_dim_head=4),
    'cope': dict(attn_use_cope=True, attn_cope_max_pos=4),
    'cope_talking_heads': dict(attn_use_cope=True, attn_cope_talking_heads=True),
    'softclamp_logits': dict(attn_softclamp_logits=True, attn_logit_softclamp_value=2.),
    'orthog_projected_values': dict(attn_orthog_projected_values=True),
    'orthog_projected_values_per_head': dict(attn_orthog_projected_values_per_head=True,
                                             attn_kv_heads=2),
    'orthog_projected_values_both': dict(attn_orthog_projected_values=True,
                                         attn_orthog_projected_values_per_head=True),
    'laser': dict(attn_laser=True, attn_laser_softclamp_value=3.),
    'latent_q': dict(attn_use_latent_q=True, attn_dim_latent_q=6),
    'latent_kv': dict(attn_use_latent_kv=True, attn_dim_latent_kv=6),
    'latent_rope': dict(attn_use_latent_q=True, attn_dim_latent_q=6, attn_use_latent_kv=True,
                        attn_dim_latent_kv=6,
                        attn_latent_rope_subheads=2, rotary_pos_emb=True),
})
each('attn', enc, {
    'encoder_plain': {},
    'encoder_flash': dict(attn_flash=True),
    'encoder_kv_heads_mem_kv': dict(attn_kv_heads=1, attn_num_mem_kv=2),
    'encoder_hybrid_mask': dict(attn_dim_head=4, attn_hybrid_module=dict(
        type='Encoder', dim=D, depth=1, heads=2, attn_dim_head=8), attn_hybrid_fold_axial_dim=1,
        attn_hybrid_mask_kwarg='mask'),
}, X | MASK)



def packed(queries, keys=None, name='flash_pack_seq_kwargs'):
    """Boundaries of packed sequences."""
    return {f'{name}.cu_seqlens_q': ints(queries), f'{name}.cu_seqlens_k': ints(keys or queries)}


LENGTHS = dict(flash_pack_seq_kwargs=dict(max_seqlen_q=4, max_seqlen_k=4))
PACK = dict(flash=True, flash_pack_seq=True)
ROW, OTHER = dict(x=flt(1, N, D)), dict(context=flt(1, 5, D))
each_module('packed', {
    'attention': (attn(**PACK), ROW | packed([0, 3, 7]), LENGTHS),
    'causal': (attn(causal=True, **PACK), ROW | packed([0, 3, 4, 7]), LENGTHS),
    'one_sequence': (attn(causal=True, **PACK), ROW | packed([0, 7])),
    'kv_heads': (attn(causal=True, kv_heads=2, qk_norm=True, **PACK), ROW | packed([0, 2, 7])),
    'context': (attn(**PACK), ROW | OTHER | packed([0, 3, 7], [0, 4, 5])),
    'window': (attn(**PACK), ROW | packed([0, 4, 7]),
               dict(flash_pack_seq_kwargs=dict(window_size=[1, 2]))),
    'window_context': (attn(**PACK), ROW | OTHER | packed([0, 3, 7], [0, 2, 5]),
                       dict(flash_pack_seq_kwargs=dict(window_size=[2, -1]))),
    'scale': (attn(causal=True, **PACK), ROW | packed([0, 4, 7]),
              dict(flash_pack_seq_kwargs=dict(softmax_scale=0.7, deterministic=True))),
    'softcap': (attn(qk_norm=True, **PACK), ROW | packed([0, 4, 7]),
                dict(flash_pack_seq_kwargs=dict(softcap=1.5))),
    'slopes': (attn(causal=True, **PACK), ROW | packed([0, 4, 7])
               | {'flash_pack_seq_kwargs.alibi_slopes': nums([0.5, 0.3, 0.2, 0.1])}),
    'slopes_context': (attn(**PACK), ROW | OTHER | packed([0, 3, 7], [0, 4, 5])
                       | {'flash_pack_seq_kwargs.alibi_slopes': nums([0.5, 0.3, 0.2, 0.1])}),
    'l2_distance': (attn(l2_distance=True, **PACK), ROW | packed([0, 3, 7])),
    'unused': (attn(causal=True), ROW | packed([0, 3, 7])),
    'unused_in_stack': (dec(rotary_pos_emb=True), ROW | packed([0, 3, 7])),
    'attend': (dict(type='Attend', heads=4, causal=True, **PACK),
               dict(q=flt(1, 4, N, 8), k=flt(1, 4, N, 8), v=flt(1, 4, N, 6)) | packed([0, 3, 7])),
    'stack': (dec(rotary_pos_emb=True, attn_flash=True, attn_flash_pack_seq=True),
              ROW | packed([0, 3, 7]), LENGTHS),
    'encoder_xpos': (enc(rotary_pos_emb=True, attn_flash=True, attn_flash_pack_seq=True),
                     ROW | packed([0, 5, 7])),
    'cross': (dec(rotary_pos_emb=True, attn_flash=True, attn_flash_pack_seq=True,
                  cross_attend=True),
              ROW | OTHER | packed([0, 3, 7])
              | packed([0, 3, 7], [0, 4, 5], 'flash_pack_seq_context_kwargs'), LENGTHS),
    'wrapper': (lm(dec(rotary_pos_emb=True, attn_flash=True, attn_flash_pack_seq=True)),
                dict(x=tok(1, N)) | packed([0, 2, 7]), LENGTHS),
    'loss': (dict(type='AutoregressiveWrapper',
                  net=lm(dec(rotary_pos_emb=True, attn_flash=True, attn_flash_pack_seq=True))),
             dict(x=tok(1, N)) | packed([0, 2, 7])),
})

for name, options in {
    'flash': dict(attn_flash=True), 'mem_kv': dict(attn_num_mem_kv=2),
    'kv_heads': dict(attn_kv_heads=2),
    'rotary': dict(rotary_pos_emb=True), 'qk_norm': dict(attn_qk_norm=True),
}.items():
    add(f'attn.mask_{name}', lm(dec(**options)), X | MASK)
    add(f'attn.mems_{name}', lm(dec(**options), max_mem_len=4), X | mems(2) | mem_masks(2, 3, 1)
        | MASK,
        dict(return_mems=True))

# modules given as arguments, in generation
for name, net, options in [
    ('lstm', dec(attn_hybrid_module=lstm(), attn_hybrid_fold_axial_dim=1), {}),
    ('rnn', dec(attn_hybrid_module=GRU | dict(type='RNN'), attn_hybrid_fold_axial_dim=2), {}),
    ('lstm_both_ways', dec(attn_hybrid_module=lstm(hidden_size=16, bidirectional=True),
                           attn_hybrid_fold_axial_dim=1), {}),
    ('activation_norm', dec(ff_custom_activation=dict(type='RMSNorm', dim=4 * D)), {}),
    ('activation_of_places', dec(ff_custom_activation=dict(type='Softmax', dim=1)), {}),
    ('max_norm', dec(), dict(token_emb=dict(type='Embedding', num_embeddings=V, embedding_dim=D,
                                            max_norm=0.9))),
]:
    model = dict(type='AutoregressiveWrapper', net=lm(net, **options))
    add(f'generate.given_{name}', model, dict(prompts=tok(B, 4)), dict(temperature=0., seq_len=6),
        mode='generate', grads=False, louder={'to_logits.weight': 3.})
