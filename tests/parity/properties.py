"""What must hold whatever the weights: no look ahead, and nothing seen of what a mask hides."""
import numpy as np

import coverage
from compare import magnitude

# The projection is onto the values of the whole sequence: a later or masked token changes earlier outputs.
LOOKS_AHEAD = {'Attention.orthog_projected_values', 'Attention.orthog_projected_values_per_head'}
STACKS = ('Decoder', 'Encoder', 'PrefixDecoder', 'CrossAttender')
# A masked token's features pass to its neighbours, or bear on the scores of others.
MASKED_TOKENS_MATTER = {*LOOKS_AHEAD, 'AttentionLayers.shift_tokens', 'Attention.data_dependent_alibi',
                        'Attention.selective',
                        'Attention.hybrid_module', 'AttentionLayers.forward.self_attn_kv_mask',
                        'AttentionLayers.forward.seq_start_pos',
                        'TransformerWrapper.forward.seq_start_pos',
                        'TransformerWrapper.memory_tokens_interspersed_every'}


def other(x):
    """Another value in each entry, of the same kind."""
    return np.where(x > 0, x - 1, x + 1) if x.dtype.kind == 'i' else (x * 0.3 - 1.7).astype(x.dtype)


def same_where(name, seen):
    """A comparison of the output of that name at the positions that the function `seen` selects."""
    def compare(before, after):
        a, b = seen(before[name]).astype(np.float64), seen(after[name]).astype(np.float64)
        error = np.abs(a - b).max(initial=0)
        return f'changed by {error:.3g}' if error > 2e-5 * max(magnitude(b), 1e-6) else None
    return compare


def net_of(config):
    return config if config['type'] in STACKS else config.get('attn_layers', {})


def of(made, inputs):
    """(what, changed inputs, comparison) for each property that the case must have."""
    case = made.case
    x, needs = inputs.get('x'), coverage.needs(case)
    if case.mode != 'forward' or case.config['type'] not in (*STACKS,
        'TransformerWrapper') or x is None:
        return
    length = x.shape[1]
    name, out = next(iter(made.expected.items()))
    by_position = out.ndim >= 2 and out.shape[:2] == x.shape[:2]
    causal = net_of(case.config).get('type') == 'Decoder' and not needs & LOOKS_AHEAD
    if causal and by_position and length > 1:
        later = x.copy()
        later[:, -1] = other(x[:, -1])
        yield 'a later token changes an earlier output', inputs | dict(x=later), same_where(name,
            lambda out: out[:, :-1])
    if needs & MASKED_TOKENS_MATTER:
        return
    mask = inputs.get('mask')
    pooled = out.ndim <= 2 or out.shape[1] != length and 'prepend_embeds' not in inputs
    # A mask of several rows beside one row of x has no x to change.
    fits = mask is not None and mask.shape[0] == x.shape[0]
    if fits and (by_position or pooled):
        hidden = np.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, other(x))
        yield 'a masked token matters', inputs | dict(x=hidden), same_where(name,
            lambda out: out[mask] if by_position else out)
    context_mask = inputs.get('context_mask')
    if context_mask is not None:
        hidden = np.where(context_mask[..., None], inputs['context'], other(inputs['context']))
        yield ('a masked part of the context matters', inputs | dict(context=hidden),
               same_where(name, lambda out: out))
