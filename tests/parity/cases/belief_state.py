"""BeliefStateWrapper. A fraction of the pairs and the token for an unknown prefix are drawn at random: cases leave one
pair, and one token, to be drawn."""
from .base import B, D, N, V, add, dec, flt, ints, lm, tok

NET = lm(dec())
BELIEF = dict(type='BeliefStateWrapper', forward_decoder=NET)
BOTH = dict(BELIEF, backward_decoder=lm(dec(depth=1, rotary_pos_emb=True)))
SEQ = dict(seq=tok(B, N))
SHORT = SEQ | dict(lens=ints([7, 4]))
PAIRS = dict(loss_weight_by_fb_indices=dict(type='Identity'))  # the indices themselves as weights


def case(name, inputs=SEQ, kwargs=None, base=BELIEF, quirks=False, **options):
    quirk = dict(python_quirks=True) if quirks else {}
    add(f'belief.{name}', dict(base, **options, **quirk), inputs, kwargs)


case('plain', dict(seq=tok(B, 5)))
case('two_tokens', dict(seq=tok(B, 2)))
case('two_decoders', base=BOTH)
case('text_head', text_head=dict(type='Linear', in_features=2 * D, out_features=2 * V))
case('backward_ar_loss_weight', backward_ar_loss_weight=0.5)
case('backward_ar_loss_weight_two', base=BOTH, backward_ar_loss_weight=2.)
case('pred_distance', pred_distance=True)
case('pred_distance_far', pred_distance=True, max_pred_distance=4, pred_distance_loss_weight=0.3)
case('pred_distance_weighted', pred_distance=True, backward_ar_loss_weight=0.7)
case('one_pair', dict(seq=tok(B, 2)), train_frac_forward_backward_pairs=0.5)
case('cond_on_distance', quirks=True, cond_on_distance=True, cond_on_distance_prob=0.8)
case('pair_weights', SEQ, PAIRS, backward_ar_loss_weight=0.5)
case('pair_weights_ignored', SEQ, PAIRS, quirks=True)
case('lens', SHORT)
case('lens_two_decoders', SHORT, base=BOTH, pred_distance=True)
case('lens_weighted', SHORT, base=BOTH, backward_ar_loss_weight=0.5)
case('no_abs_pos', base=dict(BELIEF, forward_decoder=lm(dec(rotary_pos_emb=True, ff_glu=True))))
case('memory_tokens', base=dict(BELIEF, forward_decoder=lm(dec(), num_memory_tokens=2)))

LOUD = {'text_head.2.weight': 8., 'token_emb.emb.weight': 2.}


def generate(name, inputs, kwargs, base=BELIEF, **options):
    add(f'belief.generate_{name}', dict(base, **options), inputs,
        dict(dict(method='generate_with_suffix_cond', seq_len=5), **kwargs), mode='generate', grads=False,
        louder=LOUD)


PROMPTS = dict(prompts=tok(B, 4))
GREEDY = dict(temperature=0.)
generate('greedy', PROMPTS, GREEDY)
generate('suffix', PROMPTS | dict(suffix=tok(B, 3)), GREEDY)
generate('suffix_of_all', PROMPTS | dict(suffix=tok(3)), GREEDY, base=BOTH)
generate('min_p', PROMPTS | dict(suffix=tok(B, 2)), dict(filter_kwargs=dict(min_p=1.)))
generate('temperature', PROMPTS, dict(filter_kwargs=dict(min_p=1.), temperature=0.7))
generate('cache', PROMPTS | dict(suffix=tok(B, 3)), dict(GREEDY, cache_kv=True), base=BOTH)
generate('one_prompt', dict(prompts=tok(3)), GREEDY)
generate('one_prompt_suffix', dict(prompts=tok(3), suffix=tok(2)), GREEDY, base=BOTH)
generate('three_axes', dict(prompts=tok(2, 2, 3)), GREEDY)
generate('decoder_kwargs', PROMPTS | dict(in_attn_cond=flt(B, D)), GREEDY)
generate('backwards', dict(prompts=tok(B, 3, bound=1)), dict(GREEDY, decode_backwards=True),
         base=dict(BELIEF, forward_decoder=lm(dec(), num_tokens=1)))
