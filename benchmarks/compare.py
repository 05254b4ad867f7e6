"""Ours beside Python x-transformers in one run, as ratios: training steps and cached generation.

compare.py --program build/x-transformers [--python PYTHON | --before PROGRAM] [--device cpu|cuda] [--rounds N] [--threads N]
PYTHON is an interpreter that has torch 2.11.0 and x-transformers 2.16.1. On the CPU two small shapes in float32, against
eager Python; on CUDA the shape of GPT-2 124M in bfloat16, against eager and compiled Python. Each round measures one after
the other, so that a machine that drifts drifts for all; the table shows medians over the rounds. With --before the program of
another commit stands in Python's place."""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

GENERATE = ["--batch", "1", "--prompt", "128", "--tokens", "128"]
UNITS = {"train": "ms_per_step", "generate": "ms_per_token"}


def model(num_tokens, max_seq_len, **layers):
    return dict(type="TransformerWrapper", num_tokens=num_tokens, max_seq_len=max_seq_len,
                attn_layers=dict(type="Decoder", attn_flash=True, **layers))


# device -> name, model, how training and generation are run
SHAPES = {
    "cpu": [
        ("dim 128, depth 4", model(256, 512, dim=128, depth=4, heads=4, rotary_pos_emb=True),
         dict(train=["--batch", "16", "--seq", "128"], generate=GENERATE)),
        ("dim 384, depth 6", model(256, 512, dim=384, depth=6, heads=6, rotary_pos_emb=True),
         dict(train=["--batch", "8", "--seq", "256"], generate=GENERATE)),
    ],
    "cuda": [
        ("GPT-2 124M", model(50304, 1024, dim=768, depth=12, heads=12),
         dict(train=["--batch", "16", "--seq", "1024"], generate=["--batch", "1", "--prompt", "128", "--tokens", "256"])),
    ],
}


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def systems(args, work, config):
    """name -> command, ours first"""
    peer = Path(__file__).with_name("peer.py")
    where = ["--device", args.device, *(["--threads", args.threads] if args.device == "cpu" else [])]
    ours = ["--matmul-precision", args.matmul_precision, *(["--precision", "bf16"] if args.device == "cuda" else [])]
    python = [args.python, peer, work, config, *where]
    found = {"ours": [args.program, "bench", work, "--config", config, *where, *ours]}
    if args.before:
        return {**found, "before": [args.before, *found["ours"][1:]]}
    found["Python"] = python
    if args.device == "cuda" and work == "train":
        found["compiled"] = [*python, "--compile"]
    return found


def compare(args, work, name, config, size):
    commands = systems(args, work, config)
    rounds = [{system: run([*command, *size]) for system, command in commands.items()} for _ in range(args.rounds)]
    middle = {system: {key: statistics.median(one[system][key] for one in rounds)
                       for key in (UNITS[work], "memory_bytes", "tokens_per_s")} for system in commands}
    ours = middle["ours"]
    print(f"{work}, {name}", flush=True)
    for system, figures in middle.items():
        ratio = figures[UNITS[work]] / ours[UNITS[work]]
        print(f"  {system:10} {figures[UNITS[work]]:10.3f} {UNITS[work].replace('_', ' ')}  "
              f"{figures['tokens_per_s']:12,.0f} tokens/s  {figures['memory_bytes'] / 1e6:8,.0f} MB"
              + (f"  ours is {ratio:.2f}x as fast" if system != "ours" else ""), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/x-transformers")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--before", help="the program of another commit, to compare with in place of Python")
    parser.add_argument("--device", choices=SHAPES, default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="on the CPU, for both")
    parser.add_argument("--matmul-precision", default="highest", help="ours; highest is float32, as Python's default")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "model.json"
        for name, layers, sizes in SHAPES[args.device]:
            config.write_text(json.dumps(layers), encoding="utf-8")
            for work, size in sizes.items():
                compare(args, work, name, config, size)


if __name__ == "__main__":
    main()
