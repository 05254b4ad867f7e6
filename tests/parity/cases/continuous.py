"""Models over continuous values: ContinuousTransformerWrapper and its autoregressive wrapper."""
from .base import B, CONTEXT, D, N, add, bit, cross, dec, enc, flt, ints, lens, mem_masks, mems, nums

IN, OUT = 5, 4
X = dict(x=flt(B, N, IN))
PREPENDED = dict(prepend_embeds=flt(B, 3, D))
LENS = dict(lens=ints([N, 4]))
MASK = dict(mask=lens(N, N, 4))


def net(layers=None, **options):
    return dict(dict(type='ContinuousTransformerWrapper', dim_in=IN, dim_out=OUT, max_seq_len=12,
                     attn_layers=layers or dec()), **options)


def ar(layers=None, options=None, **given):
    return dict(type='ContinuousAutoregressiveWrapper',
                net=net(layers, **dict(dict(dim_out=IN), **(options or {}))), **given)


HIDDEN = dict(x=flt(B, N, D))
for name, config, inputs, *kwargs in [
    ('plain', net(), X),
    ('mask', net(enc()), X | MASK),
    ('lens', net(post_emb_norm=True, num_memory_tokens=2), X | LENS),
    ('lens_encoder', net(enc()), X | LENS),
    ('no_projections', net(dim_in=None, dim_out=None), HIDDEN),
    ('dim_in_alone', net(dim_out=None), X),
    ('project_in', net(dim_in=None, project_in=dict(type='Linear', in_features=IN, out_features=D)),
     X),
    ('project_out', net(dim_out=None, project_out=dict(type='FeedForward', dim=D, dim_out=3)), X),
    ('no_max_seq_len', net(max_seq_len=None), X),
    ('max_seq_len_0', net(max_seq_len=0), X),
    ('no_abs_pos_emb', net(use_abs_pos_emb=False), X),
    ('sinusoidal', net(scaled_sinu_pos_emb=True), X),
    ('rotary', net(dec(rotary_pos_emb=True)), X),
    ('post_emb_norm', net(post_emb_norm=True), X),
    ('emb_dropout', net(emb_dropout=0.3), X),
    ('memory_tokens', net(num_memory_tokens=3), X),
    ('memory_tokens_mask', net(enc(), num_memory_tokens=3), X | MASK),
    ('memory_tokens_intermediates', net(num_memory_tokens=3), X, dict(return_intermediates=True)),
    ('average_pool', net(enc(), dim_out=None, average_pool_embed=True), X | MASK),
    ('average_pool_embeddings', net(enc(), average_pool_embed=True), X | MASK,
     dict(return_embeddings=True)),
    ('probabilistic', net(probabilistic=True), X),
    ('probabilistic_unprojected', net(dim_out=None, probabilistic=True), X),
    ('probabilistic_embeddings', net(probabilistic=True), X, dict(return_embeddings=True)),
    ('probabilistic_mems', net(probabilistic=True), X, dict(return_mems=True)),
    ('embeddings', net(), X, dict(return_embeddings=True)),
    ('intermediates', net(), X, dict(return_intermediates=True)),
    ('attn', net(), X, dict(return_attn=True)),
    ('attn_flash', net(dec(attn_flash=True)), X, dict(return_attn=True)),
    ('return_mems', net(), X, dict(return_mems=True)),
    ('max_mem_len', net(max_mem_len=3), X, dict(return_mems=True)),
    ('mems', net(max_mem_len=5), X | mems(2), dict(return_mems=True)),
    ('mem_masks', net(enc()), X | mems(2) | mem_masks(2, 3, 2)),
    ('pos', net(), X | dict(pos=ints([3, 1, 4, 1, 5, 9, 2]))),
    ('pos_of_rows', net(), X | dict(pos=('tok', (B, N), 12))),
    ('seq_start_pos', net(), X | dict(seq_start_pos=ints([0, 3]))),
    ('sum_embeds', net(), X | dict(sum_embeds=flt(B, N, D))),
    ('prepend', net(), X | PREPENDED),
    ('prepend_mask', net(enc()), X | PREPENDED | dict(prepend_mask=bit(B, 3))),
    ('prepend_both_masks', net(enc()), X | PREPENDED | dict(prepend_mask=bit(B, 3)) | MASK),
    ('prepend_lens', net(enc()), X | PREPENDED | LENS),
    ('context', net(dec(cross_attend=True)), X | CONTEXT),
    ('cross_attender', net(cross()), X | CONTEXT),
    ('condition', net(dec(use_adaptive_layernorm=True)), X | dict(condition=flt(B, D))),
    ('attn_mask', net(enc()), X | dict(attn_mask=bit(N, N))),
]:
    add(f'continuous.{name}', config, inputs, *kwargs)

CACHE = {f'cache.attn_intermediates.{i}.cached_kv.{j}': flt(B, 4, N - 1, 8)
         for i in range(2) for j in range(2)} | {'cache.cache_length': ('int', (), [N - 1])}
