"""What compare costs over its runs alone.

compare_overhead.py --program build/x-transformers --config run.json [--data FILE] [--try VARIANTS] [--seeds N] [--pairs N]

Times a whole comparison, table, pictures and report among it, then each of its runs by itself, with the run files that the
comparison has written, and so on in turns. Prints for each pair the ratio of both times, then the median. The comparison's
turns of the base, by which it tells speeds, and its measurement of decoding are part of what it costs."""
import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def seconds(arguments):
    begin = time.monotonic()
    result = subprocess.run(arguments, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f'{" ".join(arguments)}: exit status {result.returncode}\n{result.stderr}')
    return time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--program', required=True)
    parser.add_argument('--config', required=True)
    parser.add_argument('--data')
    parser.add_argument('--try', dest='tries', default='ff_glu,attn_qk_norm,use_rmsnorm=false')
    parser.add_argument('--set', nargs='*', default=[])
    parser.add_argument('--seeds', default='2')
    parser.add_argument('--pairs', type=int, default=3)
    args = parser.parse_args()
    ratios = []
    for pair in range(args.pairs):
        with tempfile.TemporaryDirectory() as name:
            out = Path(name) / 'comparison'
            whole = seconds([args.program, 'compare', args.config, '--try', args.tries, '--seeds', args.seeds, '--out', str(out)]
                            + (['--data', args.data] if args.data else []) + [word for each in args.set for word in ('--set', each)])
            runs = sorted(out.glob('runs/*/seed-*.json'))
            runs = [run for run in runs if not run.name.endswith('.result.json')]
            alone = sum(seconds([args.program, 'train', '--config', str(run), '--out', str(Path(name) / f'alone-{i}')])
                        for i, run in enumerate(runs))
            ratios.append(whole / alone)
            print(f'pair {pair + 1}: {len(runs)} runs, compare {whole:.1f} s, alone {alone:.1f} s, ratio {ratios[-1]:.3f}', flush=True)
    print(f'median ratio {statistics.median(ratios):.3f}')


if __name__ == '__main__':
    main()
