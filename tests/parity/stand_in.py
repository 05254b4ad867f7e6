"""A stand-in for the program, to test the harness on itself: it runs the Python library.

STAND_IN_WRONG=value|grad|shape|missing|extra|mask|later spoils its answers: run_live.py must
fail."""
import argparse
import json
import os
import sys
from pathlib import Path

import torch
from safetensors.numpy import load_file, save_file

import oracle


def spoil(result, how):
    first, last = list(result)[0], list(result)[-1]
    if how == 'value' and result[first].dtype.kind == 'f':
        result[first] = result[first] * 1.001 + 1e-4
    elif how == 'grad' and last.startswith('grad.'):
        result[last] = result[last] * 1.01
    elif how == 'shape':
        result[first] = result[first][None]
    elif how == 'missing':
        del result[last]
    elif how == 'extra':
        result['out.extra'] = result[first]
    return result


def answer(argv):
    parser = argparse.ArgumentParser()
    parser.add_argument('mode', choices=['forward', 'generate'])
    for name in ('config', 'weights', 'inputs', 'outputs'):
        parser.add_argument(f'--{name}', required=True)
    parser.add_argument('--kwargs', default='{}')
    parser.add_argument('--grads', action='store_true')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    config, wrong = json.loads(Path(args.config).read_text()), os.environ.get('STAND_IN_WRONG')
    model = oracle.build(config)
    model.load_state_dict({name: torch.from_numpy(array) for name,
                           array in load_file(args.weights).items()})
    inputs = {name: torch.from_numpy(array) for name, array in load_file(args.inputs).items()}
    kwargs = json.loads(args.kwargs)
    if wrong == 'mask':
        inputs.pop('mask', None)
    if args.mode == 'generate':  # what Python gets wrong or refuses
        kwargs.update(cache_kv=False) if config['type'] in ('AutoregressiveWrapper',
                                                            'XTransformer') else None
        kwargs.pop('restrict_to_max_seq_len', None)
    oracle.seed_all(args.seed)
    result = oracle.run(model, inputs, kwargs, args.mode, args.grads)
    out = result.get('out')
    if wrong == 'later' and out is not None and out.dtype.kind == 'f' and out.ndim == 3:
        result['out'] = out + 1e-3 * out[:, -1:]
    save_file(spoil(result, wrong), args.outputs)


def main():
    replies, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            answer(json.loads(line))
            reply = [0, '']
        except Exception as error:
            reply = [1, f'{type(error).__name__}: {error}']
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == '__main__':
    main()
