"""What a case is, and short spellings for inputs and configs. No torch: the tracker reads them.

A query row that the causal mask and the given masks together leave without any key gets attention
output 0 in ours, on every engine; Python without flash gives the mean over all values there. Cases
therefore leave each row a visible key: under causal attention, masks of keys begin with True (`bit`
sees to that), and left padding comes with flash, which gives 0 in Python too, or memory keys.
"""
from dataclasses import dataclass, field
from functools import partial

V, D, N, B = 20, 16, 7, 2  # vocabulary, model dimension, sequence length, batch


@dataclass
class Case:
    name: str
    config: dict
    inputs: dict  # name -> spec, see below
    kwargs: dict = field(default_factory=dict)  # JSON values
    mode: str = 'forward'
    grads: bool = True
    python: dict = field(default_factory=dict)  # what Python is given instead, see README.md
    louder: dict = field(default_factory=dict)  # end of a parameter's name -> factor on its values
    offsets: dict = field(default_factory=dict)  # end of a vector's name -> what its entries vary about
    eos_after: int | None = None  # eos_token becomes the token that the first row generates there
    seed: int = 0  # tried first
    draws: int | None = None  # torch's seed, where results are random: both draw the same numbers

    @property
    def group(self):
        return self.name.split('.')[0]


CASES = []


def add(name, config, inputs, kwargs=None, **more):
    CASES.append(Case(name, config, inputs, kwargs or {}, **more))


# Specs of inputs: 'tok', 'flt' and 'bit' are values of the formula; 'int', 'bool', 'num' literal.

def tok(*shape, bound=V):
    return ('tok', shape, bound)


def flt(*shape, scale=1.):
    return ('flt', shape, scale)


def bit(*shape, p=0.7):
    """A mask of which the first entry of each row is True."""
    return ('bit', shape, p)


def shape_of(nested):
    shape = []
    while isinstance(nested, (list, tuple)):
        shape.append(len(nested))
        nested = nested[0] if nested else None
    return tuple(shape)


def flat(nested):
    if not isinstance(nested, (list, tuple)):
        return [nested]
    return [item for part in nested for item in flat(part)]


def literal(kind, values):
    return (kind, shape_of(values), flat(values))


ints, nums, bools = (partial(literal, kind) for kind in ('int', 'num', 'bool'))


def lens(n, *counts):
    """A padding mask: the first of n positions of each row."""
    return bools([[i < count for i in range(n)] for count in counts])


def right(n, *counts):
    """A mask of left padding: the last of n positions of each row."""
    return bools([[i >= n - count for i in range(n)] for count in counts])


X = dict(x=tok(B, N))
MASK = dict(mask=lens(N, N, 4))
CONTEXT = dict(context=flt(B, 5, D), context_mask=lens(5, 5, 3))
HIDDEN = dict(x=flt(B, N, D))


def mems(count, length=3, dim=D):
    return {f'mems.{i}': flt(B, length, dim) for i in range(count)}


def mem_masks(count, *counts, length=3):
    return {f'mem_masks.{i}': right(length, *counts) for i in range(count)}


# configs

def layers(kind, depth=2, **options):
    return dict(dict(type=kind, dim=D, depth=depth, heads=4, attn_dim_head=8), **options)


dec, enc, pre, cross = (partial(layers, kind)
                        for kind in ('Decoder', 'Encoder', 'PrefixDecoder', 'CrossAttender'))


def lm(net, **options):
    return dict(dict(type='TransformerWrapper', num_tokens=V, max_seq_len=12, attn_layers=net),
                **options)


def ar(net, **options):
    return dict(type='AutoregressiveWrapper', net=net, **options)


def each(prefix, make, table, inputs=X, kwargs=None, **more):
    """A case for each entry of the table: options of the stack."""
    for name, options in table.items():
        add(f'{prefix}.{name}', lm(make(**options)), inputs, kwargs, **more)


def each_module(prefix, table):
    """A case for each entry of the table: (config, inputs) or (config, inputs, kwargs)."""
    for name, (config, inputs, *kwargs) in table.items():
        add(f'{prefix}.{name}', config, inputs, *kwargs)
