"""AutoregressiveWrapper and XTransformer: losses and generation."""
from .base import (B, CONTEXT, D, MASK, N, V, X, add, ar, bit, dec, flt, ints, lens,
                   lm, mems, pre, tok)

IGNORED = dict(x=ints([[3, 5, 7, 1, -100, 2, 9], [4, 4, 0, 11, 2, -100, -100]]))
OUT = dict(return_outputs=True)
for name, config, inputs, *kwargs in [
    ('plain', ar(lm(dec())), X),
    ('outputs', ar(lm(dec())), X, OUT),
    ('ignore_index', ar(lm(dec())), IGNORED),
    ('ignore_index_pad', ar(lm(dec()), ignore_index=3, pad_value=2), IGNORED
     | dict(x=ints([[3, 5, 7, 1, 3, 2, 9]]))),
    ('pad_value', ar(lm(dec()), pad_value=5), IGNORED),
    ('mask', ar(lm(dec())), X | MASK),
    ('prepend', ar(lm(dec())), X | dict(prepend_embeds=flt(B, 3, D))),
    ('prepend_outputs', ar(lm(dec(rotary_pos_emb=True))), X
     | dict(prepend_embeds=flt(B, 3, D), prepend_mask=lens(3, 3, 2)), OUT),
    ('context', ar(lm(dec(cross_attend=True))), X | CONTEXT),
    ('z_loss', ar(lm(dec()), add_attn_z_loss=True), X),
    ('z_loss_weight', ar(lm(dec()), add_attn_z_loss=True), X, dict(attn_z_loss_weight=0.1)),
    ('next_embed', ar(lm(dec(), add_continuous_pred_head=True), next_embed_loss_weight=0.5), X),
    ('next_embed_ignored', ar(lm(dec(), add_continuous_pred_head=True)), IGNORED),
    ('mask_prob', ar(lm(dec()), mask_prob=0.1), X),  # too short for a masked token, so not random
    ('mixture_of_softmax', ar(lm(dec(), mixture_of_softmax=True)), X),
    ('mems', ar(lm(dec(rotary_pos_emb=True), max_mem_len=5)), X | mems(2), OUT),
    ('tied', ar(lm(dec(), tie_embedding=True, l2norm_embed=True)), X),
    ('memory_tokens', ar(lm(dec(), num_memory_tokens=2)), X),
    ('embed_num_tokens', ar(lm(dec(), embed_num_tokens=dict(part=3))), X
     | {'embed_ids.part': tok(B, N, bound=3)}),
    ('logits_dim', ar(lm(dec(), logits_dim=V + 3)), X),
    ('kv_heads_flash', ar(lm(dec(attn_flash=True, attn_kv_heads=2, rotary_pos_emb=True,
                                 ff_glu=True, use_rmsnorm=True))), X),
    ('prefix_decoder', ar(lm(pre())), X, dict(prefix_attn_len=2)),
    ('sum_embeds', ar(lm(dec())), X | dict(sum_embeds=flt(B, N, D))),
]:
    add(f'loss.{name}', config, inputs, *kwargs)

# generation: greedy, by temperature 0 or by a filter that leaves one token
PROMPT = dict(prompts=tok(B, 4))
GREEDY = dict(temperature=0., seq_len=6)
RAGGED = dict(prompts=tok(3, 5), prompt_lens=ints([5, 2, 3]))
LISTED = {'prompts.0': tok(2), 'prompts.1': tok(5), 'prompts.2': tok(3)}
LOUD = {'to_logits.weight': 3., 'token_emb.emb.weight': 2.}
BEAMS = dict(method='beam_search', seq_len=5)


def gen(name, net=None, inputs=PROMPT, kwargs=None, wrapper=None, **more):
    add(f'generate.{name}', ar(lm(net or dec(), **(more.pop('wrap', {}))), **(wrapper or {})),
        inputs, GREEDY | (kwargs or {}),
        mode='generate', grads=False, louder=LOUD, **more)


