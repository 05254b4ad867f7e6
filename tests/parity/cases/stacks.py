"""Options of AttentionLayers, and the arguments of its forward."""
from .base import (B, CONTEXT, D, HIDDEN, MASK, N, X, add, bit, cross, dec, each, enc, flt, ints,
                   layers, mems, mem_masks, pre, right, tok)

each('layers', dec, {
    'scalenorm': dict(use_scalenorm=True),
    'rmsnorm': dict(use_rmsnorm=True),
    'simple_rmsnorm': dict(use_simple_rmsnorm=True),
    'dynamic_tanh': dict(use_dynamic_tanh=True, dynamic_tanh_init_alpha=0.6),
    'derf': dict(use_derf=True),
    'no_unit_offset': dict(norm_add_unit_offset=False),
    'no_unit_offset_rmsnorm': dict(use_rmsnorm=True, norm_add_unit_offset=False),
    'no_unit_offset_scalenorm': dict(use_scalenorm=True, norm_add_unit_offset=False),
    'alibi': dict(alibi_pos_bias=True),
    'alibi_num_heads': dict(alibi_pos_bias=True, alibi_num_heads=3),
    'alibi_slopes': dict(alibi_pos_bias=True, rel_pos_kwargs=dict(slopes=[0.4, 0.3, 0.2, 0.1])),
    'rotary': dict(rotary_pos_emb=True),
    'rotary_emb_dim': dict(rotary_pos_emb=True, rotary_emb_dim=6),
    'rotary_emb_dim_odd': dict(rotary_pos_emb=True, attn_dim_head=6),  # 3: turns two pairs
    'rotary_emb_dim_odd_xpos': dict(rotary_xpos=True, rotary_emb_dim=5, rotate_num_heads=2,
                                    rotary_base_rescale_factor=2.),
    'rotary_interpolation': dict(rotary_pos_emb=True, rotary_interpolation_factor=2.),
    'rotary_base_rescale': dict(rotary_pos_emb=True, rotary_base_rescale_factor=3.),
    'rotary_xpos': dict(rotary_xpos=True),
    'rotary_xpos_scale_base': dict(rotary_xpos=True, rotary_xpos_scale_base=32, rotary_emb_dim=8),
    'rotate_num_heads': dict(rotary_pos_emb=True, rotate_num_heads=1),
    't5': dict(rel_pos_bias=True),
    't5_options': dict(rel_pos_bias=True, rel_pos_num_buckets=6, rel_pos_max_distance=8),
    'dynamic_pos_bias': dict(dynamic_pos_bias=True),
    'dynamic_pos_bias_options': dict(dynamic_pos_bias=True, dynamic_pos_bias_log_distance=True,
                                     dynamic_pos_bias_mlp_depth=3,
                                     dynamic_pos_bias_norm=True),
    'polar': dict(polar_pos_emb=True),
    'disable_abs_pos_emb': dict(disable_abs_pos_emb=True),
    'enable_abs_pos_emb': dict(rotary_pos_emb=True, disable_abs_pos_emb=False),
    'weight_tie_layers': dict(depth=3, weight_tie_layers=True),
    'custom_layers': dict(custom_layers=['a', 'f', 'f', 'a'], depth=None),
    'custom_layers_depth': dict(custom_layers=['a', 'a', 'f'], depth=2),
    'layers_execute_order': dict(layers_execute_order=[0, 1, 0, 1, 2, 3, 3]),
    'custom_execute_order': dict(custom_layers=['a', 'f'], depth=None,
                                 layers_execute_order=[0, 1, 1, 0]),
    'sandwich_coef': dict(depth=3, sandwich_coef=2),
    'par_ratio': dict(depth=4, par_ratio=3),
    'macaron': dict(macaron=True),
    'residual_attn': dict(residual_attn=True),
    'post_norm': dict(pre_norm=False),
    'post_norm_residual_attn': dict(pre_norm=False, residual_attn=True),
    'no_final_norm': dict(pre_norm_has_final_norm=False),
    'gate_residual': dict(gate_residual=True),
    'gate_residual_scale': dict(gate_residual=True, scale_residual=True),
    'scale_residual': dict(scale_residual=True),
    'scale_residual_constant': dict(scale_residual_constant=0.6),
    'scale_residual_both': dict(scale_residual=True, scale_residual_constant=1.3),
    'residual_fn_kwargs': dict(num_residual_streams=2, residual_fn_kwargs=dict(num_input_views=1)),
    'shift_tokens': dict(shift_tokens=1),
    'shift_tokens_each': dict(shift_tokens=[2, 0, 1, 1]),
    'sandwich_norm': dict(sandwich_norm=True),
    'softclamp_output': dict(softclamp_output=True, softclamp_output_value=2.),
    'zero_init_branch_output': dict(zero_init_branch_output=True),
    'layer_dropout': dict(layer_dropout=0.3),
    'layer_dropout_each': dict(layer_dropout=[0.1, 0.2, 0.3, 0.4]),
    'layerscale': dict(use_layerscale=True),
    'layerscale_init': dict(use_layerscale=True, layerscale_init_value=0.4,
                            norm_add_unit_offset=False),
    'unet_skips': dict(depth=4, unet_skips=True),
    'unet_skips_custom': dict(depth=None, custom_layers=['a', 'f', 'a'], unet_skips=True),
    'integrate_layers': dict(integrate_layers=True),
    'integrate_layers_relu': dict(integrate_layers=True, layer_integrate_use_softmax=False),
    'residual_streams': dict(num_residual_streams=3),
    'residual_streams_views': dict(num_residual_streams=2, qkv_receive_diff_residuals=True,
                                   hyper_conn_sinkhorn_iters=2),
    'reinject_input': dict(reinject_input=True),
    'reinject_input_gate': dict(reinject_input=True, learned_reinject_input_gate=True),
    'value_residual': dict(depth=3, add_value_residual=True),
    'value_residual_constant': dict(depth=3, add_value_residual=True,
                                    learned_value_residual_mix=False),
    'verbose': dict(rotary_pos_emb=True, verbose=False),
})
each('ff', dec, {
    'mult': dict(ff_mult=2),
    'mult_fraction': dict(ff_mult=1.3),
    'glu': dict(ff_glu=True),
    'glu_mult_bias': dict(ff_glu=True, ff_glu_mult_bias=True),
    'swiglu': dict(ff_glu=True, ff_swish=True),
    'swish': dict(ff_swish=True),
    'relu_squared': dict(ff_relu_squared=True),
    'solu': dict(ff_solu=True),
    'custom_activation': dict(ff_custom_activation=dict(type='SELU')),
    'post_act_ln': dict(ff_post_act_ln=True),
    'dropout': dict(ff_dropout=0.3, ff_sublayer_dropout=0.1),
    'no_bias': dict(ff_no_bias=True),
    'zero_init_output': dict(ff_zero_init_output=True),
})
each('layers', enc, {
    'encoder_alibi': dict(alibi_pos_bias=True),
    'encoder_t5': dict(rel_pos_bias=True),
    'encoder_rotary': dict(rotary_pos_emb=True),
    'encoder_shift_tokens': dict(shift_tokens=1),
    'encoder_macaron_glu': dict(macaron=True, ff_glu=True),
    'encoder_post_norm': dict(pre_norm=False),
    'encoder_data_dependent_alibi': dict(attn_data_dependent_alibi=True),
}, X | MASK)

