"""Times training steps of Python x-transformers 2.16.1 and FLASH-pytorch 0.1.9 in eager mode, each model in a process of its own.

A JSON object a line in: config, inputs (a .safetensors file), kwargs, device, threads, warm_up, steps, products; a JSON object a
line out, with the names that `x-transformers bench train` uses, or "error"; and, where products are asked for, the share of a
step that its matrix products take, and with them attention that is one operation, by PyTorch's profiler. Importing torch takes seconds, so each model runs in a
fork of this process, which has imported it, started no threads and touched no device. A fork begins with the heap of a fresh
process; the pages of libraries, which it maps anew, are counted as if it had kept them."""
import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path

import torch
from loguru import logger
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests' / 'parity'))
import calls  # noqa: E402

logger.remove()
warnings.simplefilter('ignore')


def median_ms(step, warm_up, count, synchronize):
    """Elapsed, and of the processor."""
    times = []
    for index in range(warm_up + count):
        synchronize()
        start = time.perf_counter(), time.process_time()
        step()
        synchronize()
        if index >= warm_up:
            times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return [sorted(part)[len(times) // 2] * 1e3 for part in zip(*times)]


def library_bytes():
    """Pages of files that are mapped and in memory."""
    line = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('RssFile'))
    return int(line.split()[1]) * 1024


def peak_memory(is_cuda, library_bytes_before):
    if is_cuda:
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return peak + max(0, library_bytes_before - library_bytes())


PRODUCTS = {'aten::mm', 'aten::addmm', 'aten::bmm', 'aten::baddbmm'}


def shares_of_products(step):
    """Of the time within operations: matrix products, and these and attention that is one operation."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    times = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    products = sum(times.get(name, 0) for name in PRODUCTS)
    attention = sum(time for name, time in times.items() if '_scaled_dot_product' in name)
    total = sum(times.values())
    return dict(products_share=products / total, products_and_attention_share=(products + attention) / total)


def measure(task, library_bytes_before):
    is_cuda = task['device'].startswith('cuda')
    torch.set_num_threads(task['threads'])
    torch.manual_seed(0)
    model = calls.from_json(task['config']).to(task['device']).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    inputs = {name: tensor.to(task['device']) for name, tensor in load_file(task['inputs']).items()}
    arguments = calls.arguments(inputs, task['kwargs'])

    def step():
        with torch.autocast(task['device'], dtype=torch.bfloat16, enabled=is_cuda):
            loss = calls.objective(calls.flatten(model(**arguments)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    synchronize = torch.cuda.synchronize if is_cuda else lambda: None
    elapsed, processor = median_ms(step, task['warm_up'], task['steps'], synchronize)
    result = dict(ms_per_step=elapsed, processor_ms_per_step=processor, memory_bytes=peak_memory(is_cuda, library_bytes_before))
    return {**result, **shares_of_products(step)} if task['products'] else result


def forked(task):
    """measure() in a fork."""
    read_end, write_end = os.pipe()
    library_bytes_before = library_bytes()
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)  # a library that prints must not speak between the answers
        try:
            answer = measure(task, library_bytes_before)
        except BaseException as error:  # whatever Python fails with is the answer
            answer = dict(error=f'{type(error).__name__}: {error}'[:300])
        os.write(write_end, json.dumps(answer).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, 'rb') as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer) if answer else dict(error='the process was killed')


def main():
    calls.find_class('AutoregressiveWrapper')  # imports the library
    for line in sys.stdin:
        print(json.dumps(forked(json.loads(line))), flush=True)


if __name__ == '__main__':
    main()
