#!/usr/bin/env bash
# torch 2.11.0, gloo: all_reduce and broadcast go by memory and not by place: a tensor stored column by column in one
# process is scrambled.
#
# Collectives check shapes and dtypes no further than sizes in bytes; a transposed tensor is "dense" and is taken. Two
# processes that hold equal matrices, one of them row by row and one column by column, sum element 1 of the memory of one
# with element 1 of the memory of the other. Seen: the sum of [[0, 1, 2], [3, 4, 5]] with itself is [[0, 4, 3], [7, 6,
# 10]] in the one process and [[0, 3, 6], [4, 7, 10]] in the other, and a broadcast of it arrives as [[0, 2, 4], [1, 3,
# 5]]. Nothing fails, in either process. For who trains: weights that process 0 alone has loaded from a transposed
# checkpoint (w.t() of a Conv1D, load_state_dict(assign=True)) and then broadcasts reach the others scrambled, and
# .contiguous() on one side only does not help.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" torch==2.11.0 numpy==2.4.6
script=$(mktemp -d)/ranks.py
cat >"$script" <<'PY'
import sys
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

matrix = torch.arange(6.).view(2, 3)


def by_columns(x):
    return x.t().contiguous().t()


def run(rank, rendezvous, results):
    dist.init_process_group('gloo', init_method=f'file://{rendezvous}', rank=rank, world_size=2)
    told = {}
    for name, other in dict(same=torch.clone, mixed=by_columns).items():
        mine = matrix.clone() if rank == 0 else other(matrix)
        assert torch.equal(mine, matrix)
        dist.all_reduce(mine)
        got = matrix.clone() if rank == 0 else other(torch.zeros(2, 3))
        dist.broadcast(got, 0)
        told[name] = mine.tolist(), got.tolist()
    results.put((rank, told))
    dist.destroy_process_group()


if __name__ == '__main__':
    context = mp.get_context('spawn')
    results = context.Queue()
    mp.start_processes(run, (tempfile.mktemp(), results), nprocs=2, start_method='spawn', join=False)
    told = dict(results.get(timeout=500) for _ in range(2))
    for rank in (0, 1):
        print(f'process {rank}: sum {told[rank]["mixed"][0]}, broadcast {told[rank]["mixed"][1]}')
        assert told[rank]['same'] == ((2 * matrix).tolist(), matrix.tolist())
        assert told[rank]['mixed'][0] != (2 * matrix).tolist(), 'sums go by place now'
    assert told[0]['mixed'][0] == [[0, 4, 3], [7, 6, 10]] and told[1]['mixed'][0] == [[0, 3, 6], [4, 7, 10]]
    assert told[1]['mixed'][1] == [[0, 2, 4], [1, 3, 5]], 'a broadcast goes by place now'
PY
"$python" -W ignore "$script"
echo "as described"
