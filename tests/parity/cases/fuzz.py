"""Random combinations of options, drawn from tables. Python refusing a combination drops it.

Each table entry is (probability, options): the options are a dict, or a function of the random
generator that returns one; a list means one of them. `repair` takes back contradictions."""
import random

from .base import B, Case, D, N, V, bit, flt, ints, lens, mem_masks, mems, right, tok

NORMS = [dict(use_rmsnorm=True), dict(use_scalenorm=True), dict(use_simple_rmsnorm=True),
         dict(use_dynamic_tanh=True),
         dict(use_derf=True), dict(use_rmsnorm=True, norm_add_unit_offset=False),
         dict(norm_add_unit_offset=False)]
POSITIONS = [dict(rotary_pos_emb=True), dict(rotary_pos_emb=True, rotary_emb_dim=6),
             dict(rotary_pos_emb=True, rotary_interpolation_factor=1.5),
             dict(rotary_pos_emb=True, rotate_num_heads=2),
             dict(rotary_pos_emb=True, rotary_base_rescale_factor=2.), dict(rotary_xpos=True),
             dict(rotary_xpos=True, rotary_xpos_scale_base=20), dict(alibi_pos_bias=True),
             dict(alibi_pos_bias=True, alibi_num_heads=3), dict(disable_abs_pos_emb=True),
             dict(rel_pos_bias=True),
             dict(rel_pos_bias=True, rel_pos_num_buckets=6, rel_pos_max_distance=8),
             dict(dynamic_pos_bias=True),
             dict(dynamic_pos_bias=True, dynamic_pos_bias_log_distance=True,
                  dynamic_pos_bias_norm=True),
             dict(polar_pos_emb=True), dict(attn_data_dependent_alibi=True)]
HEADS = [dict(attn_kv_heads=2), dict(attn_kv_heads=1), dict(attn_one_kv_head=True),
         dict(attn_value_dim_head=5), dict(heads=2),
         dict(heads=3), dict(attn_dim_head=12), dict(attn_kv_heads=2, attn_value_dim_head=6)]
QK_NORM = [dict(attn_qk_norm=True), dict(attn_qk_norm=True, attn_qk_norm_groups=2),
           dict(attn_qk_norm=True, attn_qk_norm_scale=6, attn_qk_norm_dim_scale=True),
           dict(attn_qk_norm=True, attn_qk_norm_groups=2, attn_qk_norm_dim_scale=True)]
NORMALISER = [dict(attn_sigmoid=True), dict(attn_l2_distance=True), dict(attn_sparse_topk=3),
              dict(attn_hard=True)]
RESIDUAL = [dict(scale_residual=True), dict(scale_residual_constant=0.7), dict(gate_residual=True),
            dict(num_residual_streams=2), dict(add_value_residual=True), dict(residual_attn=True),
            dict(integrate_layers=True), dict(integrate_layers=True, layer_integrate_use_softmax=False),
            dict(num_residual_streams=2, qkv_receive_diff_residuals=True),
            dict(integrate_layers=True, qkv_receive_diff_residuals=True),
            dict(num_residual_streams=3, hyper_conn_sinkhorn_iters=3),
            dict(add_value_residual=True, learned_value_residual_mix=True)]
ADAPTIVE = [dict(use_adaptive_layernorm=True), dict(use_adaptive_rmsnorm=True),
            dict(use_adaptive_layerscale=True),
            dict(use_adaptive_rmsnorm=True, adaptive_condition_mlp=True,
                 adaptive_condition_mlp_expansion=2)]
COPE = dict(attn_use_cope=True, attn_cope_max_pos=4)
LATENT_Q = dict(attn_use_latent_q=True, attn_dim_latent_q=6)
LATENT_KV = dict(attn_use_latent_kv=True, attn_dim_latent_kv=6)
SCORES = [dict(attn_selective=True), dict(attn_cog_signed=True), COPE,
          COPE | dict(attn_cope_talking_heads=True), COPE | dict(attn_cope_soft_onehot_pos=True),
          dict(attn_pre_scale_post_talking_heads=True),
          dict(attn_sparse_topk=3, attn_sparse_topk_straight_through=True),
          dict(attn_data_dependent_alibi=True, attn_data_dependent_alibi_per_row=True),
          dict(attn_data_dependent_alibi=True, attn_data_dependent_alibi_per_row=True,
               attn_data_dependent_alibi_per_row_dim_head=4)]
