"""FLASH-pytorch 0.1.9: its parts, GAU, FLASH, FLASHTransformer and its wrapper.

Where a mask, padding or eos_token is in play, python_quirks asks for what Python gives
(docs/python-to-cpp.md)."""
import random

from .base import B, Case, D, N, V, add, bit, each_module, flt, ints, lens, tok

QUIRKS = dict(python_quirks=True)
X = dict(x=flt(B, N, D))
MASK = dict(mask=lens(N, N, 4))
# Queries and keys that weigh as much as the position bias.
LIVELY = {'gamma': 8., 'relative_attention_bias.weight': 0.3}
# Different tokens win.
LOUD = LIVELY | {'to_hidden.0.weight': 3., 'to_out.weight': 8., 'to_logits.1.weight': 2.}


def both(prefix, config, table, inputs, **more):
    for name, options in table.items():
        add(f'{prefix}.{name}', dict(config, **options), inputs, louder=LIVELY, **more)


GAU = dict(type='GAU', dim=D, query_key_dim=12)
both('flash_gau', GAU, dict(
    plain={}, causal=dict(causal=True), laplace=dict(laplace_attn_fn=True, causal=True),
    scalenorm=dict(norm_klass='ScaleNorm'), no_residual=dict(add_residual=False),
    expansion=dict(expansion_factor=1.3), dropout=dict(dropout=0.3), flag=dict(rel_pos_bias=True)), X)
both('flash_gau', GAU | QUIRKS, dict(mask={}, mask_laplace=dict(laplace_attn_fn=True)), X | MASK)
add('flash_gau.rel_pos_bias', dict(GAU, causal=True), X | dict(rel_pos_bias=flt(N, N)), louder=LIVELY)
add('flash_gau.rel_pos_bias_row', GAU | QUIRKS, X | dict(rel_pos_bias=flt(1, 1, N), mask=bit(1, N)),
    louder=LIVELY)
add('flash_gau.default_sizes', dict(type='GAU', dim=8), dict(x=flt(1, 5, 8)), louder=LIVELY)

FLASH = dict(type='FLASH', dim=D, group_size=3, query_key_dim=12)
ROTARY = dict(type='FLASHRotaryEmbedding', dim=8)
both('flash_block', FLASH, dict(
    plain={}, causal=dict(causal=True), laplace=dict(laplace_attn_fn=True),
    causal_laplace=dict(causal=True, laplace_attn_fn=True), scalenorm=dict(norm_klass='ScaleNorm'),
    shift=dict(shift_tokens=True, causal=True), rotary=dict(rotary_pos_emb=ROTARY),
    rotary_causal=dict(rotary_pos_emb=ROTARY, causal=True, shift_tokens=True),
    rotary_theta=dict(rotary_pos_emb=dict(ROTARY, theta=50, interpolate_factor=2.,
                                          theta_rescale_factor=1.5, learned_freq=True)),
    rotary_pixel=dict(rotary_pos_emb=dict(ROTARY, freqs_for='pixel', max_freq=4)),
    apart=dict(reduce_group_non_causal_attn=False),
    apart_causal=dict(reduce_group_non_causal_attn=False, causal=True),
    one_group=dict(group_size=9), exact_groups=dict(group_size=7), single=dict(group_size=1, causal=True),
    expansion=dict(expansion_factor=0.7), dropout=dict(dropout=0.3)), X)
both('flash_block', FLASH | QUIRKS, dict(
    mask={}, mask_causal=dict(causal=True, shift_tokens=True),
    mask_apart=dict(reduce_group_non_causal_attn=False, laplace_attn_fn=True)), X | MASK)
add('flash_block.mask_of_one_row', FLASH | QUIRKS, X | dict(mask=bit(1, N)), louder=LIVELY)
add('flash_block.default_sizes', dict(type='FLASH', dim=8), dict(x=flt(1, 5, 8)), louder=LIVELY)

MODEL = dict(type='FLASHTransformer', dim=D, num_tokens=V, depth=2, group_size=3, query_key_dim=12)
TOKENS = dict(x=tok(B, N))
both('flash_model', MODEL, dict(
    plain={}, causal=dict(causal=True), layernorm=dict(norm_type='layernorm'),
    no_shift=dict(shift_tokens=False), laplace=dict(laplace_attn_fn=True), expansion=dict(expansion_factor=1.5),
    apart=dict(reduce_group_non_causal_attn=False), dropout=dict(attn_dropout=0.2),
    more_keys=dict(query_key_dim=40, causal=True, depth=1)), TOKENS)
both('flash_model', MODEL | QUIRKS, dict(mask={}, mask_causal=dict(causal=True)), TOKENS | MASK)
add('flash_model.default_sizes', dict(type='FLASHTransformer', dim=8, num_tokens=9, depth=1),
    dict(x=tok(1, 5, bound=9)), louder=LIVELY)


def wrapper(**options):
    return dict(type='FLASHAutoregressiveWrapper', net=dict(MODEL, causal=True)) | options


