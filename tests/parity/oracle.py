"""Runs the Python libraries x-transformers and FLASH-pytorch on cases, with weights and inputs from a formula."""
import dataclasses
import inspect
import random
import warnings
import zlib
from contextlib import contextmanager

import numpy as np
import torch
from loguru import logger
from x_transformers import nonautoregressive_wrapper

import formula
import own_modules
from calls import arguments, flatten, from_json, objective
from compare import compare

logger.remove()
warnings.simplefilter('ignore')
torch.set_num_threads(1)
own_modules.install()


class NoCase(Exception):
    """Python refuses the case, or its results depend on chance or rounding."""


# Random numbers of Python's own come from torch's generator, as all of ours do.
nonautoregressive_wrapper.random = lambda: torch.rand(()).item()


def seed_all(seed):
    torch.manual_seed(seed)
    random.seed(seed)


def build(config):
    config = {key: value for key, value in config.items() if key not in ('python_quirks', 'xt_compat')}
    seed_all(0)
    return from_json({key: value for key, value in config.items()
                      if key not in ('xt_compat', 'python_quirks')}).eval()


# weights: value = base + scale * formula, per parameter

def spread(name, param, louder, offsets):
    """Base and scale of a parameter, so that paths initialised to zero or identity matter.

    A constant tensor keeps its constant and gets noise; a large constant (saturated gates) is
    brought to +-1."""
    value = param.detach().double()
    if value.numel() == 0:
        return 0., 1.
    first = value.flatten()[0].item()
    constant = bool((value == first).all())
    base = first if constant and abs(first) <= 2 else np.sign(first) if constant else 0.
    if not constant:
        deviation = max(value.std().item(), 0.1)
    else:
        deviation = 0.3 if param.ndim < 2 else max(param.shape[-1] ** -0.5, 0.1)
    if name.endswith('static_alpha'):
        deviation = 1.  # far from a fixed point of sinkhorn
    factor = next((factor for end, factor in louder.items() if name.endswith(end)), 1.)
    scale = float(f'{3 ** 0.5 * deviation * factor:.3g}')
    own_bases = next((bases for end, bases in offsets.items() if name.endswith(end)), None)
    return own_bases or float(f'{base * factor:.4g}'), scale


def spreads(model, case):
    return {name: spread(name, param, case.louder, case.offsets)
            for name, param in model.named_parameters()}


@torch.no_grad()
def set_weights(model, spread_of, seed):
    for name, param in model.named_parameters():
        values = formula.uniform(name, seed, param.numel())
        base, scale = spread_of[name]
        values = np.asarray(base) + scale * values
        param.copy_(torch.from_numpy(values.astype(np.float32)).view_as(param))


def make_inputs(specs, seed):
    return {name: torch.from_numpy(formula.make_input(name, spec, seed)) for name,
            spec in specs.items()}


def run(model, inputs, kwargs, mode='forward', grads=False):
    """The flattened return value and, if asked for, the gradients, as numpy arrays by name."""
    args = arguments(inputs, kwargs)
    call = model if mode == 'forward' else getattr(model, args.pop('method', 'generate'))
    model.zero_grad()
    out = flatten(call(**args))
    if not out:
        raise NoCase('no output')
    result = {name: tensor.detach().clone() for name, tensor in out.items()}
    if grads:
        objective(out).backward()
        result.update({f'grad.{name}': param.grad.clone()
                       for name, param in model.named_parameters() if param.grad is not None})
    return {name: (t.to(torch.float32) if t.is_floating_point() else t).contiguous().numpy()
            for name, t in result.items()}


def run_rows(model, inputs, kwargs, mode):
    """Ragged prompts one by one, each without padding."""
    lengths = inputs['prompt_lens'].tolist()
    others = {name: tensor for name, tensor in inputs.items()
              if name not in ('prompts', 'prompt_lens')}
    rows = [run(model, {name: tensor[i:i + 1] for name, tensor in others.items()}
                | {'prompts': inputs['prompts'][i:i + 1, :length]}, kwargs, mode)
            for i, length in enumerate(lengths)]
    return {'out': np.concatenate([row['out'] for row in rows])}


def aliases(model):
    """The names of each parameter that has several."""
    names = {}
    for name, param in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(param), []).append(name)
    return [group for group in names.values() if len(group) > 1]


# making a case

@contextmanager
def double_precision():
    """The masks of float32 and no way back to it, for a model moved to float64."""
    finfo, to_float = torch.finfo, torch.Tensor.float
    torch.finfo, torch.Tensor.float = lambda *_: finfo(torch.float32), torch.Tensor.double
    try:
        yield
    finally:
        torch.finfo, torch.Tensor.float = finfo, to_float