VALUES = [dict(attn_gate_values=True, attn_swiglu_values=True), dict(attn_value_rmsnorm=True),
          dict(attn_orthog_projected_values=True), dict(attn_orthog_projected_values_per_head=True),
          dict(attn_laser=True, attn_laser_softclamp_value=5.), dict(attn_sublayer_dropout=0.1),
          LATENT_Q, LATENT_KV, LATENT_Q | LATENT_KV,
          LATENT_KV | dict(attn_latent_rope_subheads=2, rotary_pos_emb=True)]
CROSS = [dict(cross_attn_num_mem_kv=2), dict(cross_attn_kv_heads=2), dict(cross_residual_attn=True),
         dict(only_cross=True), dict(cross_attn_tokens_dropout=0.3), dict(cross_attn_dim_head=6),
         dict(cross_attn_gate_values=True), dict(cross_attn_value_rmsnorm=True),
         dict(cross_attn_qk_norm=True), dict(cross_attn_softclamp_logits=True),
         dict(cross_attn_add_zero_kv=True), dict(cross_attn_sigmoid=True),
         dict(cross_attn_sparse_topk=2), dict(cross_attn_pre_talking_heads=True),
         dict(cross_attn_head_learned_sink=True), dict(cross_attn_one_kv_head=True),
         dict(cross_attn_head_scale=True), dict(cross_attn_on_attn=True),
         dict(cross_attn_cog_signed=True), dict(cross_attn_laser=True),
         dict(cross_attn_use_latent_kv=True, cross_attn_dim_latent_kv=5)]
LAYOUT = [dict(macaron=True), dict(sandwich_coef=1), dict(custom_layers=['a', 'f', 'a']),
          dict(weight_tie_layers=True),
          dict(layers_execute_order=[0, 1, 2, 3, 0, 1]), dict(depth=3, par_ratio=3), dict(depth=1),
          dict(unet_skips=True)]
STACK = [
    (0.5, NORMS), (0.6, POSITIONS), (0.4, HEADS), (0.25, QK_NORM), (0.1, NORMALISER),
    (0.2, RESIDUAL), (0.2, LAYOUT), (0.15, SCORES), (0.2, VALUES), (0.08, ADAPTIVE),
    (0.25, dict(attn_flash=True)), (0.25, lambda r: dict(attn_num_mem_kv=r.randint(1, 3))),
    (0.15, dict(pre_norm=False)), (0.1, dict(sandwich_norm=True)),
    (0.1, dict(pre_norm_has_final_norm=False)),
    (0.1, dict(shift_tokens=1)), (0.1, dict(zero_init_branch_output=True)),
    (0.1, dict(use_layerscale=True)),
    (0.05, dict(softclamp_output=True, softclamp_output_value=3.)), (0.05, dict(layer_dropout=0.2)),
    (0.05, [dict(reinject_input=True),
            dict(reinject_input=True, learned_reinject_input_gate=True)]),
    (0.03, dict(layerscale_init_value=0.3, use_layerscale=True)), (0.1, dict(attn_dropout=0.1, ff_dropout=0.1)),
    (0.05, dict(attn_onnxable=True)),
    (0.05, dict(attn_zero_init_output=True)), (0.05, dict(attn_head_scale=True)),
    (0.05, dict(attn_gate_values=True)),
    (0.05, dict(attn_gate_value_heads=True)), (0.05, dict(attn_on_attn=True)),
    (0.05, dict(attn_pre_talking_heads=True)), (0.05, dict(attn_post_talking_heads=True)),
    (0.05, dict(attn_softclamp_logits=True, attn_logit_softclamp_value=3.)),
    (0.05, dict(attn_head_learned_sink=True)),
    (0.05, dict(attn_add_zero_kv=True)), (0.05, dict(attn_max_attend_past=3)),
    (0.05, dict(attn_laser=True)),
    (0.06, [dict(attn_hybrid_module=dict(type='GRU')), dict(attn_hybrid_module=dict(type='MinGRU')),
            dict(attn_hybrid_module=dict(type='CausalConv1d', kernel_size=3),
                 attn_hybrid_learned_mix=True)]),
    (0.04, [dict(attn_custom_attn_fn=dict(type='Softmax', dim=-1)),
            dict(attn_custom_attn_fn=dict(type='Sigmoid'))]),
]
FEED_FORWARD = [
    (0.4, [dict(ff_glu=True), dict(ff_glu=True, ff_glu_mult_bias=True)]),
    (0.4, [dict(ff_swish=True), dict(ff_relu_squared=True), dict(ff_solu=True),
           dict(ff_custom_activation=dict(type='ReLU')),
           dict(ff_custom_activation=dict(type='Tanh'))]),
    (0.2, dict(ff_no_bias=True)), (0.2, dict(ff_post_act_ln=True)),
    (0.3, [dict(ff_mult=2), dict(ff_mult=1.5)]),
    (0.1, dict(ff_zero_init_output=True)), (0.1, dict(ff_sublayer_dropout=0.1)),
]
WRAPPER = [
    (0.2, [dict(use_abs_pos_emb=False), dict(scaled_sinu_pos_emb=True), dict(l2norm_embed=True),
           dict(max_seq_len=0)]),
    (0.2, dict(emb_dim=10)), (0.2, dict(post_emb_norm=True)), (0.15, dict(emb_frac_gradient=0.4)),
    (0.25, [dict(tie_embedding=True), dict(logits_dim=6), dict(num_output_heads=2),
            dict(return_only_embed=True)]),
    (0.2, lambda r: dict(num_memory_tokens=r.randint(1, 3))),
    (0.1, dict(embed_num_tokens=dict(part=3))),
    (0.05, [dict(mixture_of_softmax=True), dict(mixture_of_softmax=True, mixture_of_softmax_k=3)]),
    (0.05, dict(num_memory_tokens=2, memory_tokens_interspersed_every=3)),
    (0.05, dict(add_continuous_pred_head=True)), (0.05, dict(sigsoftmax_logits=True)),
    (0.05, dict(ff_deep_embed=True)),
    (0.05, dict(emb_dropout=0.2)),
]
POOLING = [dict(use_cls_token=True), dict(use_cls_token=True, num_cls_tokens=2),
           dict(average_pool_embed=True),
           dict(attn_pool=True), dict(attn_pool=True, num_pooled_tokens=2)]
