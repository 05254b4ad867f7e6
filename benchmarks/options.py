"""A table of every option (options.json): a training step with that option on, ours beside Python x-transformers in eager
mode. Time, peak memory, and on CUDA whether ours is one graph. Ratios are ours / Python: below 1 is better than Python.

options.py --program build/x-transformers [--python PYTHON] [--filter REGEX] [--quick] [--json FILE]
PYTHON is an interpreter that has torch 2.11.0, x-transformers 2.16.1 and FLASH-pytorch 0.1.9. Each round of an option measures ours, then
Python, each in a process of its own. Where others use the machine too, --threads 1 --processor-time gives figures that
hardly depend on them. Python has flash attention where it takes the option with it. On CUDA ours is in
bfloat16 and Python under its autocast."""
import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import option_list

QUICK = dict(batch=2, all_tokens=512)  # sizes
COLUMNS = f"{'option':42} {'ours':>10} {'Python':>10} {'ratio':>7}   {'peak memory, ours / Python':>28}"


class Peer:
    """option_peer.py: Python's side."""

    def __init__(self, python):
        self.process = subprocess.Popen([python, "-B", Path(__file__).with_name("option_peer.py")], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, **task):
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def without_flash(value):
    """The config without flash attention, which is a wish here and refused beside many options there."""
    if not isinstance(value, dict):
        return value
    return {key: without_flash(item) for key, item in value.items() if not key.endswith("attn_flash") and key != "flash"}


class Bench:
    def __init__(self, args, folder, peer):
        self.args, self.peer = args, peer
        self.config, self.inputs = Path(folder) / "model.json", Path(folder) / "inputs.safetensors"

    def ours(self, entry, *more):
        args = self.args
        command = [args.program, "bench", "train", "--config", self.config, "--inputs", self.inputs,
                   "--kwargs", json.dumps(entry.kwargs), "--device", args.device, "--threads", args.threads,
                   "--steps", args.steps, "--warm-up", args.warm_up,
                   "--precision", "fp32" if args.device == "cpu" else "bf16", *more]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode == 0:
            return json.loads(done.stdout.strip().splitlines()[-1])
        error = done.stderr.strip()[:300] or f"exit status {done.returncode}"
        if "--no-cuda-graph" in error and not more:  # what it says where a step cannot be captured
            return {**self.ours(entry, "--no-cuda-graph"), "graph_unsupported": error}
        return dict(error=error)

    def python(self, entry):
        for config in (entry.config, without_flash(entry.config)):
            result = self.peer(config=config, inputs=str(self.inputs), kwargs=entry.kwargs, device=self.args.device,
                               threads=self.args.threads, warm_up=self.args.warm_up, steps=self.args.steps,
                               products=self.args.products)
            # A package that is missing is no refusal.
            if "error" not in result or result["error"].startswith("ImportError"):
                break
        return {**result, "flash": config is entry.config}

    def measure(self, entry):
        """Medians over the rounds, of each side; a side that failed has its error."""
        self.config.write_text(json.dumps(entry.config), encoding="utf-8")
        option_list.write_safetensors(self.inputs, entry.inputs)
        sides = dict(ours=[], python=[])
        for _ in range(self.args.rounds):
            for name, side in (("ours", self.ours), ("python", self.python)):
                if not sides[name] or "error" not in sides[name][-1]:
                    sides[name].append(side(entry))
        return {name: median(results) for name, results in sides.items()}


def median(results):
    if "error" in results[-1]:
        return results[-1]
    return {**results[0], **{key: statistics.median(result[key] for result in results)
                             for key in ("ms_per_step", "processor_ms_per_step", "memory_bytes")}}


def ratio(row, key):
    """Ours / Python, None where a side failed."""
    ours, python = row["ours"].get(key), row["python"].get(key)
    return ours / python if ours and python else None


def side(result, key, scale):
    return f"{result[key] / scale:.1f}" if key in result else "-"


def line(name, row, time_key):
    ours, python = row["ours"], row["python"]
    figures = [side(result, time_key, 1) for result in (ours, python)]
    memory = [side(result, "memory_bytes", 1e6) for result in (ours, python)]
    time_ratio, memory_ratio = ratio(row, time_key), ratio(row, "memory_bytes")
    notes = []
    if memory_ratio:
        notes.append(f"{memory_ratio:.2f}")
    if "graph_unsupported" in ours and not ours["graph_unsupported"].startswith("the device is"):
        notes.append("not a graph: " + ours["graph_unsupported"].splitlines()[0][:80])
    elif ours.get("cuda_graph"):
        notes.append("graph")
    if "error" in python:
        notes.append("fails in Python: " + python["error"].splitlines()[0][:60])
    elif not python["flash"]:
        notes.append("Python without flash")
    if "products_share" in python:
        notes.append(f"products {python['products_share']:.2f} of Python's step, "
                     f"with attention {python['products_and_attention_share']:.2f}")
    if "error" in ours:
        notes.append("OURS FAILS: " + ours["error"].splitlines()[-1][:160])
    shown = f"{time_ratio:.2f}" if time_ratio else "-"
    return (f"{name:42} {figures[0]:>8}ms {figures[1]:>8}ms {shown:>7}   {memory[0]:>8} / {memory[1]:>8} MB  "
            + ", ".join(notes))


def worst(rows, key):
    """Options that are above Python's, worst first."""
    ratios = {name: ratio(row, key) for name, row in rows.items()}
    above = {name: value for name, value in ratios.items() if value and value > 1}
    return [f"{name} {above[name]:.2f}" for name in sorted(above, key=above.get, reverse=True)]


def summary(rows, time_key):
    for what, key in (("time", time_key), ("memory", "memory_bytes")):
        ratios = [value for value in (ratio(row, key) for row in rows.values()) if value]
        if ratios:
            print(f"median ratio of {what}: {statistics.median(ratios):.2f} over {len(ratios)} options")
    for what, key in (("slower", time_key), ("larger", "memory_bytes")):
        print(f"{what} than Python: {', '.join(worst(rows, key)) or 'none'}")
    for what, name in (("fails here", "ours"), ("fails in Python", "python")):
        failed = [key for key, row in rows.items() if "error" in row[name]]
        print(f"{what}: {', '.join(failed) or 'none'}")
    refused = {key: row["ours"]["graph_unsupported"] for key, row in rows.items() if "graph_unsupported" in row["ours"]}
    if any(row["ours"].get("cuda_graph") for row in rows.values()):
        print(f"not a graph: {', '.join(refused) or 'none'}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/x-transformers")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--filter", default="", help="only options whose name matches this regular expression")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="a batch of 2 in place of 8")
    parser.add_argument("--processor-time", action="store_true", help="show it in place of elapsed time")
    parser.add_argument("--products", action="store_true",
                        help="also the share of Python's step that its matrix products take (CPU): no way to run the rest is faster "
                             "than that share, where both multiply equally fast")
    parser.add_argument("--json", help="file for all figures")
    return parser.parse_args()


def main():
    args = arguments()
    entries = (entry for entry in option_list.entries(**(QUICK if args.quick else {})) if re.search(args.filter, entry.name))
    peer, rows = Peer(args.python), {}
    time_key = "processor_ms_per_step" if args.processor_time else "ms_per_step"
    print(COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, folder, peer)
        for entry in entries:
            rows[entry.name] = bench.measure(entry)
            print(line(entry.name, rows[entry.name], time_key), flush=True)
            if args.json:
                Path(args.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    peer.close()
    print()
    summary(rows, time_key)


if __name__ == "__main__":
    main()
