"""Tokens and numbers: XValTransformerWrapper and its autoregressive wrapper.

Python's numbers: its mean of the number loss is over all targets (README.md, python_quirks)."""
from .base import B, CONTEXT, D, N, add, dec, enc, flt, ints, lens, mem_masks, mems, nums, tok

TOKENS, NUMBER = 6, 3
X = dict(x=tok(B, N, bound=TOKENS), x_num=flt(B, N))
MASK = dict(mask=lens(N, N, 4))
PREPENDED = dict(prepend_embeds=flt(B, 3, D))


def net(layers=None, **options):
    return dict(dict(type='XValTransformerWrapper', num_tokens=TOKENS, numerical_token_id=NUMBER,
                     max_seq_len=12, attn_layers=layers or dec()), **options)


def ar(layers=None, options=None, **given):
    return dict(type='XValAutoregressiveWrapper', net=net(layers, **(options or {})),
                python_quirks=True, **given)


for name, config, inputs, *kwargs in [
    ('plain', net(), X),
    ('mask', net(enc()), X | MASK),
    ('emb_dim', net(emb_dim=D), X),
    ('logits_dim', net(logits_dim=9), X),
    ('tie_embedding', net(tie_embedding=True), X),
    ('tie_embedding_logits_dim', net(tie_embedding=True, logits_dim=9), X),
    ('no_abs_pos_emb', net(use_abs_pos_emb=False, max_seq_len=0), X),
    ('sinusoidal', net(scaled_sinu_pos_emb=True), X),
    ('rotary', net(dec(rotary_pos_emb=True)), X),
    ('emb_dropout', net(emb_dropout=0.3), X),
    ('memory_tokens', net(num_memory_tokens=2), X),
    ('memory_tokens_intermediates', net(num_memory_tokens=2), X, dict(return_intermediates=True)),
    ('embeddings', net(), X, dict(return_embeddings=True)),
    ('intermediates', net(), X, dict(return_intermediates=True)),
    ('return_mems', net(), X, dict(return_mems=True)),
    ('max_mem_len', net(max_mem_len=3), X | mems(2), dict(return_mems=True)),
    ('mem_masks', net(enc()), X | mems(2) | mem_masks(2, 3, 2)),
    ('attn', net(), X, dict(return_attn=True)),
    ('pos', net(), X | dict(pos=ints([3, 1, 4, 1, 5, 9, 2]))),
    ('prepend', net(), X | PREPENDED),
    ('prepend_mask', net(enc()), X | PREPENDED | dict(mask=lens(N + 3, N + 3, 6))),
    ('seq_start_pos', net(dec(attn_flash=True)), X | dict(seq_start_pos=ints([0, 3]))),
    ('context', net(dec(cross_attend=True)), X | CONTEXT),
    ('whole_numbers', net(), X | dict(x_num=tok(B, N, bound=5))),
]:
    add(f'xval.{name}', config, inputs, *kwargs)

IGNORED = dict(x=ints([[1, 3, 3, 0, 5, 3, 2], [3, 2, 3, 3, 1, 4, -100]]), x_num=flt(B, N))
UNKNOWN = dict(x=ints([[1, 3, 0, 5, 2]]), x_num=nums([[None, 2., 1., None, 3.]]))
for name, config, inputs, *kwargs in [
    ('loss', ar(), X),
    ('loss_weight', ar(numerical_loss_weight=0.3), X),
    ('loss_ignored', ar(), IGNORED),
    ('loss_ignore_index', ar(ignore_index=2, pad_value=2), X),
    ('loss_mask', ar(), X | dict(mask=lens(N - 1, N - 1, 3))),
    ('loss_unknown_numbers_of_no_number', ar(), UNKNOWN),
    ('loss_memory_tokens', ar(options=dict(num_memory_tokens=2)), X),
    ('loss_context', ar(dec(cross_attend=True)), X | CONTEXT),
    ('breakdown', ar(numerical_loss_weight=0.5), X, dict(return_loss_breakdown=True)),
    ('breakdown_mask', ar(), X | dict(mask=lens(N - 1, N - 1, 3)),
     dict(return_loss_breakdown=True)),
]:
    add(f'xval.{name}', config, inputs, *kwargs)

# Only a vocabulary of which every token drawn is a number: Python has NaN for the others.
NUMBERS = dict(num_tokens=1, numerical_token_id=0)
for name, config, inputs, kwargs in [
    ('generate', ar(options=NUMBERS), dict(start_tokens=tok(B, 3, bound=1), start_numbers=flt(B, 3)),
     dict(seq_len=5)),
    ('generate_past_max_seq_len', ar(options=NUMBERS | dict(max_seq_len=5)),
     dict(start_tokens=tok(B, 3, bound=1), start_numbers=flt(B, 3)), dict(seq_len=5)),
    ('generate_context', ar(dec(cross_attend=True), NUMBERS), CONTEXT
     | dict(start_tokens=tok(B, 3, bound=1), start_numbers=flt(B, 3)), dict(seq_len=3)),
]:
    add(f'xval.{name}', config, inputs, kwargs, mode='generate', grads=False)

# A filter is a function in Python, and a name here.
add('xval.generate_filter', ar(options=NUMBERS),
    dict(start_tokens=tok(B, 3, bound=1), start_numbers=flt(B, 3)),
    dict(seq_len=4, temperature=0.5, filter_logits_fn='top_p', filter_kwargs=dict(thres=0.5)),
    mode='generate', grads=False,
    python=dict(filter_logits_fn='leave out', filter_kwargs='leave out'))
