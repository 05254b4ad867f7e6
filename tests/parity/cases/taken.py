"""What is easily refused and Python takes: values of options that are off, borders, other shapes."""
from .base import (B, CONTEXT, D, HIDDEN, MASK, N, V, X, add, ar, bit, cross, dec, enc, flt, ints,
                   lens, lm, mems, pre, tok)

WIDTH = 4 * D
ACTIVATIONS = dict(
    gelu=dict(type='GELU', approximate='none'), prelu=dict(type='PReLU', init=0.5),
    prelu_of_places=dict(type='PReLU', num_parameters=N), softmax=dict(type='Softmax', dim=-1),
    softmax_of_places=dict(type='Softmax', dim=1), softmin=dict(type='Softmin', dim=2),
    log_softmax=dict(type='LogSoftmax', dim=-1), solu=dict(type='SoLU', dim=WIDTH),
    rrelu=dict(type='RReLU', lower=0.1, upper=0.5), dropout=dict(type='Dropout', p=0.5),
    linear=dict(type='Linear', in_features=WIDTH, out_features=WIDTH),
    feed_forward=dict(type='FeedForward', dim=WIDTH, mult=1), norm=dict(type='RMSNorm', dim=WIDTH))
for name, activation in ACTIVATIONS.items():
    make = enc if name.endswith('of_places') else dec
    add(f'taken.activation_{name}', make(1, ff_custom_activation=activation, ff_glu=name == 'solu'),
        HIDDEN)
for name, module in dict(lstm=dict(type='LSTM'), rnn=dict(type='RNN'),
                         rnn_relu=dict(type='RNN', nonlinearity='relu', num_layers=2)).items():
    add(f'taken.hybrid_{name}', dec(1, attn_hybrid_fold_axial_dim=1, attn_hybrid_module=dict(
        input_size=D, hidden_size=32, batch_first=True, **module)), HIDDEN)
for name, options in dict(max_norm=dict(max_norm=0.5), max_norm_1=dict(max_norm=0.5, norm_type=1),
                          by_frequency=dict(scale_grad_by_freq=True),
                          nulls=dict(max_norm=None, padding_idx=None, sparse=False)).items():
    add(f'taken.embedding_{name}', lm(dec(1), token_emb=dict(
        type='Embedding', num_embeddings=V, embedding_dim=D, **options)), X)

ONE = dict(x=flt(1, N, D))
EMBEDDING = dict(type='Embedding', num_embeddings=V, embedding_dim=D)
FEW = dict(num_tokens=5, logits_dim=V, token_emb=EMBEDDING)
HYPER = dict(num_residual_streams=2, qkv_receive_diff_residuals=True)
ALL_SUBHEADS = dict(attn_use_latent_kv=True, attn_dim_latent_kv=6, attn_latent_rope_subheads=4)
OUT_OF_USE = dict(
    attn_dim_latent_q=0, attn_dim_latent_kv=-3, attn_cope_max_pos=0, attn_laser_softclamp_value=0.,
    attn_data_dependent_alibi_per_row_dim_head=0, attn_gumbel_softmax_temp=0., alibi_num_heads=0,
    rotary_interpolation_factor=0.5, rotary_xpos_scale_base=0, softclamp_output_value=0.,
    dim_condition=0, adaptive_condition_mlp_expansion=0, rel_pos_num_buckets=0)
WRAPPER_OUT_OF_USE = dict(num_cls_tokens=0, num_pooled_tokens=0, attn_pool_depth=0,
                          dim_pooled_tokens=0, mixture_of_softmax_k=0, train_max_recycle_steps=0)