gen('greedy')
gen('one_prompt', inputs=dict(prompts=tok(4)))
gen('one_token', inputs=dict(prompts=tok(1, 1)), kwargs=dict(seq_len=8))
gen('no_cache', kwargs=dict(cache_kv=False))
gen('rotary', dec(rotary_pos_emb=True))
gen('rotary_partial', dec(rotary_pos_emb=True, rotary_emb_dim=6, rotary_interpolation_factor=2.))
gen('rotate_num_heads', dec(rotary_pos_emb=True, rotate_num_heads=3))
gen('xpos', dec(rotary_xpos=True, rotary_xpos_scale_base=16))
gen('alibi', dec(alibi_pos_bias=True))
gen('alibi_flash', dec(alibi_pos_bias=True, alibi_num_heads=2, attn_flash=True))
gen('t5', dec(rel_pos_bias=True))
gen('dynamic', dec(dynamic_pos_bias=True))
gen('sinusoidal', wrap=dict(scaled_sinu_pos_emb=True))
gen('no_positions', wrap=dict(use_abs_pos_emb=False))
gen('kv_heads', dec(attn_kv_heads=2, attn_qk_norm=True))
gen('mem_kv', dec(attn_num_mem_kv=2, attn_one_kv_head=True, rotary_pos_emb=True))
gen('value_dim_head', dec(attn_value_dim_head=5))
gen('flash', dec(attn_flash=True))
gen('memory_tokens', wrap=dict(num_memory_tokens=2))
gen('tied', wrap=dict(tie_embedding=True))
gen('emb_dim', wrap=dict(emb_dim=10, post_emb_norm=True))
gen('post_norm', dec(pre_norm=False))
gen('macaron_glu', dec(macaron=True, ff_glu=True, use_rmsnorm=True))
gen('shift_tokens', dec(shift_tokens=1))
gen('cross', dec(cross_attend=True), PROMPT | CONTEXT)
gen('cross_rotary', dec(cross_attend=True, rotary_pos_emb=True, attn_kv_heads=2), PROMPT | CONTEXT)
gen('cross_depth_3', dec(3, cross_attend=True, attn_num_mem_kv=1), PROMPT | CONTEXT)
gen('prepend', inputs=PROMPT | dict(prepend_embeds=flt(B, 2, D)))
gen('prepend_rotary', dec(rotary_pos_emb=True), PROMPT | dict(prepend_embeds=flt(B, 2, D)))
gen('mems', dec(rotary_pos_emb=True), PROMPT | mems(2), wrap=dict(max_mem_len=4))
gen('mems_alibi', dec(alibi_pos_bias=True), PROMPT | mems(2), wrap=dict(max_mem_len=4))
gen('mems_xpos_kv_heads', dec(rotary_xpos=True, attn_kv_heads=2, attn_num_mem_kv=2), PROMPT
    | mems(2), wrap=dict(max_mem_len=4))
gen('past_max_seq_len', dec(rotary_pos_emb=True), kwargs=dict(seq_len=8), wrap=dict(max_seq_len=6))
gen('past_max_seq_len_alibi', dec(alibi_pos_bias=True), kwargs=dict(seq_len=8),
    wrap=dict(max_seq_len=6, use_abs_pos_emb=False))
gen('past_max_seq_len_absolute', kwargs=dict(seq_len=8, cache_kv=False), wrap=dict(max_seq_len=6))
gen('long_prompt', dec(rotary_pos_emb=True), dict(prompts=tok(B, 9)), wrap=dict(max_seq_len=6))
# fails in Python; the same within max_seq_len
gen('unrestricted', dec(rotary_pos_emb=True), kwargs=dict(restrict_to_max_seq_len=False),
    python=dict(restrict_to_max_seq_len='leave out'))
gen('ragged', inputs=RAGGED)
gen('ragged_list', inputs=LISTED)
gen('ragged_rotary', dec(rotary_pos_emb=True), RAGGED)
gen('ragged_xpos', dec(rotary_xpos=True, rotary_xpos_scale_base=16), RAGGED)
gen('ragged_alibi', dec(alibi_pos_bias=True), RAGGED)
gen('ragged_alibi_flash', dec(alibi_pos_bias=True, attn_flash=True, attn_kv_heads=2), LISTED)
gen('ragged_t5', dec(rel_pos_bias=True), RAGGED)
gen('ragged_no_cache', inputs=RAGGED, kwargs=dict(cache_kv=False))
gen('ragged_cross', dec(cross_attend=True), RAGGED
    | dict(context=flt(3, 5, D), context_mask=lens(5, 5, 3, 2)))
