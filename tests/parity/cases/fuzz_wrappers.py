"""Random models of the classes that hold a net: options of the class beside random options of the net's stack."""
from .base import B, Case, D, V, bit, flt, ints, lens, mem_masks, mems, tok
from .flash import GREEDY, LIVELY, LOUD as FLASH_LOUD
from .fuzz import WRAPPER, Draw, attention_count

QUIRKS = dict(python_quirks=True)
LOUD = {'to_logits.weight': 3., 'token_emb.emb.weight': 2., 'to_v.weight': 3.}
# What a net has that its wrapper cannot hold: another result than logits of tokens, or inputs of its own.
NO_PLAIN_LOGITS = ('num_output_heads', 'return_only_embed', 'logits_dim', 'embed_num_tokens', 'add_continuous_pred_head')


def some(draw, table):
    """One draw of each entry (probability, options); a list means one of them."""
    chosen = {}
    for probability, entry in table:
        if draw.chance(probability):
            chosen |= draw.rng.choice(entry) if isinstance(entry, list) else entry
    return chosen


def token_net(draw, kinds=('Decoder',), length=12, cross=False, without=(), stack_without=()):
    """A TransformerWrapper, and what its stack asks for."""
    stack = draw.stack(kinds, cross)
    for option in stack_without:
        stack.pop(option, None)
    config = dict(type='TransformerWrapper', num_tokens=V, attn_layers=stack)
    options = draw.table('TransformerWrapper', WRAPPER)
    config |= {key: value for key, value in options.items() if key not in (*NO_PLAIN_LOGITS, *without)}
    config['max_seq_len'] = length
    if config.get('tie_embedding'):
        config.pop('emb_dim', None)
    return config, stack_inputs(draw, stack)


def stack_inputs(draw, stack, batch=B):
    given = {}
    if 'dim_condition' in stack:
        given['condition'] = flt(batch, stack['dim_condition'])
    if stack.get('cross_attend') or stack['type'] == 'CrossAttender':
        given['context'] = flt(batch, 5, D)
        if draw.chance(0.5):
            given['context_mask'] = draw.rng.choice([bit(batch, 5), lens(5, *[5, 3, 4][:batch])])
    return given


def draw_autoregressive(draw):
    length = draw.rng.randint(2, 12)
    net, inputs = token_net(draw, cross=True, kinds=('Decoder', 'Decoder', 'PrefixDecoder'))
    options = some(draw, [(0.3, [dict(ignore_index=3), dict(pad_value=2), dict(ignore_index=3, pad_value=5)]),
                          (0.3, [dict(mask_prob=0.3), dict(mask_prob=0.6)]), (0.3, dict(add_attn_z_loss=True))])
    if draw.chance(0.3):
        net['add_continuous_pred_head'] = True
        options['next_embed_loss_weight'] = draw.rng.choice([0.1, 0.7])
    kwargs = some(draw, [(0.3, dict(return_outputs=True)), (0.3, dict(attn_z_loss_weight=0.05))])
    if draw.chance(0.3):
        inputs['prepend_embeds'] = flt(B, 3, net.get('emb_dim', D))
    elif draw.chance(0.3) and not net.get('num_memory_tokens'):
        inputs['mask'] = lens(length, length, max(1, length - 2))
    if draw.chance(0.2):
        inputs['sum_embeds'] = flt(B, length, net.get('emb_dim', D))
    return dict(type='AutoregressiveWrapper', net=net, **options), dict(x=tok(B, length)) | inputs, kwargs, 'forward'


