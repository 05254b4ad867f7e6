"""Classes beyond the core: an example or two of each."""
from .base import B, D, N, add, dec, enc, flt, lens, lm, mems, tok

X = dict(x=tok(B, N))
XL = lm(dec(rel_pos_bias=True), max_seq_len=6, max_mem_len=12)
add('xl.loss', dict(type='XLAutoregressiveWrapper', net=XL), dict(x=tok(B, 13)))
add('xl.loss_mems', dict(type='XLAutoregressiveWrapper', net=XL), dict(x=tok(B, 7)) | mems(2))
add('xl.ignore_index', dict(type='XLAutoregressiveWrapper', net=XL, ignore_index=3, pad_value=1),
    dict(x=tok(B, 13)))

CONT = dict(type='ContinuousTransformerWrapper', dim_in=5, dim_out=4, max_seq_len=12,
            attn_layers=dec())
CONT_AR = dict(type='ContinuousAutoregressiveWrapper', net=dict(CONT, dim_out=5))
SEEN = dict(x=flt(B, N, 5))
add('continuous.plain', CONT, SEEN)
add('continuous.mask', dict(CONT, attn_layers=enc()), SEEN | dict(mask=lens(N, N, 4)))
add('continuous.lens', dict(CONT, post_emb_norm=True, num_memory_tokens=2), SEEN
    | dict(lens=('int', (2,), [7, 4])))
add('continuous.loss', CONT_AR, SEEN | dict(mask=lens(N, N, N)))
add('continuous.loss_l1', dict(CONT_AR, use_l1_loss=True), SEEN)
add('continuous.generate', CONT_AR, dict(start_tokens=flt(B, 5)), dict(seq_len=5), mode='generate',
    grads=False)

XVAL = dict(type='XValTransformerWrapper', num_tokens=4, numerical_token_id=3, max_seq_len=12,
            attn_layers=dec())
NUMBERS = dict(x=tok(B, N, bound=4), x_num=flt(B, N))
add('xval.plain', XVAL, NUMBERS)
add('xval.loss', dict(type='XValAutoregressiveWrapper', net=XVAL), NUMBERS)
add('xval.breakdown', dict(type='XValAutoregressiveWrapper', net=XVAL, numerical_loss_weight=0.5),
    NUMBERS,
    dict(return_loss_breakdown=True))

MULTI = dict(type='MultiInputTransformerWrapper', num_tokens=dict(note=9, pitch=7), max_seq_len=12,
             attn_layers=dec())
add('multi_input.plain', MULTI, {'x.note': tok(B, N, bound=9), 'x.pitch': tok(B, N, bound=7)})
add('multi_input.mask', dict(MULTI, attn_layers=enc(), num_memory_tokens=2),
    {'x.note': tok(B, N, bound=9), 'x.pitch': tok(B, N, bound=7), 'mask': lens(N, N, 4)})

add('dpo.plain', dict(type='DPO', model=lm(dec())),
    dict(preferred_seq=tok(B, N), unpreferred_seq=tok(B, N),
                                                        prompt_mask=lens(N, 3, 2)))
add('dpo.beta_pad', dict(type='DPO', model=lm(dec()), beta=0.3, pad_id=2),
    dict(preferred_seq=tok(B, N), unpreferred_seq=tok(B, N), prompt_mask=lens(N, 3, 2)))
