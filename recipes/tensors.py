"""Tensors in safetensors files, by name, as Python lists: what the scripts of the recipes hand to `x-transformers forward`."""

import json
import math
import struct

CODES = {"F32": "f", "I64": "q", "BOOL": "?"}


def write_tensors(path, tensors):
    """Writes {name: (type, shape, flat list of values)}; the type is F32, I64 or BOOL."""
    header, data = {}, b""
    for name, (kind, shape, values) in tensors.items():
        packed = struct.pack(f"<{len(values)}{CODES[kind]}", *values)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_tensors(path):
    """{name: (shape, flat list of values)} of a file."""
    content = path.read_bytes()
    start = 8 + struct.unpack("<Q", content[:8])[0]
    tensors = {}
    for name, entry in json.loads(content[8:start]).items():
        if name == "__metadata__":
            continue
        count = math.prod(entry["shape"])
        values = struct.unpack_from(f"<{count}{CODES[entry['dtype']]}", content, start + entry["data_offsets"][0])
        tensors[name] = (entry["shape"], list(values))
    return tensors