def draw_nonautoregressive(draw):
    length = draw.rng.randint(3, 8)
    net, inputs = token_net(draw, ('Encoder',), length, cross=True)
    options = dict(mask_id=draw.rng.choice([V - 1, 0, 7]), steps=draw.rng.randint(2, 6)) | some(draw, [
        (0.4, dict(schedule='cosine')), (0.4, dict(use_simple_mdlm_loss_weight=False)),
        (0.4, [dict(no_replace_prob=0.), dict(no_replace_prob=0.5)]),
        (0.4, [dict(random_token_prob=0.), dict(random_token_prob=0.6)]),
        (0.3, dict(can_mask_prev_unmasked=True)), (0.3, dict(critic_loss_weight=0.3)),
        (0.4, dict(self_cond=True, self_cond_train_prob=draw.rng.choice([0., 0.5, 1.])))])
    if options.get('self_cond'):
        net.pop('emb_dim', None)
    critic = draw.rng.choice(['none', 'none', 'self', 'own'])
    if critic == 'own':
        other, _ = token_net(draw, ('Encoder',), length, stack_without=('dim_condition',))
        other |= dict(logits_dim=1)
        other.pop('tie_embedding', None)
        options['token_critic'] = other
    elif critic == 'self':
        options['self_token_critic'] = True
    config = dict(type='NonAutoregressiveWrapper', net=net, **options) | QUIRKS
    if draw.chance(0.4):
        kwargs = some(draw, [(0.5, dict(start_temperature=0.5)), (0.5, [dict(filter_thres=0.5), dict(filter_thres=None)]),
                             (0.4, dict(noise_level_scale=0.3)), (1., dict(batch_size=B))])
        return config, inputs, kwargs, 'generate', {}, LOUD
    kwargs = some(draw, [(0.4, [dict(only_train_generator=True), dict(only_train_critic=True)]),
                         (0.4, dict(generator_sample_temperature=0.4))])
    if kwargs.get('only_train_critic') and critic == 'none':
        kwargs = {}
    if draw.chance(0.3):
        inputs['mask'] = lens(length, length, max(1, length - 2))
    return config, dict(x=tok(B, length)) | inputs, kwargs, 'forward'


def draw_xl(draw):
    segment = draw.rng.randint(2, 6)
    net, inputs = token_net(draw, length=segment, cross=True, without=('max_seq_len',),
                            stack_without=('num_residual_streams', 'hyper_conn_sinkhorn_iters'))
    if 'context' in inputs:
        inputs.pop('context_mask', None)
    net |= dict(max_mem_len=draw.rng.choice([0, 2, 5, 20])) | some(draw, [(0.3, dict(shift_mem_down=1))])
    options = some(draw, [(0.3, dict(ignore_index=3, pad_value=1))])
    config = dict(type='XLAutoregressiveWrapper', net=net, **options)
    if draw.chance(0.2):
        inputs |= mems(attention_count(net['attn_layers']))
    if draw.chance(0.3):
        for option in ('shift_tokens', 'rotary_xpos', 'attn_use_latent_kv', 'attn_dim_latent_kv'):  # docs/python-to-cpp.md
            net['attn_layers'].pop(option, None)
        kwargs = dict(seq_len=draw.rng.randint(1, 9), filter_kwargs=dict(k=1))
        return config | QUIRKS, dict(start_tokens=tok(B, draw.rng.randint(1, 9))) | inputs, kwargs, 'generate', {}, LOUD
    return config, dict(x=tok(B, draw.rng.randint(2, 19))) | inputs, {}, 'forward'


LOSSES = [dict(type='SmoothL1Loss', beta=0.4, reduction='none'), dict(type='HuberLoss', reduction='none'),
          dict(type='L1Loss', reduction='none'), dict(type='SoftMarginLoss', reduction='none')]


def continuous_net(draw, stack, dim_in, dim_out):
    net = dict(type='ContinuousTransformerWrapper', attn_layers=stack, dim_in=dim_in, dim_out=dim_out) | some(draw, [
        (0.8, dict(max_seq_len=12)), (0.3, dict(num_memory_tokens=2)), (0.3, dict(post_emb_norm=True)),
        (0.3, [dict(use_abs_pos_emb=False), dict(scaled_sinu_pos_emb=True)]), (0.1, dict(emb_dropout=0.2)),
        (0.3, dict(probabilistic=True)), (0.3, dict(max_mem_len=3))])
    return net


