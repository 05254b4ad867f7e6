"""Numbers that Python and C++ compute alike: the u-th value of a name is a hash of (name, seed, u).

splitmix64 of the stream that starts at the hash of name and seed; the top 24 bits become a
float in [-1, 1).
tests/interchange/golden_test.cpp holds the same formula."""
import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MASK = (1 << 64) - 1


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def mix(value):
    """The finisher of splitmix64."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def bits(name, seed, count):
    with np.errstate(over='ignore'):
        start = mix(np.array([fnv1a(name)], np.uint64) + np.uint64(seed) * GOLDEN)
        return mix(start + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN)


def uniform(name, seed, count):
    """float64 in [-1, 1), each exact in float32."""
    return ((bits(name, seed, count) >> np.uint64(40)).astype(np.float64) - 2 ** 23) / 2 ** 23


def signs(name, count):
    """+1 and -1, for digests."""
    return np.where(bits(name, 0, count) >> np.uint64(63), 1., -1.)


def make_input(name, spec, seed):
    """An array from its spec (cases/base.py); floats have unit variance times their scale."""
    kind, shape, what = spec
    count = int(np.prod(shape, dtype=np.int64))
    if kind == 'tok':
        return (bits(name, seed, count) >> np.uint64(33)).astype(np.int64).reshape(shape) % what
    if kind == 'flt':
        return (3 ** 0.5 * what * uniform(name, seed, count)).astype(np.float32).reshape(shape)
    if kind == 'bit':
        values = (uniform(name, seed, count) < 2 * what - 1).reshape(shape)
        values[..., 0] = True
        return values
    return np.array(what, dict(int=np.int64, num=np.float32, bool=bool)[kind]).reshape(shape)


def digest(name, array):
    """Largest magnitude and three sums under hashed signs: any change of an entry shows.

    Masking constants (-3.4e38 and the like) count as +-1, and not for the magnitude."""
    values = array.astype(np.float64).ravel()
    masking = np.abs(values) > 1e30
    largest = float(np.abs(values[~masking]).max(initial=0))
    values = np.where(masking, np.sign(values), values)
    return [largest, *(float(signs(f'{name}/{i}', values.size) @ values) for i in range(3))]
