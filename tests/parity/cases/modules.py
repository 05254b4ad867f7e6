"""Modules usable alone: embeddings, positions, norms, residuals, feed-forward."""
from .base import B, D, N, add, bit, bools, each_module, flt, ints, nums, tok

X, INPUT = dict(x=flt(B, N, D)), dict(input=flt(B, N, D))
TOKENS = dict(x=tok(B, N, bound=9))
BRANCH = dict(x=flt(B, N, D), residual=flt(B, N, D))
POSITIONS = ints([3, 0, 5, 1, 2, 8, 4])
BATCH_POSITIONS = ints([[3, 0, 5, 1, 2, 8, 4], [0, 1, 2, 3, 4, 5, 6]])


def norm(type, **options):
    return dict(type=type, dim=D, **options)


each_module('norm', {
    'layernorm': (norm('LayerNorm'), X),
    'layernorm_unit_offset': (norm('LayerNorm', unit_offset=True), X),
    'rmsnorm': (norm('RMSNorm'), X),
    'rmsnorm_unit_offset': (norm('RMSNorm', unit_offset=True), X),
    'rmsnorm_zero_row': (norm('RMSNorm'), dict(x=nums([[[0.] * D, [0.5 * i for i in range(D)]]]))),
    'scalenorm': (norm('ScaleNorm'), X),
    'scalenorm_unit_offset': (norm('ScaleNorm', unit_offset=True), X),
    'simple_rmsnorm': (norm('SimpleRMSNorm'), X),
    'multihead_rmsnorm': (dict(type='MultiheadRMSNorm', dim=8, heads=3), dict(x=flt(B, 3, N, 8))),
    'adaptive_layernorm': (norm('AdaptiveLayerNorm', dim_condition=6), X
                           | dict(condition=flt(B, 6))),
    'adaptive_layernorm_3d': (norm('AdaptiveLayerNorm'), X | dict(condition=flt(B, N, D))),
    'adaptive_rmsnorm': (norm('AdaptiveRMSNorm', dim_condition=6), X | dict(condition=flt(B, 6))),
    'adaptive_rmsnorm_3d': (norm('AdaptiveRMSNorm'), X | dict(condition=flt(B, N, D))),
    'dynamic_tanh': (norm('DynamicTanh'), X),
    'dynamic_tanh_options': (norm('DynamicTanh', init_alpha=0.7, gamma=2., beta=0.3,
                                  unit_offset=True), X),
    'derf': (norm('Derf'), X),
    'derf_options': (norm('Derf', init_alpha=0.3, init_bias=0.2, unit_offset=True), X),
})

each_module('embedding', {
    'token': (dict(type='TokenEmbedding', dim=D, num_tokens=9), TOKENS),
    'token_l2norm': (dict(type='TokenEmbedding', dim=D, num_tokens=9, l2norm_embed=True), TOKENS),
    'absolute': (dict(type='AbsolutePositionalEmbedding', dim=D, max_seq_len=9), X),
    'absolute_l2norm': (dict(type='AbsolutePositionalEmbedding', dim=D, max_seq_len=9,
                             l2norm_embed=True), X),
    'absolute_pos': (dict(type='AbsolutePositionalEmbedding', dim=D, max_seq_len=9), X
                     | dict(pos=POSITIONS)),
    'absolute_start': (dict(type='AbsolutePositionalEmbedding', dim=D, max_seq_len=9), X
                       | dict(seq_start_pos=ints([0, 3]))),
    'absolute_offset': (dict(type='AbsolutePositionalEmbedding', dim=D, max_seq_len=9), X,
                        dict(offset=2)),
    'sinusoidal': (dict(type='ScaledSinusoidalEmbedding', dim=D), X),
    'sinusoidal_theta': (dict(type='ScaledSinusoidalEmbedding', dim=D, theta=50), X),
    'sinusoidal_pos': (dict(type='ScaledSinusoidalEmbedding', dim=D), X | dict(pos=POSITIONS)),
    'sinusoidal_offset': (dict(type='ScaledSinusoidalEmbedding', dim=D), X, dict(offset=5)),
})
# Python fails with seq_start_pos; ours does what absolute positions do.