def draw_continuous(draw):
    length, dim = draw.rng.randint(2, 8), draw.rng.choice([1, 5])
    stack = draw.stack(('Decoder', 'Decoder', 'Encoder', 'CrossAttender'))
    inputs = stack_inputs(draw, stack)
    kind = draw.rng.choice(['net', 'loss', 'loss', 'generate'])
    net = continuous_net(draw, stack, dim, 4 if kind == 'net' else dim)
    if kind == 'generate':
        kwargs = dict(seq_len=draw.rng.randint(1, 6)) | (dict(temperature=0.) if net.get('probabilistic') else {})
        inputs |= some(draw, [(0.3, dict(prepend_embeds=flt(B, 2, D)))]) if not net.get('num_memory_tokens') else {}
        config = dict(type='ContinuousAutoregressiveWrapper', net=net)
        return config, dict(start_tokens=flt(B, length, dim)) | inputs, kwargs, 'generate'
    memories = stack['type'] != 'CrossAttender' and draw.chance(0.3)
    if memories:
        count = attention_count(stack)
        inputs |= mems(count) | (mem_masks(count, 1, 2) if draw.chance(0.4) else {})
    masks = draw.rng.choice([{}, dict(mask=lens(length, length, max(1, length - 2))),
                             dict(lens=ints([length, max(1, length - 2)])), dict(mask=bit(B, length))])
    inputs |= dict(x=flt(B, length, dim)) | masks
    if kind == 'loss':
        options = some(draw, [(0.3, dict(equal_loss_weight_batch=True)), (0.3, dict(use_l1_loss=True))])
        if draw.chance(0.5) and not net.get('probabilistic'):
            options['loss_fn'] = draw.rng.choice(LOSSES)
        if draw.chance(0.2):
            inputs['sum_embeds'] = flt(B, length - 1, D)
        return dict(type='ContinuousAutoregressiveWrapper', net=net, **options) | QUIRKS, inputs, {}, 'forward'
    if draw.chance(0.3):
        inputs['prepend_embeds'] = flt(B, 3, D)
        inputs |= some(draw, [(0.5, dict(prepend_mask=lens(3, 3, 2)))])
    if draw.chance(0.2) and stack['type'] == 'Encoder' and masks and 'mask' in masks:
        net |= dict(average_pool_embed=True, dim_out=None)
        net.pop('probabilistic', None)
    kwargs = some(draw, [(0.4, [dict(return_embeddings=True), dict(return_intermediates=True), dict(return_mems=True),
                                dict(return_attn=True)])])
    return net, inputs, kwargs, 'forward'


def draw_belief(draw):
    length = draw.rng.randint(2, 9)
    without = ('emb_dim', 'max_seq_len')
    forward, inputs = token_net(draw, length=14, without=without)
    for option in ('use_adaptive_layernorm', 'use_adaptive_rmsnorm', 'use_adaptive_layerscale'):
        forward['attn_layers'].pop(option, None)
    config = dict(type='BeliefStateWrapper', forward_decoder=forward) | QUIRKS
    if draw.chance(0.6):
        backward, _ = token_net(draw, length=14, without=without)
        for option in ('use_adaptive_layernorm', 'use_adaptive_rmsnorm', 'use_adaptive_layerscale'):
            backward['attn_layers'].pop(option, None)
        config['backward_decoder'] = backward
    if draw.chance(0.35):
        kwargs = dict(method='generate_with_suffix_cond', seq_len=draw.rng.randint(1, 5), temperature=0.)
        given = some(draw, [(0.6, [dict(suffix=tok(B, 3)), dict(suffix=tok(4))])])
        louder = {'text_head.2.weight': 8., 'token_emb.emb.weight': 2.}
        return config, dict(prompts=tok(B, draw.rng.randint(1, 6))) | given, kwargs, 'generate', {}, louder
    config |= some(draw, [(0.4, [dict(backward_ar_loss_weight=0.3), dict(backward_ar_loss_weight=2.)]),
                          (0.4, [dict(pred_distance=True), dict(pred_distance=True, max_pred_distance=3),
                                 dict(pred_distance=True, pred_distance_loss_weight=0.2)]),
                          (0.2, dict(text_head=dict(type='Linear', in_features=2 * D, out_features=2 * V)))])
    if 'pred_distance' not in config and draw.chance(0.3):
        config |= dict(cond_on_distance=True, cond_on_distance_prob=0.4)
    given = some(draw, [(0.4, dict(lens=ints([length, max(1, length - 2)])))])
    kwargs = some(draw, [(0.3, dict(loss_weight_by_fb_indices=dict(type='Identity')))])
    return config, dict(seq=tok(B, length)) | given, kwargs, 'forward'