gen('ragged_pad_value', inputs=RAGGED, wrapper=dict(pad_value=3))
gen('eos', eos_after=3)
gen('eos_first', eos_after=0, inputs=dict(prompts=tok(1, 4)))
gen('eos_one_prompt', eos_after=2, inputs=dict(prompts=tok(4)))
gen('eos_ragged', dec(rotary_pos_emb=True), RAGGED, eos_after=2, wrapper=dict(pad_value=1))
gen('eos_never', kwargs=dict(eos_token=V - 1), inputs=dict(prompts=tok(B, 4, bound=V - 1)))
gen('temperature', kwargs=dict(temperature=0.7, filter_kwargs=dict(k=1)))
gen('top_k', kwargs=dict(temperature=1., filter_logits_fn='top_k', filter_kwargs=dict(k=1)))
gen('top_k_fraction',
    kwargs=dict(temperature=1., filter_logits_fn='top_k', filter_kwargs=dict(frac_num_tokens=0.05)))
gen('top_k_default', kwargs=dict(temperature=1.), wrap=dict(num_tokens=10),
    inputs=dict(prompts=tok(B, 4, bound=10)))
gen('top_p', kwargs=dict(temperature=1., filter_logits_fn='top_p', filter_kwargs=dict(thres=1e-4)))
gen('top_a', kwargs=dict(temperature=1., filter_logits_fn='top_a',
                         filter_kwargs=dict(min_p_pow=1., min_p_ratio=0.999)))
gen('min_p', kwargs=dict(temperature=1., filter_logits_fn='min_p', filter_kwargs=dict(min_p=0.999)))
gen('sum_embeds_none', kwargs=dict(return_attn=False))
gen('beam', kwargs=BEAMS)
gen('beam_one', kwargs=BEAMS | dict(beams=1))
gen('beam_seven', dec(rotary_pos_emb=True), kwargs=BEAMS | dict(beams=7))
gen('beam_scores', kwargs=BEAMS | dict(beams=3, return_beams_and_scores=True))
gen('beam_temperature', kwargs=BEAMS | dict(beams=3, temperature=0.5))
gen('beam_no_cache', kwargs=BEAMS | dict(beams=3, cache_kv=False))
gen('beam_one_prompt', inputs=dict(prompts=tok(4)), kwargs=BEAMS | dict(beams=3))
gen('beam_alibi_kv_heads', dec(alibi_pos_bias=True, attn_kv_heads=2), kwargs=BEAMS
    | dict(return_beams_and_scores=True))
gen('beam_filter_unused', kwargs=BEAMS | dict(filter_logits_fn='top_k', filter_kwargs=dict(k=2)))
gen('beam_stochastic', kwargs=BEAMS
    | dict(beams=1, stochastic=True, temperature=0.9, filter_logits_fn='top_k',
                                           filter_kwargs=dict(k=1)))
EACH_ROW = dict(python=dict(prompt_lens='each row'))  # fails in Python with padding
gen('beam_ragged', inputs=RAGGED, kwargs=BEAMS | dict(beams=3), **EACH_ROW)
gen('beam_ragged_rotary', dec(rotary_pos_emb=True, attn_kv_heads=2), RAGGED, BEAMS | dict(beams=3),
    **EACH_ROW)
gen('ragged_each_row', dec(rotary_pos_emb=True), RAGGED, **EACH_ROW)
# Python shows the padding to what does not look through a mask
gen('ragged_shift_tokens', dec(shift_tokens=2), RAGGED, **EACH_ROW)
gen('beam_ragged_shift_tokens', dec(shift_tokens=1), RAGGED, BEAMS | dict(beams=3), **EACH_ROW)
gen('ragged_hybrid', dec(attn_hybrid_module=dict(type='GRU', input_size=D, hidden_size=32,
                                                 batch_first=True), attn_hybrid_fold_axial_dim=2),
    RAGGED, **EACH_ROW)
gen('ragged_selective', dec(attn_selective=True, rotary_pos_emb=True), RAGGED, **EACH_ROW)
gen('ragged_orthog', dec(attn_orthog_projected_values=True), RAGGED, **EACH_ROW)
gen('ragged_cope_talking_heads', dec(attn_use_cope=True, attn_cope_max_pos=4,
                                     attn_cope_talking_heads=True), RAGGED, **EACH_ROW)
gen('ragged_data_dependent_alibi', dec(attn_data_dependent_alibi=True), RAGGED, **EACH_ROW)
gen('ragged_mem_kv_each_row', dec(attn_num_mem_kv=2, rotary_pos_emb=True), RAGGED, **EACH_ROW)
gen('ragged_memory_tokens', dec(rotary_pos_emb=True), RAGGED, wrap=dict(num_memory_tokens=2),
    **EACH_ROW)
gen('beam_ragged_memory_tokens', inputs=RAGGED, kwargs=BEAMS | dict(beams=3),
    wrap=dict(num_memory_tokens=2), **EACH_ROW)
