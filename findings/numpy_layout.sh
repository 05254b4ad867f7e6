#!/usr/bin/env bash
# safetensors 0.8.0: safetensors.numpy writes the memory of a transposed array under the shape of the transposed one.
#
# Since 0.8 arrays are written from where they lie, and their layout is not looked at: w.T, a Fortran array (what
# scikit-learn, SciPy and Fortran readers return) or a slice of columns comes back with its shape and dtype and other
# numbers. safetensors.torch refuses such a tensor by name, and 0.7.0 wrote it right. Seen: the transpose of a matrix of 0
# to 5 comes back as 0 to 5 in rows of two. For who ships: converting weights between conventions is transposing (GPT-2's
# Conv1D, Flax and TensorFlow kernels against torch's Linear), and square matrices do not even change shape.
# np.ascontiguousarray first.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" safetensors==0.8.0 numpy==2.4.6 torch==2.11.0
"$python" -W ignore - <<'PY'
import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch

matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
file = Path(tempfile.mkdtemp()) / 'w.safetensors'


def read_back(array):
    safetensors.numpy.save_file({'w': array}, file)
    return safetensors.numpy.load_file(file)['w']


assert np.array_equal(read_back(matrix), matrix)
for name, array in {'matrix.T': matrix.T, 'np.asfortranarray(matrix)': np.asfortranarray(matrix)}.items():
    back = read_back(array)
    print(f'{name}: {array.tolist()} comes back as {back.tolist()}')
    assert back.shape == array.shape and back.dtype == array.dtype
    assert not np.array_equal(back, array), 'layouts are looked at now'
    assert np.array_equal(back.ravel(), array.ravel(order='K'))
    assert np.array_equal(read_back(np.ascontiguousarray(array)), array)
try:
    safetensors.torch.save({'w': torch.from_numpy(matrix).T})
except ValueError as error:
    print(f'safetensors.torch: {str(error)[:52]} ...')
else:
    raise AssertionError('safetensors.torch takes transposed tensors now')
PY
echo "as described"