for name, config, inputs, *kwargs in [
    ('out_of_use', dec(**OUT_OF_USE), HIDDEN),
    ('out_of_use_wrapper', lm(dec(), **WRAPPER_OUT_OF_USE), X),
    ('null_is_false', dec(pre_norm=None, attn_qk_norm=None), HIDDEN),
    ('qk_norm_scale_null', dec(attn_qk_norm=True, attn_qk_norm_scale=None), HIDDEN),
    ('dropout_1', dec(attn_dropout=1., ff_dropout=1., layer_dropout=1., attn_sublayer_dropout=1.),
     HIDDEN),
    ('emb_dropout_1', lm(dec(), emb_dropout=1.), X),
    ('depth_0', dec(0), HIDDEN),
    ('depth_0_wrapper', lm(enc(0)), X),
    ('rotary_of_nothing', dec(rotary_pos_emb=True, rotary_emb_dim=0), HIDDEN),
    ('rotary_of_nothing_xpos', dec(rotary_xpos=True, rotary_emb_dim=0), HIDDEN),
    ('rotary_of_one_feature', dec(rotary_pos_emb=True, attn_dim_head=1), HIDDEN),
    ('all_subheads', dec(rotary_pos_emb=True, **ALL_SUBHEADS), HIDDEN),
    ('causal_cross_attender', cross(causal=True, shift_tokens=1), HIDDEN | CONTEXT),
    ('causal_cross_attender_xpos', cross(causal=True, rotary_xpos=True), HIDDEN | CONTEXT),
    ('not_causal_cross_attender', cross(causal=False, shift_tokens=1), HIDDEN | CONTEXT),
    ('cross_attender_attn_causal', cross(attn_causal=True),
     HIDDEN | dict(context=flt(B, N + 2, D))),
    ('cross_attender_attn_mix', cross(attn_learned_value_residual_mix=True), HIDDEN | CONTEXT),
    ('residual_views', dec(None, custom_layers=['a', 'a'], **HYPER,
                           residual_fn_kwargs=dict(num_input_views=3)), HIDDEN),
    ('residual_views_unused', dec(residual_fn_kwargs=dict(num_input_views=3)), HIDDEN),
    ('mems_of_two_lengths', dec(), HIDDEN | {'mems.0': flt(B, 3, D), 'mems.1': flt(B, 5, D)}),
    ('mems_of_two_lengths_rotary', dec(rotary_pos_emb=True),
     HIDDEN | {'mems.0': flt(B, 5, D), 'mems.1': flt(B, 3, D)}),
    ('mems_of_two_lengths_alibi', dec(alibi_pos_bias=True),
     HIDDEN | {'mems.0': flt(B, 3, D), 'mems.1': flt(B, 5, D)}),
    ('mems_of_no_layer', dec(), HIDDEN | mems(2) | {'mems.2': flt(B, 9, D)}),
    ('mems_one_layer_alibi', dec(alibi_pos_bias=True), HIDDEN | mems(1)),
    ('mems_one_layer_t5', dec(rel_pos_bias=True), HIDDEN | mems(1)),
    ('mems_one_layer_dynamic', enc(dynamic_pos_bias=True), HIDDEN | mems(1)),
    ('mems_value_residual', dec(add_value_residual=True), dict(x=flt(B, 1, D)) | mems(2)),
    ('shift_mem_down_all', lm(dec(), shift_mem_down=2), X | {'mems.0': flt(B, 3, D)}),
    ('shift_mem_down_more', lm(dec(3), shift_mem_down=9), X | mems(3)),
    ('shift_mem_up', lm(dec(3), shift_mem_down=-1), X | mems(3)),
    ('few_tokens', lm(dec(), **FEW), X),
    ('no_tokens', lm(dec(), **FEW | dict(num_tokens=0)), X),
    ('few_tokens_loss', ar(lm(dec(), **FEW)), X),
    ('embedded_features', lm(dec(), token_emb=dict(type='Linear', in_features=5, out_features=D)),
     dict(x=flt(B, N, 5))),
    ('embed_ids_for_all', lm(dec(), embed_num_tokens=dict(part=3)),
     X | {'embed_ids.part': tok(N, bound=3)}),
    ('tied_only_embed', lm(dec(), tie_embedding=True, emb_dim=10, return_only_embed=True), X),
    ('loss_mems', ar(lm(dec(), max_mem_len=4)), X, dict(return_outputs=True, return_mems=True)),
    ('loss_without_effect', ar(lm(dec())), X, dict(return_attn=True, input_not_include_cache=True,
                                                   cache_age=2)),
    ('nulls', dec(), HIDDEN, dict(flash_pack_seq_kwargs=None, flash_pack_seq_context_kwargs=None)),
    ('null_cache', lm(dec()), X, dict(cache=None)),
    ('null_cache_attention', dict(type='Attention', dim=D, heads=4, dim_head=8), HIDDEN,
     dict(cache=None)),
    ('null_cache_loss', ar(lm(dec())), X, dict(cache=None)),
    ('rel_pos_of_one_head', dict(type='Attention', dim=D, heads=4, dim_head=8), HIDDEN,
     dict(rel_pos=dict(type='AlibiPositionalBias', heads=1, total_heads=1))),
    ('one_row_context', dec(cross_attend=True), dict(x=flt(1, N, D)) | CONTEXT),
    ('one_row_condition', dec(use_adaptive_rmsnorm=True), dict(x=flt(1, N, D), condition=flt(B, D))),
    ('one_row_in_attn_cond', dec(), dict(x=flt(1, N, D), in_attn_cond=flt(B, N, D))),
    ('one_row_mask', enc(), dict(x=flt(1, N, D)) | MASK),
    ('one_row_attention', dict(type='Attention', dim=D, heads=4, dim_head=8),
     dict(x=flt(1, N, D), context=flt(B, 5, D))),
    ('one_row_sum_embeds', lm(dec()), dict(x=tok(1, N), sum_embeds=flt(B, N, D))),
    ('one_row_pos', lm(dec()), dict(x=tok(1, N), pos=tok(B, N, bound=12))),
    ('one_row_wrapper_context', lm(dec(cross_attend=True)), dict(x=tok(1, N)) | CONTEXT),
    ('one_row_attn_mask', enc(), ONE | dict(attn_mask=bit(B, 1, N, N))),
    ('one_row_attn_bias', enc(), ONE | dict(attn_bias=flt(B, 4, N, N))),
    ('one_row_seq_start_pos', enc(), ONE | dict(seq_start_pos=ints([0, 3]))),
    ('one_row_prefix', pre(), ONE | dict(prefix_attn_len=ints([2, 4]))),
    ('one_row_pos_alibi', enc(alibi_pos_bias=True), ONE | dict(pos=tok(B, N, bound=12))),
    ('one_row_kv_residuals', dec(), ONE | dict(self_attn_kv_residuals=flt(2, B, N, D))),
    ('one_row_unread', enc(None, custom_layers=['f', 'f']), ONE | MASK),
    ('one_row_unread_depth_0', enc(0), ONE | MASK),
    ('one_row_unread_wrapper', lm(enc(None, custom_layers=['f'])), dict(x=tok(1, N)) | MASK),
    ('dim_out_of_no_layer', enc(None, custom_layers=['f'], attn_dim_out=5), HIDDEN),
    ('flash_pack_seq_alone', dec(rotary_pos_emb=True, attn_flash_pack_seq=True), HIDDEN),
]:
    add(f'taken.{name}', config, inputs, *kwargs)