def draw_xval(draw):
    length, tokens = draw.rng.randint(2, 8), 6
    stack = draw.stack(('Decoder', 'Decoder', 'Encoder'))
    inputs = stack_inputs(draw, stack)
    net = dict(type='XValTransformerWrapper', num_tokens=tokens, numerical_token_id=3, max_seq_len=12,
               attn_layers=stack) | some(draw, [
                   (0.3, dict(num_memory_tokens=2)), (0.3, dict(tie_embedding=True)), (0.3, dict(logits_dim=9)),
                   (0.3, [dict(use_abs_pos_emb=False), dict(scaled_sinu_pos_emb=True)]),
                   (0.1, dict(emb_dropout=0.2)), (0.3, dict(max_mem_len=3))])
    if draw.chance(0.2):
        inputs |= mems(attention_count(stack))
    if draw.chance(0.25):
        net |= dict(num_tokens=1, numerical_token_id=0)
        net.pop('logits_dim', None)
        inputs |= dict(start_tokens=tok(B, length, bound=1), start_numbers=flt(B, length))
        return (dict(type='XValAutoregressiveWrapper', net=net) | QUIRKS, inputs,
                dict(seq_len=draw.rng.randint(1, 6)), 'generate')
    inputs |= dict(x=tok(B, length, bound=tokens), x_num=flt(B, length))
    if draw.chance(0.5):
        options = some(draw, [(0.5, dict(numerical_loss_weight=0.3)), (0.3, dict(ignore_index=2, pad_value=1))])
        kwargs = some(draw, [(0.4, dict(return_loss_breakdown=True))])
        if draw.chance(0.3) and not net.get('num_memory_tokens'):
            inputs['mask'] = lens(length - 1, length - 1, max(1, length - 3))
        return dict(type='XValAutoregressiveWrapper', net=net, **options) | QUIRKS, inputs, kwargs, 'forward'
    if draw.chance(0.3):
        inputs['prepend_embeds'] = flt(B, 3, D)
    elif draw.chance(0.3) and not net.get('num_memory_tokens'):
        inputs['mask'] = bit(B, length)
    kwargs = some(draw, [(0.4, [dict(return_embeddings=True), dict(return_intermediates=True), dict(return_mems=True),
                                dict(return_attn=True)])])
    return net, inputs, kwargs, 'forward'


def draw_dpo(draw):
    length = draw.rng.randint(3, 10)
    net, _ = token_net(draw)
    for option in ('use_adaptive_layernorm', 'use_adaptive_rmsnorm', 'use_adaptive_layerscale'):
        net['attn_layers'].pop(option, None)
    config = dict(type='DPO', model=net) | QUIRKS | some(draw, [(0.5, dict(beta=0.7)), (0.5, dict(pad_id=draw.rng.choice([0, 4])))])
    inputs = dict(preferred_seq=tok(B, length), unpreferred_seq=tok(B, length),
                  prompt_mask=draw.rng.choice([lens(length, 1, 2), bit(B, length, p=0.4)]))
    inputs |= some(draw, [(0.4, dict(preferred_seq_mask=lens(length, length, length - 1))),
                          (0.4, dict(unpreferred_seq_mask=bit(B, length)))])
    return config, inputs, {}, 'forward'