gen('beam_unrestricted', dec(rotary_pos_emb=True), kwargs=BEAMS
    | dict(restrict_to_max_seq_len=False),
    python=dict(restrict_to_max_seq_len='leave out'))

# encoder and decoder in one
PAIR = dict(type='XTransformer', dim=D, enc_num_tokens=V, enc_depth=1, enc_heads=4,
            enc_max_seq_len=12, enc_attn_dim_head=8,
            dec_num_tokens=V, dec_depth=1, dec_heads=4, dec_max_seq_len=12, dec_attn_dim_head=8)
BOTH = dict(src=tok(B, N), tgt=tok(B, 6))
SRC_MASK = dict(mask=lens(N, N, 4))
for name, options, inputs, *kwargs in [
    ('plain', {}, BOTH),
    ('mask', {}, BOTH | SRC_MASK),
    ('tied', dict(tie_token_emb=True), BOTH | SRC_MASK),
    ('tied_fewer_targets', dict(tie_token_emb=True, dec_num_tokens=9),
     dict(src=tok(B, N), tgt=tok(B, 6, bound=9))),
    ('tied_fewer_sources', dict(tie_token_emb=True, enc_num_tokens=9),
     dict(src=tok(B, N, bound=9), tgt=tok(B, 6, bound=9))),
    ('ignore_index', dict(ignore_index=3, pad_value=2), BOTH),
    ('cross_attn_tokens_dropout', dict(cross_attn_tokens_dropout=0.3), BOTH),
    ('attn_mask', {}, BOTH | dict(attn_mask=bit(N, N))),
    ('src_prepend', {}, BOTH | dict(src_prepend_embeds=flt(B, 3, D))),
    ('src_prepend_mask', {}, BOTH | SRC_MASK | dict(src_prepend_embeds=flt(B, 3, D))),
    ('memory_tokens', dict(enc_num_memory_tokens=2), BOTH | SRC_MASK),
    ('scaled_sinu', dict(enc_scaled_sinu_pos_emb=True, dec_scaled_sinu_pos_emb=True), BOTH),
    ('no_abs_pos', dict(enc_use_abs_pos_emb=False, dec_use_abs_pos_emb=False), BOTH),
    ('emb_dropout', dict(enc_emb_dropout=0.1, dec_emb_dropout=0.2), BOTH),
    ('rotary', dict(enc_rotary_pos_emb=True, dec_rotary_pos_emb=True, dec_attn_kv_heads=2), BOTH
     | SRC_MASK),
    ('flash', dict(enc_attn_flash=True, dec_attn_flash=True, dec_cross_attn_kv_heads=2), BOTH
     | SRC_MASK),
    ('ff', dict(enc_ff_glu=True, dec_ff_mult=2, dec_ff_swish=True, dec_use_rmsnorm=True), BOTH),
    ('mem_kv', dict(enc_attn_num_mem_kv=2, dec_attn_num_mem_kv=3, dec_cross_attn_num_mem_kv=1),
     BOTH | SRC_MASK),
    ('cross_residual', dict(dec_depth=2, dec_cross_residual_attn=True), BOTH),
    ('cross_window', dict(dec_attn_max_attend_past=3), BOTH),
]:
    add(f'pair.{name}', PAIR | options, inputs, *kwargs)
START = dict(seq_in=tok(B, N), seq_out_start=tok(B, 2))
for name, options, inputs, kwargs in [
    ('generate', {}, START, {}),
    ('generate_mask', {}, START | SRC_MASK, {}),
    ('generate_attn_mask', {}, START | dict(attn_mask=bit(N, N)), {}),
    ('generate_rotary', dict(dec_rotary_pos_emb=True, dec_attn_kv_heads=2, dec_depth=2), START
     | SRC_MASK, {}),
    ('generate_no_cache', {}, START | SRC_MASK, dict(cache_kv=False)),
    ('generate_cross_window', dict(dec_attn_max_attend_past=3), START, dict(cache_kv=False)),
    ('generate_top_k', dict(tie_token_emb=True), START,
     dict(temperature=1., filter_kwargs=dict(k=1))),
    ('generate_ragged', dict(enc_alibi_pos_bias=True, dec_alibi_pos_bias=True),
     START | dict(seq_out_start=tok(B, 3), prompt_lens=ints([3, 1])) | SRC_MASK, {}),
]:
    add(f'pair.{name}', PAIR | options, inputs, GREEDY | kwargs, mode='generate', grads=False,
        louder=LOUD)