IJ = dict(i=4, j=7)
each_module('position', {
    'rotary': (dict(type='RotaryEmbedding', dim=8), dict(t=ints([0, 1, 2, 3, 4]))),
    'rotary_batch': (dict(type='RotaryEmbedding', dim=8), dict(t=BATCH_POSITIONS)),
    'rotary_offset': (dict(type='RotaryEmbedding', dim=8), dict(t=POSITIONS), dict(offset=3)),
    'rotary_base': (dict(type='RotaryEmbedding', dim=8, base=100), dict(t=POSITIONS)),
    'rotary_rescale': (dict(type='RotaryEmbedding', dim=8, base_rescale_factor=4.),
                       dict(t=POSITIONS)),
    'rotary_interpolation': (dict(type='RotaryEmbedding', dim=8, interpolation_factor=2.5),
                             dict(t=POSITIONS)),
    'rotary_xpos': (dict(type='RotaryEmbedding', dim=8, use_xpos=True, scale_base=16),
                    dict(t=POSITIONS)),
    'rotary_xpos_batch': (dict(type='RotaryEmbedding', dim=8, use_xpos=True),
                          dict(t=BATCH_POSITIONS)),
    'rotary_negative': (dict(type='RotaryEmbedding', dim=8, use_xpos=True),
                        dict(t=ints([-3, -2, -1, 0, 1, 2]))),
    'alibi': (dict(type='AlibiPositionalBias', heads=4), {}, IJ),
    'alibi_odd_heads': (dict(type='AlibiPositionalBias', heads=3), {}, IJ),
    'alibi_total_heads': (dict(type='AlibiPositionalBias', heads=3, total_heads=5), {}, IJ),
    'alibi_slopes': (dict(type='AlibiPositionalBias', heads=3, slopes=[0.5, 0.1, 0.02]), {}, IJ),
    't5': (dict(type='RelativePositionBias', scale=1.5, heads=3), {}, dict(i=9, j=14)),
    't5_causal': (dict(type='RelativePositionBias', scale=0.5, causal=True, num_buckets=8,
                       max_distance=12, heads=3),
                  {}, dict(i=9, j=14)),
    't5_far': (dict(type='RelativePositionBias', scale=1., num_buckets=8, max_distance=10), {},
               dict(i=20, j=20)),
    'dynamic': (dict(type='DynamicPositionBias', dim=6, heads=3, depth=2), {}, IJ),
    'dynamic_log': (dict(type='DynamicPositionBias', dim=6, heads=3, depth=3, log_distance=True,
                         norm=True), {}, IJ),
    'data_alibi': (dict(type='DataDependentAlibi', dim=D, heads=3), X),
    'data_alibi_both_ways': (dict(type='DataDependentAlibi', dim=D, heads=3, causal=False,
                                  bias_init=1.,
                                  post_log_scale=0.5), X),
    'data_alibi_per_row': (dict(type='PerRowDataDependentAlibi', dim=D, heads=3), X),
    'data_alibi_per_row_options': (dict(type='PerRowDataDependentAlibi', dim=D, heads=3,
                                        dim_head=4, post_log_scale=0.5), X),
    'cope': (dict(type='CoPE', dim=8, heads=3, max_pos=5),
             dict(query=flt(B, 3, N, 8), attn_logits=flt(B, 3, N, N))),
    'cope_talking_heads': (dict(type='CoPE', dim=8, heads=3, max_pos=4, talking_heads=True),
                           dict(query=flt(B, 3, N, 8), attn_logits=flt(B, 3, N, N))),
})

# the first output, the frequencies, has no gradient
add('position.polar', dict(type='PolarEmbedding', dim=8, heads=3), dict(t=POSITIONS), grads=False)
add('position.polar_base', dict(type='PolarEmbedding', dim=8, heads=3, base=100),
    dict(t=POSITIONS), dict(offset=2), grads=False)