def draw_multi_input(draw):
    length = draw.rng.randint(1, 8)
    stack = draw.stack(('Decoder', 'Decoder', 'Encoder', 'PrefixDecoder', 'CrossAttender'))
    inputs = stack_inputs(draw, stack)
    names = draw.rng.choice([dict(note=9, pitch=7), dict(a=4, b=5, c=6), dict(only=8)])
    net = dict(type='MultiInputTransformerWrapper', num_tokens=names, max_seq_len=12, attn_layers=stack) | some(draw, [
        (0.3, dict(num_memory_tokens=2)), (0.3, dict(emb_dim=10)), (0.3, dict(post_emb_norm=True)),
        (0.3, dict(emb_frac_gradient=0.4)), (0.2, dict(return_only_embed=True)), (0.1, dict(emb_dropout=0.2)),
        (0.3, [dict(use_abs_pos_emb=False), dict(scaled_sinu_pos_emb=True), dict(max_seq_len=0)])])
    inputs |= {f'x.{name}': tok(B, length, bound=bound) for name, bound in names.items()}
    width = net.get('emb_dim', D)
    inputs |= some(draw, [(0.2, dict(sum_embeds=flt(B, length, width)))])
    if draw.chance(0.3):
        inputs['prepend_embeds'] = flt(B, 3, width)
        inputs |= some(draw, [(0.5, dict(prepend_mask=lens(3, 3, 2)))])
    if draw.chance(0.4):
        inputs['mask'] = draw.rng.choice([bit(B, length), lens(length, length, max(1, length - 2))])
    if draw.chance(0.3) and stack['type'] not in ('CrossAttender', 'PrefixDecoder'):
        count = attention_count(stack)
        inputs |= mems(count) | (mem_masks(count, 1, 2) if draw.chance(0.4) else {})
        net |= dict(max_mem_len=draw.rng.choice([2, 20])) | some(draw, [(0.3, dict(shift_mem_down=1))])
    kwargs = some(draw, [(0.4, [dict(return_embeddings=True), dict(return_logits_and_embeddings=True),
                                dict(return_intermediates=True), dict(return_attn=True), dict(return_mems=True),
                                dict(return_mems=True, return_intermediates=True)])])
    return net | QUIRKS, inputs, kwargs, 'forward'


def draw_synthetic(draw):
    dim = draw.rng.choice([4, 8, 11])
    config = dict(type='SyntheticDataGenerator', dim=dim, num_tokens=V, max_seq_len=draw.rng.choice([5, 12])) | some(
        draw, [(0.5, dict(use_gru=True)), (0.3, dict(hidden_size=dim))])
    length = draw.rng.randint(1, 9)
    if draw.chance(0.4):
        given = draw.rng.choice([dict(seed=tok(B, length)), dict(condition=tok(B, length)),
                                 dict(seed=tok(B, length), condition=tok(B, 5))])
        return config, given, dict(length=draw.rng.randint(1, 8)), 'generate', {}, {'to_logits.weight': 8.}
    hiddens = {}
    if draw.chance(0.4):
        hiddens = (dict(hiddens=flt(1, B, dim)) if config.get('use_gru')
                   else {'hiddens.0': flt(1, B, dim), 'hiddens.1': flt(1, B, dim)})
    return config, dict(input=tok(B, length)) | hiddens, {}, 'forward'