add('flash_wrapper.loss', wrapper() | QUIRKS, dict(x=tok(B, N + 1)), louder=LIVELY)
add('flash_wrapper.loss_mask', wrapper(net=MODEL) | QUIRKS, dict(x=tok(B, N + 1)) | MASK, louder=LIVELY)
add('flash_wrapper.ignored_target', wrapper(), dict(x=ints([[4, 5, 3, 1, -100], [5, 6, 7, 8, 9]])),
    louder=LIVELY)
add('flash_wrapper.pad_value', wrapper(pad_value=3) | QUIRKS, dict(x=ints([[4, 2, 1, 3, 3], [5, 3, 7, 8, 9]])),
    louder=LIVELY)
START = dict(start_tokens=tok(B, 4))
GREEDY = dict(seq_len=6, filter_thres=0.95, temperature=0.7)  # one of 20 is kept
for name, net in dict(causal=dict(MODEL, causal=True), bidirectional=MODEL,
                      layernorm=dict(MODEL, causal=True, norm_type='layernorm', laplace_attn_fn=True)).items():
    add(f'flash_wrapper.generate_{name}', wrapper(net=net), START, GREEDY, mode='generate', louder=LOUD)
add('flash_wrapper.generate_no_eos', wrapper() | QUIRKS, START, GREEDY | dict(eos_token=V - 1), mode='generate',
    louder=LOUD)
add('flash_wrapper.generate_mask', wrapper() | QUIRKS, START | dict(mask=lens(4, 4, 3)), GREEDY | dict(seq_len=1),
    mode='generate', louder=LOUD)

each_module('flash_parts', dict(
    offset=(dict(type='OffsetScale', dim=6, heads=2), dict(x=flt(2, 3, 6))),
    scalenorm=(dict(type='FLASHScaleNorm', dim=6), dict(x=flt(2, 3, 6))),
    scalenorm_eps=(dict(type='FLASHScaleNorm', dim=6, eps=0.9), dict(x=flt(2, 3, 6))),
    sinusoids=(dict(type='FLASHScaledSinuEmbedding', dim=6), dict(x=flt(2, 9, 6))),
    t5=(dict(type='FLASHT5RelativePositionBias', scale=2.), dict(x=flt(1, 20, 30))),
    t5_causal=(dict(type='FLASHT5RelativePositionBias', scale=2., causal=True, num_buckets=12, max_distance=20),
               dict(x=flt(1, 20, 30))),
    laplace=(dict(type='LaplacianAttnFn'), dict(x=flt(3, 5))),
    rotary=(dict(ROTARY, freqs_for='constant', num_freqs=3, learned_freq=True), dict(t=flt(5))),
    rotary_given=(dict(ROTARY, custom_freqs=[0.5, 0.1], learned_freq=True), dict(t=flt(5)))))


def draw_flash(rng):
    """Config, inputs, kwargs and mode of a random case."""
    length, masks = rng.randint(1, 24), {}
    if rng.random() < 0.3:
        masks['mask'] = rng.choice([bit(B, length), bit(1, length), lens(length, length, rng.randint(0, length))])
    options = dict(dim=rng.choice([8, 16]), query_key_dim=rng.choice([4, 9, 40]), causal=rng.random() < 0.5,
                   laplace_attn_fn=rng.random() < 0.3, expansion_factor=rng.choice([0.5, 1.7, 2.]))
    grouped = dict(group_size=rng.choice([1, 3, 4, 7, 16, 64]), shift_tokens=rng.random() < 0.5,
                   reduce_group_non_causal_attn=rng.random() < 0.7)
    norm_klass = dict(norm_klass=rng.choice(['LayerNorm', 'ScaleNorm']))
    features = dict(x=flt(B, length, options['dim'])) | masks
    kind = rng.choice(['GAU', 'FLASH', 'FLASHTransformer', 'loss', 'generate'])
    if kind == 'GAU':
        bias = dict(rel_pos_bias=flt(length, length)) if rng.random() < 0.5 else {}
        more = dict(add_residual=rng.random() < 0.7)
        return dict(type='GAU') | options | norm_klass | more, features | bias, {}, 'forward'
    if kind == 'FLASH':
        more = dict(rotary_pos_emb=ROTARY | dict(dim=4)) if rng.random() < 0.5 else {}
        return dict(type='FLASH') | options | grouped | norm_klass | more, features, {}, 'forward'
    model = dict(type='FLASHTransformer', num_tokens=V, depth=rng.randint(1, 3), **options, **grouped,
                 norm_type=rng.choice(['scalenorm', 'layernorm']))
    if kind == 'FLASHTransformer':
        return model, dict(x=tok(B, length)) | masks, {}, 'forward'
    if kind == 'loss':
        return wrapper(net=model), dict(x=tok(B, length + 1)) | masks, {}, 'forward'
    return wrapper(net=model), dict(start_tokens=tok(B, length)), GREEDY, 'generate'


def fuzz_flash(seed):
    """Endless random cases."""
    index = 0
    while True:
        rng = random.Random(f'flash/{seed}/{index}')
        config, inputs, kwargs, mode = draw_flash(rng)
        yield Case(f'random.flash_{seed}_{index}', config | QUIRKS, inputs, kwargs, mode, grads=mode == 'forward',
                   louder=LIVELY if mode == 'forward' else LOUD)
        index += 1