RETURNS = [dict(return_embeddings=True), dict(return_logits_and_embeddings=True),
           dict(return_intermediates=True),
           dict(return_attn=True), dict(return_embeddings_and_intermediates=True),
           dict(return_logit_entropies=True),
           dict(return_attn_z_loss=True)]


class Draw:
    def __init__(self, seed, allowed):
        self.rng, self.allowed = random.Random(seed), allowed

    def chance(self, probability):
        return self.rng.random() < probability

    def table(self, type_name, table):
        """Options of one draw from each entry, those that are not allowed left out."""
        options = {}
        for probability, entry in table:
            if not self.chance(probability):
                continue
            entry = self.rng.choice(entry) if isinstance(entry, list) else entry
            entry = entry(self.rng) if callable(entry) else entry
            if self.allowed(dict(type=type_name, **entry)):
                options |= entry
        return options

    def stack(self, kinds=('Decoder', 'Decoder', 'Encoder', 'PrefixDecoder', 'CrossAttender'),
              cross=True):
        kind = self.rng.choice(kinds)
        net = dict(type=kind, dim=D, depth=2, heads=4, attn_dim_head=8)
        net |= self.table('AttentionLayers', STACK) | self.table('AttentionLayers', FEED_FORWARD)
        if cross and kind in ('Decoder', 'Encoder') and self.chance(0.25):
            more = self.rng.choice([{}, {}, *CROSS])
            net |= dict(cross_attend=True) | (more if self.allowed(dict(type=kind, **more)) else {})
        if 'custom_layers' in net:
            net.pop('depth')
        return repair(net)