def draw_entropy(draw):
    length = draw.rng.randint(1, 12)
    net, given = token_net(draw, ('Decoder', 'Decoder', 'Encoder'))
    config = dict(type='EntropyBasedTokenizer', decoder=net, entropy_threshold=draw.rng.choice([2., 2.5, 2.7, 2.85])) | some(
        draw, [(0.4, dict(max_token_size=draw.rng.randint(1, 4)))])
    inputs = {f'decoder_forward_kwargs.{name}': value for name, value in given.items()}
    inputs |= some(draw, [(0.4, dict(lens=ints([length, max(1, length - 3)])))])
    return config, dict(seq=tok(B, length)) | inputs, some(draw, [(0.4, dict(return_segmented_seq=True))]), 'forward'


def draw_neo_mlp(draw):
    stack = draw.stack(('Encoder',), cross=False)
    for option in ('type', 'dim', 'depth', 'dim_condition', 'use_adaptive_layernorm', 'use_adaptive_rmsnorm',
                   'use_adaptive_layerscale', 'adaptive_condition_mlp', 'adaptive_condition_mlp_expansion'):
        stack.pop(option, None)
    config = dict(type='NeoMLP', dim_in=draw.rng.randint(1, 4), dim_hidden=draw.rng.randint(1, 5),
                  dim_out=draw.rng.randint(1, 3), dim_model=D, depth=draw.rng.randint(1, 3), encoder_kwargs=stack)
    shape = (config['dim_in'],) if draw.chance(0.3) else (B, config['dim_in'])
    return config, dict(x=flt(*shape)), some(draw, [(0.4, dict(return_embeds=True))]), 'forward'


def half(draw, kind, without=()):
    """Options of one stack of a model that makes its stacks itself."""
    stack = draw.stack((kind,), cross=False)
    left_out = ('type', 'dim', 'depth', 'heads', 'attn_dim_head', 'dim_condition', 'use_adaptive_layernorm',
                'use_adaptive_rmsnorm', 'use_adaptive_layerscale', 'adaptive_condition_mlp', 'custom_layers',
                'adaptive_condition_mlp_expansion', 'attn_hybrid_module', 'attn_hybrid_learned_mix',
                'attn_hybrid_fold_axial_dim', *without)
    return {key: value for key, value in stack.items() if key not in left_out}


GIVEN = ('rotary_pos_emb', 'use_rmsnorm', 'pre_norm_has_final_norm', 'use_scalenorm', 'use_simple_rmsnorm',
         'use_dynamic_tanh', 'use_derf')  # what a FreeTransformer sets itself, and what contradicts it


def draw_free(draw):
    length = draw.rng.randint(2, 9)
    config = dict(type='FreeTransformer', num_tokens=V, dim=D, heads=4, attn_dim_head=8, max_seq_len=14,
                  dec_head_depth=draw.rng.randint(0, 2), dec_tail_depth=draw.rng.randint(1, 2),
                  enc_depth=draw.rng.randint(1, 2), latent_bits=draw.rng.randint(1, 5)) | some(draw, [
                      (0.3, dict(per_token_latents=False)), (0.3, dict(kl_loss_weight=0.3)),
                      (0.3, dict(kl_loss_threshold=0.1)), (0.2, dict(latent_dropout_prob=0.4)), (0.3, dict(pad_id=0)),
                      (0.2, dict(dim_latent=5))])
    config |= dict(dec_kwargs=half(draw, 'Decoder', GIVEN)) if draw.chance(0.7) else {}
    config |= dict(enc_kwargs=half(draw, 'Encoder', GIVEN)) if draw.chance(0.4) else {}
    if draw.chance(0.35):
        codes = 2 ** config['latent_bits']
        latents = draw.rng.choice([{}, dict(latents=ints([draw.rng.randrange(codes) for _ in range(B)])),
                                   dict(latents=flt(B, codes)), dict(latents=flt(codes))])
        kwargs = dict(seq_len=length + draw.rng.randint(0, 4), logit_filter_kwargs=dict(thres=0.))
        return (config | QUIRKS, dict(prompts=tok(B, length)) | latents, kwargs, 'generate', dict(use_kv_cache=False),
                {'token_unembed.weight': 8.})
    given = some(draw, [(0.3, dict(seq_for_latents=tok(B, draw.rng.randint(1, 6))))])
    kwargs = some(draw, [(0.6, dict(return_all_losses=True))])
    return config, dict(seq=tok(B, length)) | given, kwargs, 'forward', {}, {'to_latent_bit_logits.weight': 1e5}