ATTENTION = dict(type='Attention', dim=D, heads=4, dim_head=8)
for name, inputs in [
    ('mask', MASK), ('context_mask', dict(context=flt(1, 5, D), context_mask=lens(5, 5, 3))),
    ('attn_mask', dict(attn_mask=bit(B, 1, N, N))), ('attn_bias', dict(attn_bias=flt(B, 4, N, N))),
    ('prev_attn', dict(prev_attn=flt(B, 4, N, N))),
    ('value_residual', dict(value_residual=flt(B, 4, N, 8))),
    ('kv_input_residual', dict(kv_input_residual=flt(B, N, D))),
]:
    add(f'taken.one_row_attention_{name}', ATTENTION, ONE | inputs)

GREEDY = dict(temperature=0., seq_len=5)
CROSS = dict(cross_attend=True, rotary_pos_emb=True)
for name, cached in [('', True), ('_uncached', False)]:
    add(f'taken.one_prompt_beams{name}', ar(lm(dec(**CROSS))),
        dict(prompts=tok(1, 4), context=flt(1, 5, D), context_mask=lens(5, 4),
             context_pos=ints([[0, 2, 3, 5, 8]])),
        dict(method='beam_search', seq_len=5, beams=3, cache_kv=cached), mode='generate',
        grads=False, louder={'to_logits.weight': 3., 'token_emb.emb.weight': 2.})
for name, inputs, kwargs, *wrapped in [
    ('prompts_of_bools', dict(prompts=bit(B, 4)), {}),
    ('generate_mems_of_two_lengths', dict(prompts=tok(B, 4))
     | {'mems.0': flt(B, 5, D), 'mems.1': flt(B, 3, D)}, {}),
    ('prompts_of_rank_3', dict(prompts=tok(2, 3, 4)), {}),
    ('prompts_of_rank_3_beams', dict(prompts=tok(2, 3, 4)), dict(method='beam_search')),
    ('eos_never', dict(prompts=tok(B, 4)), dict(eos_token=-1)),
    ('filter_null', dict(prompts=tok(B, 4)),
     dict(temperature=1., filter_kwargs=dict(k=None, frac_num_tokens=0.01))),
    ('contrastive_alone', dict(prompts=tok(B, 4)),
     dict(contrastive_decode_kwargs=dict(alpha=0.1, beta=0.5))),
    ('generate_without_effect', dict(prompts=tok(B, 4)),
     dict(input_not_include_cache=True, cache_age=2, attn_z_loss_weight=0.1,
          return_logit_entropies=True)),
    ('continuous_head', dict(prompts=tok(B, 4)), {},
     dict(emb_dim=10, add_continuous_pred_head=True)),
]:
    beams = kwargs.get('method') == 'beam_search'
    add(f'taken.{name}', ar(lm(dec(), **(wrapped[0] if wrapped else {}))), inputs,
        (dict(seq_len=5) if beams else GREEDY) | kwargs, mode='generate', grads=False,
        louder={'to_logits.weight': 3., 'token_emb.emb.weight': 2.})