def repair(net):
    """Takes back what contradicts the rest and would only be refused."""
    causal = net['type'] == 'Decoder'
    if not causal:
        net.pop('rotary_xpos', None)
        net.pop('attn_selective', None)
    if any(key.startswith('use_adaptive') for key in net):
        net['dim_condition'] = 6
        for key in ('use_rmsnorm', 'use_scalenorm', 'use_simple_rmsnorm', 'use_dynamic_tanh',
                    'use_derf', 'norm_add_unit_offset', 'use_layerscale', 'layerscale_init_value'):
            net.pop(key, None)
    if net.get('attn_use_cope'):
        for key in ('attn_data_dependent_alibi', 'attn_max_attend_past', 'attn_num_mem_kv'):
            net.pop(key, None)
    if net['type'] == 'CrossAttender':
        for key in ('rel_pos_bias', 'residual_attn', 'custom_layers', 'sandwich_coef'):
            net.pop(key, None)
        net.setdefault('depth', 2)
    if net.get('attn_flash') or net.get('pre_norm') is False:
        for key in ('rel_pos_bias', 'dynamic_pos_bias', 'residual_attn', 'attn_sparse_topk',
                    'attn_hard', 'attn_sigmoid', 'attn_custom_attn_fn',
                    'attn_softclamp_logits', 'attn_head_learned_sink', 'sandwich_norm',
                    'use_dynamic_tanh',
                    'attn_pre_talking_heads', 'attn_post_talking_heads', 'attn_selective',
                    'attn_cog_signed', 'attn_use_cope', 'attn_cope_max_pos',
                    'attn_cope_talking_heads', 'attn_cope_soft_onehot_pos',
                    'attn_pre_scale_post_talking_heads', 'attn_sparse_topk_straight_through'):
            net.pop(key, None)
    if net.get('ff_solu'):
        net.pop('ff_relu_squared', None)
    if 'attn_num_mem_kv' in net:
        net.pop('attn_value_dim_head', None)  # Python trips; ours has it
    if 'attn_hybrid_module' in net:
        net.pop('attn_value_dim_head', None)  # Python trips; ours has it
        width = net['heads'] * net['attn_dim_head']
        module = dict(net['attn_hybrid_module'])
        module |= (dict(input_size=D, hidden_size=width, batch_first=True)
                   if module['type'] == 'GRU' else dict(dim=D, dim_out=width))
        net |= dict(attn_hybrid_module=module, attn_hybrid_fold_axial_dim=1 + width // 8 % 2)
    if net.get('layers_execute_order') and (net.get('weight_tie_layers') or net.get('depth') != 2
                                            or net.get('cross_attend')):
        net.pop('layers_execute_order')
    return net


def attention_count(net):
    if 'layers_execute_order' in net:  # of a depth of 2: a f a f
        return sum(index % 2 == 0 for index in net['layers_execute_order'])
    return net.get('custom_layers', ['a'] * (net.get('depth') or 1)).count('a')


def hidden_arguments(draw, net, inputs, length, kwargs, wrapped=False):
    """Arguments of AttentionLayers.forward, kept so that every row has a key."""
    rng, causal = draw.rng, net['type'] == 'Decoder'
    if 'dim_condition' in net:
        inputs['condition'] = flt(B, net['dim_condition'])
    one_key = net.get('attn_flash') or net.get('attn_num_mem_kv') or not causal
    window = net.get('attn_max_attend_past')  # may leave a row without keys
    if net['type'] == 'CrossAttender' or net.get('cross_attend'):
        inputs['context'] = flt(B, 5, D)
        if draw.chance(0.6):
            inputs['context_mask'] = rng.choice([lens(5, 5, 3), bit(B, 5)])
        if draw.chance(0.3) and (net.get('rotary_pos_emb') or net.get('rotary_xpos')):
            inputs['context_pos'] = ints([0, 2, 3, 4, 7])
    if draw.chance(0.45):
        inputs['mask'] = rng.choice([lens(length, length, length - 3), bit(B, length)])
    if net['type'] == 'CrossAttender':
        return
    if net['type'] == 'PrefixDecoder' and draw.chance(0.8):
        kwargs['prefix_attn_len'] = rng.randint(1, 4)
    elif draw.chance(0.1) and not window:
        inputs['attn_mask'] = bit(length, length)
    if draw.chance(0.1) and not wrapped and not window:
        inputs['self_attn_kv_mask'] = bit(B, length)
    elif draw.chance(0.1) and one_key and not wrapped and not sees_padding(net):
        inputs['seq_start_pos'] = ints([0, 2])
    elif draw.chance(0.1) and not net.get('shift_tokens'):
        inputs['pos'] = ints([0, 1, 3, 4, 5, 7, 8])
    remembers = net['type'] != 'PrefixDecoder' and not {'pos', 'attn_mask'} & set(inputs)
    if draw.chance(0.25) and remembers:
        count = attention_count(net)
        inputs |= mems(count)
        if draw.chance(0.5):
            inputs |= mem_masks(count, 1, 2)


def sees_padding(net):
    """Whether Python shows the padding before a shorter prompt to something, which ours does not."""
    count_positions = net.get('rotary_pos_emb') or net.get('rotary_xpos') or net.get('polar_pos_emb')
    return bool(net.get('shift_tokens') or net.get('attn_hybrid_module')
                or net.get('attn_orthog_projected_values') or net.get('attn_selective')
                or net.get('attn_orthog_projected_values_per_head')
                or net.get('attn_cope_talking_heads')
                or count_positions and (net.get('attn_num_mem_kv') or net.get('attn_use_cope')
                                        or net.get('cross_attend')))


def draw_stack(draw):
    net = draw.stack()
    inputs, kwargs = dict(x=flt(B, N, D)), {}
    hidden_arguments(draw, net, inputs, N, kwargs)
    if draw.chance(0.15):
        kwargs['return_hiddens'] = True
    if draw.chance(0.05):
        inputs['attn_bias'] = flt(net['heads'], N, N)
    return net, inputs, kwargs, 'forward'


def draw_wrapper(draw):
    net = draw.stack()
    config = dict(type='TransformerWrapper', num_tokens=V, max_seq_len=12, attn_layers=net)
    config |= draw.table('TransformerWrapper', WRAPPER)
    if config.get('tie_embedding'):
        config.pop('emb_dim', None)
    if draw.chance(0.1) and not {'tie_embedding', 'emb_dim'} & set(config):
        config['token_emb'] = dict(type='Embedding', num_embeddings=V, embedding_dim=D)
    if draw.chance(0.1) and 'logits_dim' not in config:
        config['to_logits'] = dict(type='Linear', in_features=D, out_features=V)
    if net['type'] == 'Encoder' and draw.chance(0.4):
        config |= draw.rng.choice(POOLING)
    inputs, kwargs = dict(x=tok(B, N)), {}
    memory = bool(config.get('num_memory_tokens')) or config.get('use_cls_token')
    hidden_arguments(draw, net, inputs, N, kwargs, wrapped=memory)
    if memory:
        inputs.pop('pos', None), inputs.pop('attn_mask', None)
    if 'embed_num_tokens' in config:
        inputs['embed_ids.part'] = tok(B, N, bound=3)
    if draw.chance(0.1):
        inputs['sum_embeds'] = flt(B, N, config.get('emb_dim', D))
    if draw.chance(0.2) and not {'pos', 'attn_mask', 'self_attn_kv_mask',
                                 'seq_start_pos'} & set(inputs):
        inputs['prepend_embeds'] = flt(B, 3, config.get('emb_dim', D))
        if draw.chance(0.5):
            inputs['prepend_mask'] = lens(3, 3, 2)
    if draw.chance(0.3):
        returned = draw.rng.choice(RETURNS)
        kwargs |= returned if draw.allowed(config, returned) else {}
    if 'mems.0' in inputs and draw.chance(0.8) or draw.chance(0.1):
        config |= dict(max_mem_len=draw.rng.choice([2, 5, 20])) | draw.rng.choice([{}, {},
            dict(shift_mem_down=1)])
        kwargs['return_mems'] = True
    return config, inputs, kwargs, 'forward'


def draw_loss(draw):
    config, inputs, kwargs, _ = draw_wrapper(draw)
    config = {key: value for key, value in config.items() if key not in (
        'num_output_heads', 'return_only_embed', 'logits_dim', 'use_cls_token', 'num_cls_tokens',
        'average_pool_embed',
        'attn_pool', 'num_pooled_tokens')}
    kwargs = {key: value for key, value in kwargs.items() if key == 'prefix_attn_len'}
    if draw.chance(0.2):
        kwargs['return_outputs'] = True
    wrapper = dict(type='AutoregressiveWrapper',
                   net=config) | draw.rng.choice([{}, dict(ignore_index=3), dict(pad_value=2)])
    return wrapper, inputs, kwargs, 'forward'


def draw_packed(draw):
    """Sequences packed into one row, as the flash_attn package has them."""
    net = draw.stack(kinds=('Decoder', 'Encoder'))
    for key in ('attn_num_mem_kv', 'cross_attn_num_mem_kv',  # not in Python
                'attn_add_zero_kv', 'cross_attn_add_zero_kv',
                'attn_sigmoid', 'attn_hard', 'attn_softclamp_logits', 'residual_attn',
                'attn_pre_talking_heads', 'attn_post_talking_heads', 'attn_head_learned_sink',
                'attn_sparse_topk', 'attn_max_attend_past', 'attn_custom_attn_fn', 'alibi_pos_bias',
                'alibi_num_heads', 'dynamic_pos_bias', 'dynamic_pos_bias_log_distance',
                'dynamic_pos_bias_norm', 'rel_pos_bias', 'attn_data_dependent_alibi'):
        net.pop(key, None)
    net |= dict(attn_flash=True, attn_flash_pack_seq=True)
    net |= {} if net.get('polar_pos_emb') else dict(rotary_pos_emb=True)
    cuts = sorted(draw.rng.sample(range(1, N), draw.rng.randint(0, 3)))
    inputs = {'x': flt(1, N, D)}
    boundaries = [0, *cuts, N]
    inputs |= {f'flash_pack_seq_kwargs.cu_seqlens_{part}': ints(boundaries) for part in 'qk'}
    if net.get('cross_attend'):
        inputs |= {'context': flt(1, 9, D),
                   'flash_pack_seq_context_kwargs.cu_seqlens_q': ints(boundaries),
                   'flash_pack_seq_context_kwargs.cu_seqlens_k': ints([0, *cuts, 9])}
    return net, inputs, {}, 'forward'


def draw_generate(draw):
    net = draw.stack(kinds=('Decoder',))
    net.pop('attn_value_dim_head', None) if net.get('attn_num_mem_kv') else None
    config = dict(type='TransformerWrapper', num_tokens=V, max_seq_len=12, attn_layers=net)
    config |= {key: value for key, value in draw.table('TransformerWrapper', WRAPPER).items()
               if key not in ('num_output_heads', 'return_only_embed', 'logits_dim',
                              'embed_num_tokens', 'max_seq_len')}
    inputs, kwargs = dict(prompts=tok(B, 4)), dict(seq_len=draw.rng.randint(3, 6))
    ragged = draw.rng.random()
    # Python fails with left-padded sinusoidal positions and masks memory tokens
    may_pad = not (config.get('scaled_sinu_pos_emb') or config.get('num_memory_tokens')
                   or sees_padding(net))
    python = {}
    if ragged < 0.15:
        inputs['prompt_lens'] = ints([4, 2])
        python = {} if may_pad else dict(prompt_lens='each row')
    elif ragged < 0.3 and may_pad:
        inputs = {'prompts.0': tok(3), 'prompts.1': tok(5)}
    elif ragged < 0.4:
        inputs = dict(prompts=tok(3))
    if net.get('cross_attend'):
        inputs |= dict(context=flt(B if 'prompts' not in inputs or len(inputs['prompts'][1]) > 1
                                   else 1, 5, D))
    elif draw.chance(0.15) and ragged > 0.4:
        inputs |= mems(attention_count(net))
    if draw.chance(0.2) and ragged > 0.3:
        kwargs |= dict(method='beam_search', beams=draw.rng.choice([2, 3, 5]))
        kwargs |= dict(return_beams_and_scores=True) if draw.chance(0.5) else {}
    else:
        kwargs |= draw.rng.choice([dict(temperature=0.), dict(temperature=0.),
                                   dict(temperature=0.6, filter_kwargs=dict(k=1))])
    return dict(type='AutoregressiveWrapper', net=config), inputs, kwargs, 'generate', python


def draw_cached(draw):
    """The logits of later tokens, given any cache."""
    net = draw.stack(kinds=('Decoder',), cross=False)
    net.pop('attn_value_dim_head', None)
    # refused: keys and values are not all that these need of earlier tokens
    for option in [name for name in net if name == 'shift_tokens' or name.startswith((
            'attn_selective', 'attn_data_dependent_alibi', 'attn_orthog', 'attn_hybrid'))]:
        net.pop(option)
    heads = 1 if net.get('attn_one_kv_head') else net.get('attn_kv_heads', net['heads'])
    new, old = draw.rng.randint(1, 3), 4
    inputs = {f'cache.attn_intermediates.{layer}.cached_kv.{part}': flt(B, heads, old,
        net['attn_dim_head'])
              for layer in range(attention_count(net)) for part in range(2)}
    inputs |= {'cache.cache_length': ints(old), 'x': tok(B, new)}
    config = dict(type='TransformerWrapper', num_tokens=V, max_seq_len=12, attn_layers=net)
    if draw.chance(0.3):
        config |= draw.rng.choice([dict(scaled_sinu_pos_emb=True), dict(use_abs_pos_emb=False),
                                   dict(emb_dim=10)])
    return config, inputs, dict(input_not_include_cache=True, cache_age=new), 'forward'


def draw_pair(draw):
    def half(prefix, kind):
        net = draw.stack(kinds=(kind,), cross=False)
        net.pop('type'), net.pop('dim')
        return {f'{prefix}_{key}': value for key, value in net.items()}

    config = dict(type='XTransformer', dim=D, enc_num_tokens=V, enc_max_seq_len=12,
                  dec_num_tokens=V, dec_max_seq_len=12)
    config |= half('enc', 'Encoder') | half('dec', 'Decoder')
    config |= draw.rng.choice([{}, {}, dict(tie_token_emb=True), dict(enc_num_memory_tokens=2),
                               dict(enc_scaled_sinu_pos_emb=True),
                               dict(dec_scaled_sinu_pos_emb=True)])
    mask = dict(mask=lens(N, N, 4)) if draw.chance(0.5) else {}
    if draw.chance(0.35):
        inputs = dict(seq_in=tok(B, N), seq_out_start=tok(B, 2))
        return config, inputs | mask, dict(seq_len=4, temperature=0.), 'generate'
    inputs = dict(src=tok(B, N), tgt=tok(B, 6))
    if draw.chance(0.2):
        inputs['src_prepend_embeds'] = flt(B, 3, D)
    return config, inputs | mask, {}, 'forward'


def draw_vision(draw):
    config = dict(type='ViTransformerWrapper', image_size=8, patch_size=draw.rng.choice([2, 4]),
                  attn_layers=draw.stack(kinds=('Encoder',), cross=False))
    config |= draw.rng.choice([{}, dict(num_classes=5)]) | draw.rng.choice([{},
        dict(num_register_tokens=2)])
    config |= draw.rng.choice([{}, dict(post_emb_norm=True)])
    return config, dict(img=flt(B, 3, 8, 8)), draw.rng.choice([{},
        dict(return_embeddings=True)]), 'forward'


def draw_attention(draw):
    net = draw.stack(kinds=('Decoder', 'Encoder'), cross=False)
    config = {key[5:]: value for key, value in net.items() if key.startswith('attn_')}
    config = dict(type='Attention', dim=D, heads=net['heads'],
                  causal=net['type'] == 'Decoder') | config
    inputs, kwargs = dict(x=flt(B, N, D)), draw.rng.choice([{}, {},
                                                            dict(return_intermediates=True)])
    if draw.chance(0.3):
        inputs['context'] = flt(B, N, D)
        if draw.chance(0.5):
            inputs['context_mask'] = bit(B, N)
    elif draw.chance(0.3):
        inputs['mem'] = flt(B, 3, D)
        if draw.chance(0.5):
            inputs['mem_mask'] = right(3, 1, 2)
    if draw.chance(0.3):
        inputs['mask'] = lens(N, N, 4)
    if draw.chance(0.2) and 'mem' not in inputs:
        inputs['attn_mask'] = bit(N, N)
    if draw.chance(0.2):
        config['dim_out'] = 6
    return config, inputs, kwargs, 'forward'


KINDS = [draw_wrapper] * 6 + [draw_stack] * 4 + [draw_generate] * 4
KINDS += [draw_loss, draw_cached, draw_pair, draw_attention] * 2 + [draw_vision, draw_packed]


def fuzz(seed, allowed=lambda config, kwargs=None: True):
    """Endless random cases; `allowed` says of options whether they may be drawn."""
    index = 0
    while True:
        draw = Draw(f'{seed}/{index}', allowed)
        kind = draw.rng.choice(KINDS)
        config, inputs, kwargs, mode, *python = kind(draw)
        yield Case(f'random.{kind.__name__[5:]}_{seed}_{index}', config, inputs, kwargs, mode,
                   grads=mode == 'forward', python=python[0] if python else {},
                   louder={'to_logits.weight': 3., 'token_emb.emb.weight': 2.}
                   if mode == 'generate' else {})
        index += 1
