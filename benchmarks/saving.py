"""What writing a checkpoint costs the steps that go on beside it.

saving.py --program build/x-transformers [--before PROGRAM] [--rounds N] [--steps N] [--threads N]
Trains a model of 25 million weights, whose checkpoint is 300 MB, and saves at every third step. Steps that begin with a
checkpoint are compared with the others of the same run, which programs take in turns: medians of the wall time and of
the processor time of the thread that trains. The time in between steps is counted, the last save is not."""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

EVERY = 3
MODEL = dict(type="AutoregressiveWrapper", net=dict(
    type="TransformerWrapper", num_tokens=256, max_seq_len=256,
    attn_layers=dict(type="Decoder", dim=512, depth=8, heads=8, rotary_pos_emb=True, attn_flash=True)))


def thread_seconds(pid):
    """Processor time of the thread that the process began with."""
    fields = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
    return int(fields[0]) / 1e9


def train(program, folder, steps, threads):
    """Wall and processor seconds of the steps from the second on, by the number of the step before."""
    text = folder / "text.txt"
    text.write_text("To be, or not to be, that is the question.\n" * 20000)
    config = folder / "run.json"
    config.write_text(json.dumps(dict(
        model=MODEL, data=dict(path=str(text), batch_size=4, seq_len=256, val_batches=0),
        train=dict(steps=steps, log_every=1, save_every=EVERY, eval_every=0, sample_every=0, plot=False,
                   tensorboard=False, progress="none", keep_last=1, threads=threads))))
    out = folder / "run"
    process = subprocess.Popen([program, "train", "--config", config, "--out", out], stdout=subprocess.DEVNULL)
    metrics, seen, marks = out / "metrics.jsonl", 0, []
    while process.poll() is None and seen < steps:
        rows = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        if rows > seen:
            marks.append((rows, time.monotonic(), thread_seconds(process.pid)))
            seen = rows
        time.sleep(0.002)
    if process.wait():
        raise SystemExit(f"{program}: exit status {process.returncode}")
    return {a[0]: (b[1] - a[1], b[2] - a[2]) for a, b in zip(marks, marks[1:]) if b[0] == a[0] + 1}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/x-transformers")
    parser.add_argument("--before", help="the program of another commit")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=13)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    programs = {"ours": args.program} | ({"before": args.before} if args.before else {})
    times = {name: ([], []) for name in programs}
    for _ in range(args.rounds):
        for name, program in programs.items():
            with tempfile.TemporaryDirectory() as folder:
                found = train(program, Path(folder), args.steps, args.threads)
            for before, seconds in found.items():
                times[name][before % EVERY == 0].append(seconds)
    for name, (others, saving) in times.items():
        for place, kind in enumerate(("wall", "thread's processor time")):
            a, b = (statistics.median(row[place] for row in rows) for rows in (saving, others))
            print(f"{name}, {kind}: {a:.3f} s with a checkpoint, {b:.3f} s without, {100 * (a / b - 1):+.1f} %", flush=True)


if __name__ == "__main__":
    main()
