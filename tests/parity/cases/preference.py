"""DPO. Python's masks are one off: with masks of the targets alone, both are right."""
from .base import B, N, add, bit, dec, lens, lm, tok

PAIR = dict(preferred_seq=tok(B, N), unpreferred_seq=tok(B, N), prompt_mask=lens(N, 3, 2))
OF_TARGETS = PAIR | dict(prompt_mask=lens(N - 1, 3, 2))
SEEN = dict(preferred_seq_mask=lens(N, N, 5), unpreferred_seq_mask=lens(N, 6, N))


def dpo(net=None, **options):
    return dict(type='DPO', model=net or lm(dec()), **options)


def quirky(net=None, **options):
    return dpo(net, python_quirks=True, **options)


add('dpo.plain', quirky(), PAIR)
add('dpo.beta_pad', quirky(beta=0.3, pad_id=2), PAIR)
add('dpo.masks', quirky(), PAIR | SEEN)
add('dpo.masks_and_pad', quirky(pad_id=2), PAIR | dict(preferred_seq_mask=lens(N, N, 5)))
add('dpo.scattered', quirky(), PAIR | dict(prompt_mask=bit(B, N, p=0.4)))
add('dpo.tied', quirky(lm(dec(), tie_embedding=True)), PAIR)
add('dpo.mixture', quirky(lm(dec(), mixture_of_softmax=True)), PAIR)
add('dpo.tied_mixture', quirky(lm(dec(), tie_embedding=True, mixture_of_softmax=True)), PAIR)
add('dpo.targets', dpo(), OF_TARGETS)
add('dpo.targets_masks', dpo(beta=0.5), OF_TARGETS | dict(preferred_seq_mask=lens(N - 1, 6, 4),
                                                          unpreferred_seq_mask=lens(N - 1, 5, 6)))
add('dpo.one_mask', dpo(), PAIR | dict(prompt_mask=lens(N - 1, 2)))