each_module('residual', {
    'plain': (dict(type='Residual', dim=D), BRANCH),
    'scaled': (dict(type='Residual', dim=D, scale_residual=True, scale_residual_constant=0.7),
               BRANCH),
    'gru': (dict(type='GRUGating', dim=D), BRANCH),
    'gru_scaled': (dict(type='GRUGating', dim=D, scale_residual=True), BRANCH),
    'lime': (dict(type='DynamicLIMe', dim=D, num_layers=3), X | dict(hiddens=flt(3, B, N, D))),
    'lime_views': (dict(type='DynamicLIMe', dim=D, num_layers=3, num_views=3, norm=False,
                        use_softmax=False),
                   X | dict(hiddens=flt(3, B, N, D))),
    'lime_unnormed': (dict(type='DynamicLIMe', dim=D, num_layers=2, norm=False),
                      X | {'hiddens.0': flt(B, N, D), 'hiddens.1': flt(B, N, D)}),
    'layer_scale': (dict(type='LayerScale', fn=dict(type='LayerNorm', dim=D), dim=D,
                         init_value=0.3), X),
    'layer_scale_unit': (dict(type='LayerScale', fn=dict(type='LayerNorm', dim=D), dim=D,
                              unit_offset=True), X),
    'adaptive_layer_scale': (dict(type='AdaptiveLayerScale', fn=dict(type='LayerNorm', dim=D),
                                  dim=D, dim_condition=6,
                                  init_bias_value=-1.), X | dict(condition=flt(B, 6))),
    'scale': (dict(type='Scale', value=0.5, fn=dict(type='LayerNorm', dim=D)), X),
    'shift_tokens': (dict(type='ShiftTokens', shifts=[0, 1, 2], fn=dict(type='LayerNorm', dim=D)),
                     X),
    'concat_combine': (dict(type='ConcatCombine', dim=D, prev_layer_ind=1),
                       X | {'prev_layers.0': flt(B, N, D), 'prev_layers.1': flt(B, N, D)}),
})
HYPER = dict(type='HyperConnection', dim=D, layer_index=1, num_residual_streams=3)
STREAMS = dict(x=flt(B, N, D), residuals=flt(B, N, 3, D), beta=flt(B, N, 3))
add('residual.hyper_connection', HYPER, STREAMS, grads=False)  # forward itself has no parameter
add('residual.hyper_connection_views', dict(HYPER, num_input_views=2, sinkhorn_iters=3), STREAMS,
    grads=False)
add('residual.fold_axially',
    dict(type='FoldAxially', axial_dim=3, fn=dict(type='LayerNorm', dim=D)), X)


def ff(**options):
    return dict(type='FeedForward', dim=D, mult=2) | options


WIDTH = 2 * D
ACTIVATIONS = {
    'elu': dict(type='ELU', alpha=0.7, inplace=True),
    'celu': dict(type='CELU', alpha=0.4),
    'gated_celu': dict(type='CELU', alpha=1.5, inplace=False),
    'hardtanh': dict(type='Hardtanh', min_val=-0.3, max_val=0.6),
    'hardtanh_old_names': dict(type='Hardtanh', min_value=-0.3, max_value=0.6),
    'softplus': dict(type='Softplus', beta=2, threshold=1.5),
    'threshold': dict(type='Threshold', threshold=0.1, value=-0.2, inplace=True),
    'hardshrink': dict(type='Hardshrink', lambd=0.2),
    'softshrink': dict(type='Softshrink', lambd=0.2),
    'relu_inplace': dict(type='ReLU', inplace=True),
    'mish_inplace': dict(type='Mish', inplace=None),
    'softmax': dict(type='Softmax'),
    'softmin': dict(type='Softmin', dim=None),
    'log_softmax': dict(type='LogSoftmax', dim=-2),
    'softmax_2d': dict(type='Softmax2d'),
    'identity': dict(type='Identity'),
    'alpha_dropout': dict(type='AlphaDropout', p=0.3, inplace=True),
    'feature_alpha_dropout': dict(type='FeatureAlphaDropout', p=0.3),
    **{f'dropout_{n}d': dict(type=f'Dropout{n}d', p=0.3) for n in (1, 2, 3)},
    'layer_norm': dict(type='LayerNorm', dim=WIDTH, unit_offset=True),
    'rms_norm': dict(type='RMSNorm', dim=WIDTH),
    'scale_norm': dict(type='ScaleNorm', dim=WIDTH),
    'simple_rms_norm': dict(type='SimpleRMSNorm', dim=WIDTH),
    'glu': dict(type='GLU', dim_in=WIDTH, dim_out=WIDTH, activation=dict(type='ELU', alpha=0.5)),
    'feed_forward': dict(type='FeedForward', dim=WIDTH, mult=1, custom_activation=dict(
        type='PReLU', num_parameters=N, init=0.1)),
}