def draw_vae(draw):
    length, latent = draw.rng.randint(2, 9), draw.rng.choice([3, 6])
    config = dict(type='GPTVAE', num_tokens=V, dim=D, heads=4, attn_dim_head=8, depth=draw.rng.randint(1, 2),
                  enc_depth=draw.rng.randint(1, 2), max_seq_len=14, dim_latent=latent) | some(draw, [
                      (0.5, dict(vae_kl_loss_weight=0.02)), (0.3, dict(vae_kl_div_floor=0.4)),
                      (0.2, dict(latents_dropout_prob=0.2)), (0.3, dict(pad_id=0))])
    config |= dict(dec_kwargs=half(draw, 'Decoder')) if draw.chance(0.7) else {}
    config |= dict(enc_kwargs=half(draw, 'Encoder')) if draw.chance(0.5) else {}
    narrow = {'to_latent_mean_log_variance.0.bias': [0.] * latent + [-40.] * latent}
    if draw.chance(0.35):
        given = draw.rng.choice([{}, dict(latents=flt(B, latent)), dict(latents=flt(latent)),
                                 dict(seq_for_latents=tok(B, 6))])
        louder = {'to_logits.weight': 6., 'from_latent_to_prepend_token.0.weight': 3.}
        return (config, dict(prompts=tok(B, min(length, 6))) | given, dict(seq_len=5, temperature=0.), 'generate', {}, louder,
                narrow)
    given = some(draw, [(0.3, dict(seq_for_latents=tok(B, draw.rng.randint(1, 6))))])
    kwargs = some(draw, [(0.6, dict(return_all_losses=True))])
    return config, dict(seq=tok(B, length)) | given, kwargs, 'forward', {}, {}, narrow


ROTARY = [dict(dim=4), dict(dim=8), dict(dim=8, theta=50), dict(dim=4, interpolate_factor=2.), dict(dim=8, theta_rescale_factor=1.5),
          dict(dim=8, learned_freq=True), dict(dim=8, freqs_for='pixel', max_freq=4),
          dict(dim=8, freqs_for='constant', num_freqs=2), dict(dim=4, custom_freqs=[0.5, 0.1], learned_freq=True),
          dict(dim=8, freqs_for='pixel', max_freq=6, interpolate_factor=1.7, learned_freq=True)]