# what the stack takes on its way, alone
COND = dict(condition=flt(B, 6))
adaptive = dict(dim_condition=6)
for name, config, inputs, *kwargs in [
    ('encoder', enc(), HIDDEN | MASK),
    ('decoder', dec(), HIDDEN | MASK),
    ('attention_layers', layers('AttentionLayers', causal=True), HIDDEN),
    ('attention_layers_cross', layers('AttentionLayers', depth=1, cross_attend=True), HIDDEN
     | CONTEXT),
    ('attention_layers_only_cross', layers('AttentionLayers', cross_attend=True, only_cross=True),
     HIDDEN | CONTEXT),
    ('cross_attender', cross(), HIDDEN | CONTEXT | MASK),
    ('cross_attender_dim_context', cross(cross_attn_dim_context=6), HIDDEN
     | dict(context=flt(B, 5, 6))),
    ('cross_attender_options',
     cross(cross_attn_num_mem_kv=2, attn_kv_heads=2, cross_attn_qk_norm=True), HIDDEN | CONTEXT),
    ('cross_attender_flash', cross(attn_flash=True), HIDDEN | CONTEXT),
    ('cross_attend', dec(cross_attend=True), HIDDEN | CONTEXT),
    ('cross_attend_tokens_dropout', dec(cross_attend=True, cross_attn_tokens_dropout=0.4), HIDDEN
     | CONTEXT),
    ('cross_attend_macaron', enc(cross_attend=True, macaron=True), HIDDEN | CONTEXT | MASK),
    ('cross_attend_residual', dec(cross_attend=True, cross_residual_attn=True), HIDDEN | CONTEXT),
    ('cross_attend_value_residual',
     dec(cross_attend=True, add_value_residual=True, learned_value_residual_mix=False),
     HIDDEN | CONTEXT),
    ('context_pos', dec(cross_attend=True, rotary_pos_emb=True), HIDDEN | CONTEXT
     | dict(context_pos=ints([0, 1, 3, 5, 6]))),
    ('context_pos_batch', enc(cross_attend=True, rotary_pos_emb=True),
     HIDDEN | CONTEXT | dict(context_pos=ints([[0, 1, 3, 5, 6], [2, 3, 4, 5, 6]]))),
    ('context_pos_rotary_given', dec(cross_attend=True, rotary_pos_emb=True), HIDDEN | CONTEXT
     | {'rotary_pos_emb.0': flt(1, N, 4), 'rotary_pos_emb.1': flt(1, N, 4),
        'context_pos': ints([0, 1, 3, 5, 6])}),
    ('context_pos_unused', dec(cross_attend=True), HIDDEN | CONTEXT
     | {'rotary_pos_emb.0': flt(1, N, 4), 'rotary_pos_emb.1': flt(1, N, 4),
        'context_pos': ints([0, 1, 3, 5, 6])}),
    ('context_rotary_unused', dec(cross_attend=True, rotary_pos_emb=True), HIDDEN | CONTEXT),
    ('hiddens', dec(), HIDDEN, dict(return_hiddens=True)),
    ('hiddens_post_norm', enc(pre_norm=False), HIDDEN, dict(return_hiddens=True)),
    ('attn_mask', enc(), HIDDEN | dict(attn_mask=bit(N, N))),
    ('attn_mask_heads', dec(), HIDDEN | dict(attn_mask=bit(4, N, N))),
    ('attn_mask_and_mask', enc(), HIDDEN | MASK | dict(attn_mask=bit(N, N))),
    ('self_attn_kv_mask', dec(), HIDDEN | dict(self_attn_kv_mask=bit(B, N))),
    ('self_attn_kv_mask_and_mask', enc(), HIDDEN | MASK | dict(self_attn_kv_mask=bit(B, N))),
    ('self_attn_kv_mask_mems', dec(), HIDDEN | mems(2) | dict(self_attn_kv_mask=bit(B, N + 3))),
    ('mems', dec(), HIDDEN | mems(2)),
    ('mems_one_layer', dec(), HIDDEN | mems(1)),
    ('mems_masked', dec(), HIDDEN | mems(2) | mem_masks(2, 1, 2) | MASK),
    ('mems_mask', enc(), HIDDEN | mems(2) | MASK),
    ('mems_mem_masks', enc(), HIDDEN | mems(2) | mem_masks(2, 1, 2)),
    ('mems_mem_kv', dec(attn_num_mem_kv=2, attn_kv_heads=2), HIDDEN | mems(2) | mem_masks(2, 1, 2)),
    ('mems_post_norm', dec(pre_norm=False), HIDDEN | mems(2)),
    ('mems_rotary', dec(rotary_pos_emb=True), HIDDEN | mems(2)),
    ('mems_residual_streams', dec(num_residual_streams=3), HIDDEN | mems(2) | mem_masks(2, 1, 2)),
    ('mems_residual_views', dec(num_residual_streams=2, qkv_receive_diff_residuals=True), HIDDEN | mems(2)),
    ('mems_xpos', dec(rotary_xpos=True, rotary_xpos_scale_base=16), HIDDEN | mems(2)),
    ('mems_xpos_mem_kv', dec(rotary_xpos=True, attn_num_mem_kv=2, attn_kv_heads=2), HIDDEN
     | mems(2)),
    ('mems_alibi', dec(alibi_pos_bias=True), HIDDEN | mems(2)),
    ('mems_alibi_mem_kv', dec(alibi_pos_bias=True, alibi_num_heads=2, attn_num_mem_kv=2), HIDDEN
     | mems(2)),
    ('mems_t5', dec(rel_pos_bias=True, attn_num_mem_kv=2), HIDDEN | mems(2)),
    ('mems_dynamic', dec(dynamic_pos_bias=True), HIDDEN | mems(2)),
    ('mems_everything', dec(rotary_pos_emb=True, attn_kv_heads=2, attn_num_mem_kv=2,
                            attn_qk_norm=True, attn_flash=True),
     HIDDEN | mems(2) | mem_masks(2, 1, 2) | MASK),
    ('seq_start_pos', enc(), HIDDEN | dict(seq_start_pos=ints([0, 3]))),
    ('seq_start_pos_rotary', enc(rotary_pos_emb=True), HIDDEN | dict(seq_start_pos=ints([2, 0]))),
    ('seq_start_pos_flash', dec(attn_flash=True), HIDDEN | dict(seq_start_pos=ints([0, 3]))),
    ('seq_start_pos_flash_alibi', dec(attn_flash=True, alibi_pos_bias=True), HIDDEN
     | dict(seq_start_pos=ints([0, 3]))),
    ('seq_start_pos_mem_kv', dec(attn_num_mem_kv=1), HIDDEN | dict(seq_start_pos=ints([0, 3]))),
    ('seq_start_pos_and_masks', enc(), HIDDEN | MASK
     | dict(self_attn_kv_mask=right(N, 6, 4), seq_start_pos=ints([0, 3]))),
    ('seq_pos_offset', enc(), HIDDEN, dict(seq_pos_offset=0)),
    ('pos_rotary', dec(rotary_pos_emb=True), HIDDEN | dict(pos=ints([0, 2, 3, 5, 6, 7, 9]))),
    ('pos_rotary_batch', dec(rotary_pos_emb=True), HIDDEN
     | dict(pos=ints([[0, 2, 3, 5, 6, 7, 9], [4, 5, 6, 0, 1, 2, 3]]))),
    ('pos_xpos_batch', dec(rotary_xpos=True), HIDDEN
     | dict(pos=ints([[0, 2, 3, 5, 6, 7, 9], [4, 5, 6, 0, 1, 2, 3]]))),
    ('pos_rotary_mems', dec(rotary_pos_emb=True), HIDDEN | mems(2)
     | dict(pos=ints([0, 1, 2, 3, 4, 5, 6, 9, 10, 12]))),
    ('pos_alibi', dec(alibi_pos_bias=True), HIDDEN | dict(pos=ints([0, 2, 3, 5, 6, 7, 9]))),
    ('pos_alibi_batch', enc(alibi_pos_bias=True, alibi_num_heads=3),
     HIDDEN | dict(pos=ints([[0, 2, 3, 5, 6, 7, 9], [4, 5, 6, 0, 1, 2, 3]]))),
    ('pos_alibi_heads', enc(alibi_pos_bias=True, alibi_num_heads=3),
     HIDDEN | dict(pos=tok(B, 3, N, bound=12))),
    ('pos_alibi_one_head', dec(alibi_pos_bias=True, attn_num_mem_kv=2, cross_attend=True),
     HIDDEN | CONTEXT | dict(pos=tok(B, 1, N, bound=12))),
    ('pos_alibi_mem_kv', dec(alibi_pos_bias=True, attn_num_mem_kv=2), HIDDEN
     | dict(pos=ints([0, 2, 3, 5, 6, 7, 9]))),
    ('rotary_pos_emb_given', dec(rotary_pos_emb=True), HIDDEN
     | {'rotary_pos_emb.0': flt(1, N, 4), 'rotary_pos_emb.1': flt(1, N, 4)}),
    ('polar_pos_emb_given', dec(polar_pos_emb=True), HIDDEN
     | {'polar_pos_emb.0': flt(1, N, 8), 'polar_pos_emb.1': flt(4, 1, 8)}),
    ('attn_bias', dec(), HIDDEN | dict(attn_bias=flt(4, N, N))),
    ('attn_bias_batch', enc(), HIDDEN | MASK | dict(attn_bias=flt(B, 4, N, N))),
    ('rotate_num_heads_cross', cross(rotary_pos_emb=True, rotate_num_heads=2, attn_kv_heads=2),
     HIDDEN | CONTEXT),
    ('attn_bias_cross', cross(alibi_pos_bias=True), HIDDEN | CONTEXT | dict(attn_bias=flt(4, N, N))),
    ('pos_cross', cross(rel_pos_bias=True), HIDDEN | CONTEXT
     | dict(pos=ints([0, 2, 3, 5, 6, 7, 9]))),
    ('attn_bias_flash', dec(attn_flash=True), HIDDEN | dict(attn_bias=flt(B, 1, N, N))),
    ('execute_order', dec(), HIDDEN, dict(layers_execute_order=[0, 1, 0, 1, 2, 3])),
    ('execute_order_part', dec(), HIDDEN, dict(layers_execute_order=[2, 3])),
    ('execute_order_from_end', dec(), HIDDEN, dict(layers_execute_order=[0, -3, -2, -1])),
    ('deep_embeds', dec(), HIDDEN
     | {'deep_embeds_and_ids.0': flt(9, 2, D), 'deep_embeds_and_ids.1': tok(B, N, bound=9)}),
    ('in_attn_cond', dec(), HIDDEN | dict(in_attn_cond=flt(B, D))),
    ('in_attn_cond_3d', enc(), HIDDEN | dict(in_attn_cond=flt(B, N, D))),
    ('adaptive_layernorm', dec(use_adaptive_layernorm=True, **adaptive), HIDDEN | COND),
    ('adaptive_rmsnorm', enc(use_adaptive_rmsnorm=True, sandwich_norm=True, **adaptive), HIDDEN
     | COND),
    ('adaptive_layerscale',
     dec(use_adaptive_layerscale=True, use_adaptive_layernorm=True, **adaptive), HIDDEN | COND),
    ('adaptive_mlp', dec(use_adaptive_rmsnorm=True, adaptive_condition_mlp=True,
                         adaptive_condition_mlp_expansion=2, **adaptive),
     HIDDEN | dict(condition=flt(B, N, 6))),
    ('self_attn_kv_residuals', dec(), HIDDEN | dict(self_attn_kv_residuals=flt(2, B, N, D))),
    ('self_attn_kv_residuals_3d', enc(), HIDDEN | dict(self_attn_kv_residuals=flt(B, N, D))),
    ('cross_attn_kv_residuals', cross(), HIDDEN | CONTEXT
     | dict(cross_attn_kv_residuals=flt(2, B, 5, D))),
    ('prefix', pre(), HIDDEN),
    ('prefix_len', pre(), HIDDEN, dict(prefix_attn_len=3)),
    ('prefix_len_each', pre(), HIDDEN | dict(prefix_attn_len=ints([1, 4]))),
    ('prefix_mask', pre(rotary_pos_emb=True, attn_kv_heads=2), HIDDEN | MASK,
     dict(prefix_attn_len=2)),
    ('prefix_flash', pre(attn_flash=True), HIDDEN | MASK, dict(prefix_attn_len=2)),
    ('prefix_attn_mask', pre(), HIDDEN | dict(attn_mask=bit(N, N)), dict(prefix_attn_len=2)),
    ('prefix_cross', pre(cross_attend=True), HIDDEN | CONTEXT, dict(prefix_attn_len=2)),
    ('one_token', dec(rotary_pos_emb=True), dict(x=flt(1, 1, D))),
]:
    add(f'stack.{name}', config, inputs, *kwargs)