each_module('feed_forward', {
    'plain': (ff(), X),
    'mult': (ff(mult=1.5), X),
    'dim_out': (ff(dim_out=5), X),
    'glu': (ff(glu=True), X),
    'glu_mult_bias': (ff(glu=True, glu_mult_bias=True), X),
    'swish': (ff(swish=True), X),
    'swiglu': (ff(swish=True, glu=True), X),
    'relu_squared': (ff(relu_squared=True), X),
    'relu_squared_glu': (ff(relu_squared=True, glu=True), X),
    'solu': (ff(solu=True), X),
    'solu_glu': (ff(solu=True, glu=True, no_bias=True), X),
    'custom_activation': (ff(custom_activation=dict(type='ReLU')), X),
    'custom_activation_selu': (ff(custom_activation=dict(type='SELU'), glu=True), X),
    'custom_activation_sigmoid': (ff(custom_activation=dict(type='Sigmoid')), X),
    'custom_activation_tanh': (ff(custom_activation=dict(type='Tanh')), X),
    'custom_activation_gelu_tanh': (ff(custom_activation=dict(type='GELU', approximate='tanh')), X),
    'custom_activation_leaky': (ff(custom_activation=dict(type='LeakyReLU', negative_slope=0.2)),
                                X),
    **{f'custom_activation_{name}': (ff(custom_activation=module, glu=name == 'gated_celu'), X)
       for name, module in ACTIVATIONS.items()},
    'post_act_ln': (ff(post_act_ln=True), X),
    'post_act_ln_glu': (ff(post_act_ln=True, glu=True, swish=True), X),
    'no_bias': (ff(no_bias=True), X),
    'no_bias_glu': (ff(no_bias=True, glu=True), X),
    'zero_init_output': (ff(zero_init_output=True), X),
    'dropout': (ff(dropout=0.3, sublayer_dropout=0.2), X),
    'deep_embed': (ff(), X | dict(deep_embed=flt(B, N, D))),
    'one_token': (ff(glu=True), dict(x=flt(1, 1, D))),
})
each_module('activation', {
    'glu': (dict(type='GLU', dim_in=D, dim_out=6, activation=dict(type='SiLU')), X),
    'glu_mult_bias': (dict(type='GLU', dim_in=D, dim_out=6, activation=dict(type='ReluSquared'),
                           mult_bias=True), X),
    'relu_squared': (dict(type='ReluSquared'), X),
    'solu': (dict(type='SoLU', dim=D), X),
    'identity': (dict(type='Identity'), dict(t=flt(B, N, D))),
})

each_module('callable', {
    'linear': (dict(type='Linear', in_features=D, out_features=5), INPUT),
    'linear_no_bias': (dict(type='Linear', in_features=D, out_features=5, bias=False), INPUT),
    'embedding': (dict(type='Embedding', num_embeddings=9, embedding_dim=5),
                  dict(input=tok(B, N, bound=9))),
    'embedding_padding': (dict(type='Embedding', num_embeddings=4, embedding_dim=5, padding_idx=2),
                          dict(input=tok(B, N, bound=4))),
    'embedding_max_norm': (dict(type='Embedding', num_embeddings=9, embedding_dim=5, max_norm=0.8,
                                norm_type=1.5), dict(input=tok(B, N, bound=9))),
    'embedding_by_frequency': (dict(type='Embedding', num_embeddings=4, embedding_dim=5,
                                    scale_grad_by_freq=True, padding_idx=-1, sparse=False),
                               dict(input=tok(B, N, bound=4))),
    'softmax': (dict(type='Softmax', dim=1), INPUT),
    'softmax_no_dim': (dict(type='Softmax'), INPUT),
    'gru': (dict(type='GRU', input_size=D, hidden_size=6, batch_first=True), INPUT),
    'gru_time_first': (dict(type='GRU', input_size=D, hidden_size=6, bias=False), INPUT),
    'gru_both_ways': (dict(type='GRU', input_size=D, hidden_size=6, num_layers=2, batch_first=True,
                           bidirectional=True), INPUT),
    'gru_goes_on': (dict(type='GRU', input_size=D, hidden_size=6, batch_first=True),
                    INPUT | dict(hx=flt(1, B, 6))),
    'rnn': (dict(type='RNN', input_size=D, hidden_size=6, num_layers=2, batch_first=True), INPUT),
    'rnn_relu': (dict(type='RNN', input_size=D, hidden_size=6, nonlinearity='relu', bias=False,
                      bidirectional=True), INPUT),
    'rnn_goes_on': (dict(type='RNN', input_size=D, hidden_size=6, batch_first=True),
                    INPUT | dict(hx=flt(1, B, 6))),
    'dropout': (dict(type='Dropout', p=0.3), INPUT),
    'min_gru': (dict(type='MinGRU', dim=D), X),
    'min_gru_goes_on': (dict(type='MinGRU', dim=D, dim_out=3),
                        X | dict(hx=nums([[[0.2, 1., 3.]], [[0.1, 0.7, 2.]]]))),
    'convolution': (dict(type='CausalConv1d', dim=D, dim_out=5, kernel_size=3), X),
    'convolution_depthwise': (dict(type='CausalConv1d', dim=D, dim_out=2 * D, depthwise=True), X),
    'convolution_goes_on': (dict(type='CausalConv1d', dim=D), X | dict(hx=flt(B, 3, D))),
    'convolution_one_token': (dict(type='CausalConv1d', dim=D, kernel_size=1), X),
    'fold_axially_gru': (dict(type='FoldAxially', axial_dim=2,
                              fn=dict(type='GRU', input_size=D, hidden_size=6, batch_first=True)),
                         X),
})