@contextmanager
def other_rounding(seed):
    """The outputs of modules move in their last bit, as sums in another order do. Breaks ties
    between equal tokens, which float64 leaves."""
    generator = torch.Generator().manual_seed(seed)

    def move(module, args, out):
        if torch.is_tensor(out) and out.is_floating_point():
            noise = torch.rand(out.shape, generator=generator, dtype=out.dtype) - 0.5
            return out * (1 + 2e-7 * noise)

    hook = torch.nn.modules.module.register_module_forward_hook(move)
    try:
        yield
    finally:
        hook.remove()


def python_kwargs(case):
    """What is given to Python: no cache, as its cached generation is not always right."""
    cached = case.mode == 'generate' and case.config['type'] in (
        'AutoregressiveWrapper', 'XTransformer', 'ContinuousAutoregressiveWrapper', 'GPTVAE')
    kwargs = case.kwargs | ({'cache_kv': False} if cached else {}) | case.python
    return {key: value for key, value in kwargs.items() if value not in ('leave out', 'each row')}


@dataclasses.dataclass
class Made:
    """A case that Python has answered."""
    case: object
    kwargs: dict  # of the program
    seed: int
    spreads: dict
    model: torch.nn.Module
    inputs: dict
    expected: dict
    grads: bool
    aliases: list


def attempt(case, seed, patient):
    """A Made and the reasons for which its outputs hang on rounding."""
    model = build(case.config)
    model_spreads = spreads(model, case)
    set_weights(model, model_spreads, seed)
    inputs = make_inputs(case.inputs, seed)
    truth, kwargs = python_kwargs(case), dict(case.kwargs)
    grads = case.grads and case.mode == 'forward' and bool(model_spreads)

    def again(model, inputs, rng_seed):
        seed_all(rng_seed if case.draws is None else case.draws)
        if case.python.get('prompt_lens') == 'each row':
            return run_rows(model, inputs, truth, case.mode)
        return run(model, inputs, truth, case.mode, grads)

    if case.eos_after is not None:
        first = again(model, inputs, 1)['out'].reshape(-1, case.kwargs['seq_len'])[0]
        kwargs['eos_token'] = truth['eos_token'] = int(first[case.eos_after])
        if any((tensor == kwargs['eos_token']).any() for tensor in inputs.values()):
            raise NoCase('the eos token occurs in the prompt')

    expected = again(model, inputs, 1)
    made = Made(case, kwargs, seed, model_spreads, model, inputs, expected, grads, aliases(model))
    if infinite := [name for name, array in expected.items() if not np.isfinite(array).all()]:
        raise NoCase(f'not finite: {infinite[:3]}')
    if reasons := compare(expected, again(model, inputs, 2), factor=0.05):
        raise NoCase(f'random: {reasons[:3]}')

    # float64 must agree, and slightly different weights must give the same tokens
    reasons = []
    if case.draws is None:  # in float64 other numbers are drawn
        other = build(case.config)
        other.load_state_dict(model.state_dict())
        doubled = {name: t.double() if t.is_floating_point() else t for name, t in inputs.items()}
        with double_precision():
            reasons = compare(expected, again(other.double(), doubled, 3), factor=0.25)
    with other_rounding(seed):
        reasons += compare(expected, again(model, inputs, 4))
    if patient and any(array.dtype.kind != 'f' for array in expected.values()):
        other = build(case.config)
        other.load_state_dict({name: t * (1 + 1e-4 * torch.randn_like(t)) if t.is_floating_point()
                               else t
                               for name, t in model.state_dict().items()})
        reasons += compare(expected, again(other, inputs, 4), factor=1000)
    return made, reasons


def make(case, attempts=6):
    """The case with the first seed whose outputs do not hang on rounding; NoCase if refused."""
    first = zlib.crc32(case.name.encode()) % 1000000 + case.seed
    for seed in range(first, first + attempts):
        try:
            made, reasons = attempt(case, seed, patient=True)
        except NoCase as error:
            if 'eos token' not in str(error):
                raise
            reasons = [str(error)]
        except Exception as error:  # whatever Python raises is its way to refuse
            where = inspect.trace()[-1]
            what = f'{type(error).__name__}: {str(error)[:200]}'
            raise NoCase(f'{what} ({where.function}:{where.lineno})') from error
        if not reasons:
            return made
    raise NoCase(f'sensitive to rounding: {"; ".join(reasons[:3])}')