ADDED = {f'self_attn_additional_kv.{layer}.{part}': flt(B, 4, 3, 8) for layer in range(2)
         for part in range(2)}
LAST = {name: spec for name, spec in ADDED.items() if '.0.' in name}
GIVEN = dict(additional_kv_mask=bit(B, 3))
for name, config, inputs, *kwargs in [
    ('additional_kv', dec(), HIDDEN | ADDED),
    ('additional_kv_mask', enc(), HIDDEN | MASK | ADDED | GIVEN),
    ('additional_kv_mask_alone', dec(attn_num_mem_kv=2), HIDDEN | ADDED | GIVEN),
    ('additional_kv_top', dec(), HIDDEN | LAST),
    ('additional_kv_bottom', dec(), HIDDEN | LAST, dict(route_additional_kv_to_top=False)),
    ('additional_kv_second', dec(), HIDDEN | {name: spec for name, spec in ADDED.items()
                                              if '.1.' in name}),
    ('additional_kv_detached', dec(), HIDDEN | ADDED, dict(detach_additional_kv=True)),
    ('additional_kv_rotary', dec(rotary_pos_emb=True), HIDDEN | ADDED),
]:
    add(f'stack.{name}', config, inputs, *kwargs)


def cache(layer_count, length, heads=4, dim_head=8, value_dim_head=None):
    """A kv cache of arbitrary values: any is a valid state."""
    kv = {f'cache.attn_intermediates.{layer}.cached_kv.{part}': flt(B, heads, length,
        [dim_head, value_dim_head or dim_head][part])
          for layer in range(layer_count) for part in range(2)}
    return kv | {'cache.cache_length': ints(length)}


