"""A comparison that is killed again and again ends with the table of one that is left alone.

compare_kill_test.py PROGRAM [--kills N] [--seed N]

Trains a small comparison once, then others with the same command that are killed (SIGKILL) at random moments, by turns with
and without the run that they train, and go on with --resume. Their results.tsv and results.json must be those of the first, but
for what tells times and memory."""
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OF_TIME = {'memory_bytes', 'seconds', 'seconds_to_base_loss', 'tokens_per_second', 'relative_speed', 'usual_speed',
           'decoding_ms_per_token'}
OTHER = OF_TIME | {'runs'}  # in results.json, the folders besides

RUN = """{"model": {"type": "AutoregressiveWrapper", "net": {"type": "TransformerWrapper", "num_tokens": 256, "max_seq_len": 32,
  "attn_layers": {"type": "Decoder", "dim": 16, "depth": 1, "heads": 2, "attn_dim_head": 8, "rotary_pos_emb": true}}},
 "data": {"path": "text.txt", "batch_size": 4, "val_batches": 4},
 "train": {"steps": 60, "learning_rate": 0.01, "eval_every": 15, "save_every": 5, "log_every": 5, "threads": 1}}"""


def command(program, out):
    # The last one learns nothing, which two seeds show at the first rung.
    return [program, 'compare', 'run.json', '--try', 'ff_glu,rotary_pos_emb=false,learning_rate=1e-7', '--seeds', '2',
            '--stop-early', '--out', out]


def table(folder, out):
    rows = [line.split('\t') for line in (folder / out / 'results.tsv').read_text().splitlines()]
    kept = [i for i, name in enumerate(rows[0]) if name not in OF_TIME]
    return '\n'.join('\t'.join(row[i] for i in kept) for row in rows)


def without_times(value):
    if isinstance(value, dict):
        return {name: without_times(part) for name, part in value.items() if name not in OTHER}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def results(folder, out):
    found = json.loads((folder / out / 'results.json').read_text())
    return table(folder, out) + '\n' + json.dumps(without_times(found), indent=1)


def kill(process, with_run):
    if with_run:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def run_to_its_end(arguments, folder):
    result = subprocess.run(arguments, cwd=folder, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f'{" ".join(arguments)}: exit status {result.returncode}\n{result.stderr}')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('program')
    parser.add_argument('--kills', type=int, default=10)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    moments = random.Random(args.seed)
    program = str(Path(args.program).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = random.Random(1)
        (folder / 'text.txt').write_text(' '.join(words.choice(['to', 'be', 'or', 'not', 'that', 'is']) for _ in range(4000)))
        (folder / 'run.json').write_text(RUN)
        begin = time.monotonic()
        run_to_its_end(command(program, 'alone'), folder)
        whole = time.monotonic() - begin
        if '\tgiven up\t' not in table(folder, 'alone'):
            sys.exit(f'nothing was given up:\n{table(folder, "alone")}')
        kills = comparisons = 0
        while kills < args.kills:
            comparisons += 1
            out = f'killed-{comparisons}'
            resumed = command(program, out) + ['--resume']
            while kills < args.kills:
                process = subprocess.Popen(resumed, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                           start_new_session=True)
                try:
                    process.wait(timeout=moments.uniform(0.05, 2 * whole / args.kills))
                    break  # it came to its end: further kills are of another
                except subprocess.TimeoutExpired:
                    kill(process, with_run=kills % 2 == 1)
                    kills += 1
            run_to_its_end(resumed, folder)
            first, second = results(folder, 'alone'), results(folder, out)
            if first != second:
                sys.exit(f'killed {kills} times, the results are others:\n{first}\n{second}')
        print(f'killed {kills} times in {comparisons} comparison{"s" if comparisons > 1 else ""} of {whole:.0f} s: the same results')


if __name__ == '__main__':
    main()
