"""The tolerance of the contract: whether two dicts of arrays agree."""
import numpy as np

TOLERANCE = dict(atol=2e-5, rtol=1e-4, grad_atol=5e-4, grad_floor=2e-6)


def magnitude(array):
    """The largest entry, masking constants (-3.4e38) left out."""
    usable = np.abs(array[np.isfinite(array) & (np.abs(array) < 1e30)])
    return float(usable.max(initial=0))


def bound(name, b, top_grad):
    """Outputs: atol * max|b| + rtol * |b|.

    Gradients: grad_atol * max|b| + grad_floor * largest gradient of the model."""
    if name.startswith('grad.'):
        return TOLERANCE['grad_atol'] * magnitude(b) + TOLERANCE['grad_floor'] * top_grad
    return TOLERANCE['atol'] * magnitude(b) + TOLERANCE['rtol'] * np.abs(b)


def difference(name, a, b, top_grad, factor):
    """Why two arrays of one name differ, or None."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return f'{name}: is {a.dtype}{list(a.shape)}, expected {b.dtype}{list(b.shape)}'
    if b.dtype.kind != 'f':
        wrong = int((a != b).sum())
        return f'{name}: {wrong} of {b.size} entries differ' if wrong else None
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid='ignore', over='ignore'):
        error = np.abs(a - b)
        good = (error <= factor * bound(name, b, top_grad)
                + 1e-9) | (a == b) | (np.isnan(a) & np.isnan(b))
    if good.all():
        return None
    worst = np.nanmax(np.where(good, 0, np.nan_to_num(error, nan=np.inf)))
    return (f'{name}: {int((~good).sum())} of {b.size} entries off, max abs error {worst:.3g}, '
            f'relative to the largest entry {worst / max(magnitude(b), 1e-30):.3g}')


def compare(expected, actual, aliases=(), factor=1.):
    """Why the two dicts of arrays differ, as a list of reasons.

    A tied parameter may come under any of its names, and a zero gradient may stand for none."""
    other_names = {name: group for group in aliases for name in group}
    top_grad = max((magnitude(b) for name, b in expected.items() if name.startswith('grad.')),
                   default=0)
    reasons, seen = [], set()
    for name, b in expected.items():
        names = [name] + [f'grad.{other}'
                          for other in other_names.get(name.removeprefix('grad.'), ())
                          if name.startswith('grad.')]
        seen.update(names)
        found = next((key for key in names if key in actual), None)
        reason = f'{name}: missing' if found is None else difference(name, actual[found], b,
            top_grad, factor)
        reasons += [reason] if reason else []
    for name in sorted(set(actual) - seen):
        if '.attn_intermediates.' in name:  # what a later call takes as its cache
            continue
        if not (name.startswith('grad.') and not actual[name].any()):
            reasons.append(f'{name}: not expected')
    return reasons