FULL, LATER = dict(x=flt(B, 5, D)), dict(x=flt(B, 2, D))
SPREAD = dict(pos=ints([0, 2, 3, 5, 9]))
HID = dict(return_hiddens=True)
for name, config, inputs, *kwargs in [
    ('cache', dec(), FULL | cache(2, 4)),
    ('cache_rotary', dec(rotary_pos_emb=True), FULL | cache(2, 4), HID),
    ('cache_kv_heads', dec(attn_kv_heads=2, attn_num_mem_kv=2), FULL | cache(2, 4, 2)),
    ('cache_polar_one_kv_head', dec(polar_pos_emb=True, attn_one_kv_head=True), FULL
     | cache(2, 4, 1)),
    ('cache_xpos_l2', dec(rotary_xpos=True, attn_l2_distance=True), FULL | cache(2, 4)),
    ('cache_xpos_cope', dec(rotary_xpos=True, attn_use_cope=True, attn_cope_max_pos=4),
     LATER | cache(2, 4), dict(cache_age=2)),
    ('cache_value_dim_head', dec(attn_value_dim_head=5), FULL | cache(2, 4, 4, 8, 5)),
    ('cache_flash', dec(attn_flash=True), FULL | cache(2, 4)),
    ('cache_qk_norm', dec(attn_qk_norm=True, attn_qk_norm_dim_scale=True), FULL | cache(2, 4)),
    ('cache_age', dec(alibi_pos_bias=True), dict(x=flt(B, 6, D)) | cache(2, 4), dict(cache_age=2)),
    ('cache_age_flash', dec(attn_flash=True), dict(x=flt(B, 6, D)) | cache(2, 4),
     dict(cache_age=2)),
    ('cache_input_not_included', dec(rotary_pos_emb=True), dict(x=flt(B, 2, D)) | cache(2, 4),
     dict(cache_age=2, input_not_include_cache=True)),
    ('cache_age_start', dec(attn_flash=True), dict(x=flt(B, 2, D)) | cache(2, 4)
     | dict(seq_start_pos=ints([0, 2])),
     dict(cache_age=2)),
    ('cache_pos_rotary', dec(rotary_pos_emb=True, attn_kv_heads=2), FULL | SPREAD | cache(2, 4, 2)),
    ('cache_pos_rotary_batch', dec(rotary_pos_emb=True), FULL | cache(2, 4)
     | dict(pos=ints([[0, 2, 3, 5, 9], [4, 5, 6, 0, 1]]))),
    ('cache_pos_xpos', dec(rotary_xpos=True, rotary_xpos_scale_base=16), FULL | SPREAD
     | cache(2, 4)),
    ('cache_pos_polar', dec(polar_pos_emb=True), FULL | SPREAD | cache(2, 4)),
    ('cache_pos_latent', dec(rotary_pos_emb=True, attn_use_latent_kv=True, attn_dim_latent_kv=6,
                             attn_latent_rope_subheads=2), FULL | SPREAD
     | {name: flt(B, 2, 4, 8) if name.endswith('.1') else flt(B, 4, 6)
        for name in cache(2, 4) if 'kv' in name} | {'cache.cache_length': ints(4)}),
    ('cache_given_polar', dec(), FULL | cache(2, 4)
     | {'polar_pos_emb.0': flt(1, 5, 8), 'polar_pos_emb.1': flt(4, 1, 8)}),
    ('cache_given_rotary', dec(), FULL | cache(2, 4)
     | {'rotary_pos_emb.0': flt(1, 5, 8), 'rotary_pos_emb.1': flt(1, 5, 8)}),
    ('cache_hybrid', dec(attn_hybrid_fold_axial_dim=1, attn_hybrid_module=dict(
        type='GRU', input_size=D, hidden_size=32, batch_first=True)), FULL | cache(2, 4)
     | {f'cache.attn_intermediates.{layer}.hybrid_hidden': flt(1, B, 32) for layer in range(2)}),
    ('cache_cross', dec(cross_attend=True, depth=1), FULL | CONTEXT | cache(1, 4)
     | {f'cache.attn_intermediates.1.cached_kv.{part}': flt(B, 4, 5, 8) for part in range(2)}),
]:
    add(f'stack.{name}', config, inputs, *kwargs)