def draw_flash(draw):
    """FLASH-pytorch, in combinations beside those of flash.draw_flash."""
    rng, length = draw.rng, draw.rng.randint(1, 40)
    options = dict(dim=rng.choice([6, 8, 16]), query_key_dim=rng.choice([8, 12, 33]), causal=draw.chance(0.5)) | some(
        draw, [(0.4, dict(laplace_attn_fn=True)), (0.4, [dict(expansion_factor=0.5), dict(expansion_factor=1.3),
                                                         dict(expansion_factor=3)])])
    grouped = some(draw, [(1., [dict(group_size=size) for size in (1, 2, 5, 8, 13, 40, 100)]),
                          (0.5, [dict(shift_tokens=True), dict(shift_tokens=False)]),
                          (0.4, dict(reduce_group_non_causal_attn=False))])
    norm = some(draw, [(0.5, [dict(norm_klass='LayerNorm'), dict(norm_klass='ScaleNorm')])])
    dropout = some(draw, [(0.3, dict(dropout=0.4))])
    inputs = dict(x=flt(B, length, options['dim'])) | some(draw, [
        (0.5, [dict(mask=bit(B, length, p=0.5)), dict(mask=bit(1, length)), dict(mask=lens(length, length, length // 2))])])
    kind = rng.choice(['GAU', 'GAU', 'FLASH', 'FLASH', 'model', 'loss', 'generate', 'part'])
    if kind == 'GAU':
        bias = some(draw, [(0.5, [dict(rel_pos_bias=flt(*shape)) for shape in (
            (length, length), (B, length, length), (1, length), (length, 1), (B, 1, length))])])
        more = some(draw, [(0.4, dict(add_residual=False)), (0.3, dict(rel_pos_bias=True))])
        return dict(type='GAU') | options | norm | dropout | more | QUIRKS, inputs | bias, {}, 'forward', {}, LIVELY
    if kind == 'FLASH':
        rotary = some(draw, [(0.7, [dict(rotary_pos_emb=dict(type='FLASHRotaryEmbedding') | one) for one in ROTARY])])
        return (dict(type='FLASH') | options | grouped | norm | dropout | rotary | QUIRKS, inputs, {}, 'forward', {}, LIVELY)
    if kind == 'part':
        sides = rng.randint(1, 40), rng.randint(1, 60)
        config = dict(type='FLASHT5RelativePositionBias', scale=rng.choice([0.5, 3.]), causal=draw.chance(0.5),
                      num_buckets=rng.choice([8, 12, 32, 50]), max_distance=rng.choice([30, 64, 200]))
        return config, dict(x=flt(1, *sides)), {}, 'forward'
    model = dict(type='FLASHTransformer', num_tokens=V, depth=rng.randint(1, 3), **options, **grouped) | some(draw, [
        (0.4, dict(norm_type='layernorm')), (0.3, dict(attn_dropout=0.2))])
    inputs['x'] = tok(B, length)
    if kind == 'model':
        return model | QUIRKS, inputs, {}, 'forward', {}, LIVELY
    config = dict(type='FLASHAutoregressiveWrapper', net=model) | some(draw, [(0.4, dict(pad_value=3))]) | QUIRKS
    if kind == 'loss':
        tokens = [[rng.randrange(V) for _ in range(length + 1)] for _ in range(B)]
        for row in tokens[:rng.randint(0, B)]:
            row[-1] = -100
        return config, inputs | dict(x=ints(tokens) if length > 1 else tok(B, 2)), {}, 'forward', {}, LIVELY
    mask, steps = {key: value for key, value in inputs.items() if key == 'mask'}, rng.randint(2, 8)
    kwargs = GREEDY | dict(seq_len=1 if mask else steps) | some(draw, [(0.3, dict(eos_token=V - 1))])
    return config, dict(start_tokens=tok(B, length)) | mask, kwargs, 'generate', {}, FLASH_LOUD


KINDS = [draw_autoregressive, draw_nonautoregressive, draw_nonautoregressive, draw_xl, draw_xl, draw_continuous,
         draw_continuous, draw_belief, draw_belief, draw_xval, draw_dpo, draw_multi_input, draw_multi_input,
         draw_synthetic, draw_entropy, draw_neo_mlp, draw_free, draw_free, draw_vae, draw_vae, draw_flash, draw_flash, draw_flash]


def fuzz_wrappers(seed, allowed=lambda config, kwargs=None: True, kinds=KINDS):
    """Endless random cases."""
    index = 0
    while True:
        draw = Draw(f'wrappers/{seed}/{index}', allowed)
        kind = draw.rng.choice(kinds)
        config, inputs, kwargs, mode, *more = kind(draw)
        python, louder, offsets = [*more, {}, {}, {}][:3]
        draws = {}
        if kind in (draw_nonautoregressive, draw_autoregressive):
            draws = dict(draws=draw.rng.randrange(100))
        yield Case(f'random.{kind.__name__[5:]}_{seed}_{index}', config, inputs, kwargs, mode, grads=mode == 'forward' and kind is not draw_entropy,
                   python=python, louder=louder, offsets=offsets, **draws)
        index += 1