add('continuous.cache', net(), X | CACHE)
add('continuous.cache_of_earlier', net(), dict(x=flt(B, 1, IN)) | CACHE,
    dict(input_not_include_cache=True))
add('continuous.cache_rotary', net(dec(rotary_pos_emb=True)), X | CACHE)

for name, config, inputs in [
    ('loss', ar(), X), ('loss_l1', ar(use_l1_loss=True), X), ('loss_mask', ar(), X | MASK),
    ('loss_short_mask', ar(), X | dict(mask=lens(N - 1, N - 1, 3))),
    ('loss_lens', ar(), X | LENS), ('loss_holes', ar(), X | dict(mask=bit(B, N))),
    ('loss_equal_weight', ar(equal_loss_weight_batch=True), X | MASK),
    ('loss_equal_weight_lens', ar(equal_loss_weight_batch=True), X | LENS),
    ('loss_probabilistic', ar(options=dict(probabilistic=True)), X),
    ('loss_probabilistic_lens', ar(options=dict(probabilistic=True)), X | LENS),
    ('loss_gaussian', ar(options=dict(probabilistic=True), loss_fn=dict(type='GaussianNLL')), X),
    ('loss_smooth_l1', ar(loss_fn=dict(type='SmoothL1Loss', beta=0.5)), X),
    ('loss_huber_mask', ar(loss_fn=dict(type='HuberLoss', delta=0.5, reduction='none')), X | MASK),
    ('loss_sum', ar(loss_fn=dict(type='L1Loss', reduction='sum')), X),
    ('loss_mse', ar(loss_fn=dict(type='MSELoss')), X),
    ('loss_poisson', ar(loss_fn=dict(type='PoissonNLLLoss', reduction='none')), X | MASK),
    ('loss_bce', ar(loss_fn=dict(type='BCEWithLogitsLoss')), X),
    ('loss_soft_margin', ar(loss_fn=dict(type='SoftMarginLoss')), X),
    ('loss_cosine', ar(loss_fn=dict(type='CosineSimilarity', dim=-1)), X | MASK),
    ('loss_memory_tokens', ar(options=dict(num_memory_tokens=2)), X | MASK),
    ('loss_context', ar(dec(cross_attend=True)), X | CONTEXT),
    ('loss_sum_embeds', ar(), X | dict(sum_embeds=flt(B, N - 1, D))),
    ('loss_encoder', ar(enc()), X | MASK),
    ('loss_mems', ar(), X | mems(2)),
]:
    add(f'continuous.{name}', config, inputs)

START = dict(start_tokens=flt(B, 3, IN))
for name, config, inputs, kwargs in [
    ('generate', ar(), dict(start_tokens=flt(B, IN)), dict(seq_len=5)),
    ('generate_batch', ar(), START, dict(seq_len=6)),
    ('generate_uncached', ar(), START, dict(seq_len=4, cache_kv=False)),
    ('generate_past_max_seq_len', ar(options=dict(max_seq_len=6)), START, dict(seq_len=7)),
    ('generate_rotary', ar(dec(rotary_pos_emb=True), dict(max_seq_len=None)), START,
     dict(seq_len=5)),
    ('generate_memory_tokens', ar(options=dict(num_memory_tokens=2)), START, dict(seq_len=5)),
    ('generate_prepend', ar(), START | PREPENDED, dict(seq_len=5)),
    ('generate_shift_tokens', ar(dec(shift_tokens=1)), START, dict(seq_len=5)),
    ('generate_context', ar(dec(cross_attend=True)), START | CONTEXT, dict(seq_len=4)),
    ('generate_condition', ar(dec(use_adaptive_rmsnorm=True)), START | dict(condition=flt(B, D)),
     dict(seq_len=4)),
    ('generate_lens', ar(), START | dict(lens=ints([3, 2])), dict(seq_len=3)),
    ('generate_encoder', ar(enc()), START, dict(seq_len=4)),
    ('generate_probabilistic', ar(options=dict(probabilistic=True)), START,
     dict(seq_len=4, temperature=0.)),
    ('generate_none', ar(), START | dict(mask=lens(3, 3, 3)), dict(seq_len=1)),
]:
    add(f'continuous.{name}', config, inputs, kwargs, mode='generate', grads=False)

VARIANCE = nums([[0.5, 1e-9, 2.], [1e-6, 0.1, 1.]])
MEAN = dict(target=flt(2, 3))
add('loss_fn.gaussian_nll', dict(type='GaussianNLL'),
    MEAN | {'pred.0': flt(2, 3), 'pred.1': VARIANCE})
for name, config in dict(mse=dict(type='MSELoss', reduction='none'),
                         l1=dict(type='L1Loss', reduction='sum'), smooth_l1=dict(type='SmoothL1Loss'),
                         huber=dict(type='HuberLoss', delta=0.3)).items():
    add(f'loss_fn.{name}', config, MEAN | dict(input=flt(2, 3)))