QKV = dict(q=flt(B, 4, 5, 8), k=flt(B, 4, N, 8), v=flt(B, 4, N, 6))


def attend(**options):
    return dict(dict(type='Attend', heads=4), **options)


each_module('attend', {
    'plain': (attend(), QKV),
    'causal': (attend(causal=True), QKV),
    'scale': (attend(scale=0.7), QKV),
    'flash': (attend(flash=True, causal=True), QKV),
    'flash_scale_bias': (attend(flash=True, causal=True, scale=0.2), QKV
                         | dict(attn_bias=flt(4, 5, N))),
    'mask': (attend(), QKV | dict(mask=bit(B, N))),
    'mask_causal': (attend(causal=True), QKV | dict(mask=bit(B, 1, 5, N))),
    'no_key_left': (attend(), QKV | dict(mask=bools([[True] * N, [False] * N]))),
    'flash_no_key_left': (attend(flash=True), QKV
                          | dict(mask=bools([[[[True] * N]], [[[False] * N]]]))),
    'bias': (attend(), QKV | dict(attn_bias=flt(4, 5, N))),
    'dropout': (attend(dropout=0.2), QKV),
    'one_kv_head': (attend(), QKV | dict(k=flt(B, 1, N, 8), v=flt(B, 1, N, 6))),
    'kv_heads': (attend(causal=True), QKV | dict(k=flt(B, 2, N, 8), v=flt(B, 2, N, 6))),
    'qk_norm': (attend(qk_norm=True, scale=10), QKV),
    'zero_kv': (attend(add_zero_kv=True), QKV | dict(mask=bit(B, N), attn_bias=flt(4, 5, N))),
    'prev_attn': (attend(), QKV | dict(prev_attn=flt(B, 4, 5, N))),
    'talking_heads': (attend(pre_talking_heads=True, post_talking_heads=True), QKV),
    'pre_scale_post_talking_heads': (attend(pre_scale_post_talking_heads=True), QKV),
    'sigmoid': (attend(sigmoid=True), QKV),
    'l2_distance': (attend(l2_distance=True), QKV),
    'hard': (attend(hard=True), QKV),
    'sparse_topk': (attend(sparse_topk=3), QKV),
    'sparse_topk_straight_through': (attend(sparse_topk=3, sparse_topk_straight_through=True), QKV),
    'softclamp': (attend(softclamp_logits=True, logit_softclamp_value=2.), QKV),
    'sink': (attend(head_learned_sink=True), QKV),
    'cog': (attend(cog_signed=True, causal=True), QKV),
    'selective': (attend(selective=True, causal=True), QKV | dict(q=flt(B, 4, N, 8))),
    'cope': (attend(cope=dict(type='CoPE', dim=8, heads=4, max_pos=4), causal=True), QKV
             | dict(q=flt(B, 4, N, 8))),
    'order_of_scores': (attend(pre_talking_heads=True, post_talking_heads=True,
                               pre_scale_post_talking_heads=True, softclamp_logits=True,
                               logit_softclamp_value=2., cog_signed=True, causal=True,
                               head_learned_sink=True), QKV
                        | dict(prev_attn=flt(B, 4, 5, N), attn_bias=flt(4, 5, N), mask=bit(B, N))),
    'onnxable': (attend(onnxable=True, causal=True), QKV),
    'custom_attn_fn': (attend(custom_attn_fn=dict(type='Sigmoid')), QKV),
    'sdp_kwargs': (attend(flash=True,
                          sdp_kwargs=dict(enable_flash=False, enable_math=True,
                                          enable_mem_efficient=False)),
                   QKV),
})
