"""Ours beside Python x-transformers in one run, as ratios: training steps and cached generation at two shapes.

compare.py --program build/x-transformers [--python PYTHON] [--rounds N] [--threads N]
PYTHON is an interpreter that has torch 2.11.0 and x-transformers 2.16.1. Each round measures one after the other, so that a
machine that drifts drifts for both; the table shows medians over the rounds."""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SHAPES = {"dim 128, depth 4": dict(dim=128, depth=4, heads=4), "dim 384, depth 6": dict(dim=384, depth=6, heads=6)}
TRAIN = {"dim 128, depth 4": ["--batch", "16", "--seq", "128"], "dim 384, depth 6": ["--batch", "8", "--seq", "256"]}
GENERATE = ["--batch", "1", "--prompt", "128", "--tokens", "128"]
UNITS = {"train": "ms_per_step", "generate": "ms_per_token"}


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/x-transformers")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--matmul-precision", default="highest", help="ours; highest is float32, as Python's default")
    args = parser.parse_args()
    peer = Path(__file__).with_name("peer.py")
    print(f"{'work':28} {'ours':>10} {'Python':>10} {'ratio':>7}   peak memory, ours / Python")
    with tempfile.TemporaryDirectory() as folder:
        for shape, layers in SHAPES.items():
            config = Path(folder) / "model.json"
            stack = dict(type="Decoder", rotary_pos_emb=True, attn_flash=True, **layers)
            config.write_text(json.dumps(dict(type="TransformerWrapper", num_tokens=256, max_seq_len=512,
                                              attn_layers=stack)), encoding="utf-8")
            for work in ("train", "generate"):
                size = TRAIN[shape] if work == "train" else GENERATE
                rounds = []
                for _ in range(args.rounds):
                    ours = run([args.program, "bench", work, "--config", config, "--threads", str(args.threads), *size,
                                "--matmul-precision", args.matmul_precision])
                    theirs = run([args.python, peer, work, config, "--threads", str(args.threads), *size])
                    rounds.append((ours, theirs))
                ms = [statistics.median(side[UNITS[work]] for side in sides) for sides in zip(*rounds)]
                memory = [statistics.median(side["memory_bytes"] for side in sides) / 1e6 for sides in zip(*rounds)]
                print(f"{work + ', ' + shape:28} {ms[0]:8.2f}ms {ms[1]:8.2f}ms {ms[1] / ms[0]:6.2f}x   "
                      f"{memory[0]:.0f} / {memory[1]:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
