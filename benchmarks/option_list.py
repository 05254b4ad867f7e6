"""Reads options.json: the models and inputs that options.py measures. No package needed."""
import array
import copy
import json
import math
import random
import struct
from dataclasses import dataclass
from pathlib import Path

PATH = Path(__file__).with_name('options.json')


@dataclass
class Entry:
    name: str
    config: dict
    inputs: dict  # name -> (type, shape, values)
    kwargs: dict


def with_sizes(value, sizes):
    """"$dim" becomes the size of that name."""
    if isinstance(value, dict):
        return {key: with_sizes(item, sizes) for key, item in value.items()}
    if isinstance(value, list):
        return [with_sizes(item, sizes) for item in value]
    return sizes[value[1:]] if isinstance(value, str) and value.startswith('$') else value


def merge(target, patch):
    """RFC 7396: objects are merged, null takes a key away."""
    for key, item in patch.items():
        if item is None:
            target.pop(key, None)
        elif isinstance(item, dict) and isinstance(target.get(key), dict):
            merge(target[key], item)
        else:
            target[key] = item


def config_of(base, entry):
    config = copy.deepcopy(base['config'])
    net = config.get('net', config)
    merge(config, entry.get('model', {}))
    merge(net, entry.get('net', {}))
    merge(net.get('attn_layers', {}), entry.get('layers', {}))
    return config


# Tensors, as (type, shape, values). The names of the types are those of safetensors.

def tensor(name, spec):
    kind = next(iter(spec))
    size = spec[kind]
    if kind == 'range':
        return 'I64', [size], array.array('q', range(size))
    if kind == 'prefixes':
        return 'I64', [size], array.array('q', range(1, 2 * size, 2))
    if kind == 'boundaries':
        count, length = size
        return 'I32', [count + 1], array.array('i', range(0, (count + 1) * length, length))
    count = math.prod(size)
    numbers = random.Random(name)
    if kind == 'tokens':
        return 'I64', size, array.array('q', numbers.choices(range(spec['below']), k=count))
    if kind == 'floats':
        scale = 12 ** 0.5  # variance 1
        return 'F32', size, array.array('f', (scale * (numbers.random() - 0.5) for _ in range(count)))
    assert kind == 'mask', f'{name}: unknown input {kind}'
    length, rows = size[-1], count // size[-1]
    seen = (max(1, length - row % (length // 2 + 1)) for row in range(rows))
    return 'BOOL', size, array.array('B', (i < shown for shown in seen for i in range(length)))


def split(name, whole):
    """NAME.* is a list: one tensor for each index of the first dimension."""
    if '*' not in name:
        return {name: whole}
    kind, (count, *shape), values = whole
    size = math.prod(shape)
    return {key: part for i in range(count) for key, part in split(
        name.replace('*', str(i), 1), (kind, shape, values[i * size:(i + 1) * size])).items()}


def inputs_of(base, entry):
    specs = {**base['inputs'], **entry.get('inputs', {})}
    return {key: part for name, spec in specs.items() if spec is not None
            for key, part in split(name, tensor(name, spec)).items()}


def read_file():
    return json.loads(PATH.read_text(encoding='utf-8'))


def entries(sizes='sizes', **changed):
    """All entries in the file's order, one by one; `changed` sets single sizes."""
    file = read_file()
    filled = with_sizes({key: file[key] for key in ('bases', 'options')}, {**file[sizes], **changed})
    for name, entry in filled['options'].items():
        base = filled['bases'][entry.get('base', 'decoder')]
        yield Entry(name, config_of(base, entry), inputs_of(base, entry), entry.get('kwargs', {}))


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, (kind, shape, values) in tensors.items():
        end = offset + len(values) * values.itemsize
        header[name] = dict(dtype=kind, shape=shape, data_offsets=[offset, end])
        offset = end
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text)
        for _, _, values in tensors.values():
            values.tofile(file)
