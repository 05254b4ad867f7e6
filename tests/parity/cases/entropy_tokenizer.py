"""EntropyBasedTokenizer. The threshold stands between the entropies of V tokens, about ln V."""
from .base import B, D, N, add, dec, enc, flt, ints, lens, lm, tok

ENTROPY = dict(type='EntropyBasedTokenizer', decoder=lm(dec()), entropy_threshold=2.7)
SEQ = dict(seq=tok(B, 12))
SHORT = SEQ | dict(lens=ints([12, 5]))


def case(name, inputs, kwargs=None, **options):
    add(f'entropy.{name}', dict(ENTROPY, **options), inputs, kwargs, grads=False)


case('plain', dict(seq=tok(B, N)))
case('low_threshold', SEQ, entropy_threshold=2.5)
case('high_threshold', SEQ, entropy_threshold=3.)
case('all', SEQ, entropy_threshold=0.)
case('lens', SHORT)
case('one_sequence', dict(seq=tok(12)))
case('three_axes', dict(seq=tok(2, 2, 9)))
case('max_token_size', SEQ, max_token_size=3, entropy_threshold=2.8)
case('max_token_size_lens', SHORT, max_token_size=2, entropy_threshold=3.)
case('max_token_size_one', dict(seq=tok(B, 4)), max_token_size=1)
case('segments', SEQ, dict(return_segmented_seq=True))
case('segments_lens', SHORT, dict(return_segmented_seq=True), max_token_size=3)
case('segments_one_sequence', dict(seq=tok(12)), dict(return_segmented_seq=True))
case('decoder_kwargs', SEQ | {'decoder_forward_kwargs.mask': lens(12, 12, 7)}, decoder=lm(enc()))
case('decoder_sum_embeds', SEQ | {'decoder_forward_kwargs.sum_embeds': flt(B, 12, D)})
