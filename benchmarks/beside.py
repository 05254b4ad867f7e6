"""Training steps and generation beside other work on the same CPUs, as ratios to the quiet machine.

beside.py --program build/x-transformers [--before PROGRAM] [--python PYTHON] [--cpus 0,1] [--rounds N]
Makes its own load: busy loops on the CPUs that the program may use, none of them pinned. PYTHON is an interpreter that has
torch 2.11.0 and x-transformers 2.16.1; --before is the program of another commit. One round measures every system under
every load, one after the other; the table shows medians over the rounds. The quota needs a control group that may be written
to, and is left out where there is none."""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

BUSY = [sys.executable, "-c", "while True: pass"]
UNITS = {"train": "ms_per_step", "generate": "ms_per_token"}
GROUP = Path("/sys/fs/cgroup/x_transformers_beside")


def model(**layers):
    return dict(type="TransformerWrapper", num_tokens=256, max_seq_len=512,
                attn_layers=dict(type="Decoder", rotary_pos_emb=True, attn_flash=True, **layers))


WORK = [
    ("train, dim 128, depth 4, 4 x 256", "train", model(dim=128, depth=4, heads=4), ["--batch", "4", "--seq", "256"]),
    ("generate, dim 384, depth 6", "generate", model(dim=384, depth=6, heads=6),
     ["--batch", "1", "--prompt", "64", "--tokens", "128"]),
    ("generate, dim 128, depth 4", "generate", model(dim=128, depth=4, heads=4),
     ["--batch", "1", "--prompt", "64", "--tokens", "128"]),
]


@contextmanager
def load(commands, cpus):
    others = [subprocess.Popen(["taskset", "-c", cpus, *map(str, command)], stdout=subprocess.DEVNULL) for command in commands]
    try:
        yield
    finally:
        for other in others:
            other.send_signal(signal.SIGKILL)
            other.wait()


def make_group(quota):
    """A control group (of version 2, or 1) with this quota in processors; None where there can be none."""
    for group, name, value in [(GROUP, "cpu.max", f"{int(quota * 100000)} 100000"),
                               (GROUP.parent / "cpu" / GROUP.name, "cpu.cfs_quota_us", str(int(quota * 100000)))]:
        try:
            group.mkdir(exist_ok=True)
            if (group / name).exists():
                (group / name).write_text(value)
                return group
            group.rmdir()  # no control group, but a folder
        except OSError:
            continue
    return None


def run(command, cpus, group=None):
    def enter():
        if group:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    done = subprocess.run(["taskset", "-c", cpus, *map(str, command)], capture_output=True, text=True, preexec_fn=enter)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def situations(cpus, group):
    """name, CPUs that the work may use, busy loops beside it, threads, control group"""
    count = len(cpus.split(","))
    found = [("alone", cpus, 0, count, None), ("one thread", cpus, 0, 1, None)]
    found += [(f"{n} of {count} taken", cpus, n, count, None) for n in range(1, count + 1)]
    found.append((f"one CPU, {count} threads asked for", cpus.split(",")[0], 0, count, None))
    if group:
        found.append((f"quota 1.5, {2 * count} threads asked for", cpus, 0, 2 * count, group))
    return found


def systems(args, work, config):
    """name -> command, without threads"""
    found = {"ours": [args.program, "bench", work, "--config", config]}
    if args.before:
        found["before"] = [args.before, *found["ours"][1:]]
    if args.python:
        found["Python"] = [args.python, Path(__file__).with_name("peer.py"), work, config]
    return found


def measure(args, group, title, work, config, size):
    commands = systems(args, work, config)
    places = situations(args.cpus, group)
    times = {(place[0], system): [] for place in places for system in commands}
    for _ in range(args.rounds):
        for name, cpus, others, threads, own_group in places:
            for system, command in commands.items():
                with load(others * [BUSY], args.cpus):
                    found = run([*command, *size, "--threads", threads], cpus, own_group)
                times[name, system].append(found[UNITS[work]])
    middle = {key: statistics.median(values) for key, values in times.items()}
    print(f"{title}\n  {'':36}" + "".join(f"{system + ', ms':>14}{'/ alone':>9}" for system in commands))
    for place in places:
        row = "".join(f"{middle[place[0], system]:14.2f}{middle[place[0], system] / middle['alone', system]:9.2f}"
                      for system in commands)
        print(f"  {place[0]:36}{row}", flush=True)


def together(args, folder):
    """Training and generation by two programs at once: how much of the work of one after the other they do."""
    threads = ["--threads", len(args.cpus.split(","))]
    works = []
    for title, work, layers, size in WORK[:2]:
        config = Path(folder, work + ".json")
        config.write_text(json.dumps(layers))
        works.append((work, config, [*size, *threads]))
    for system, program in [("ours", args.program), ("before", args.before)]:
        if not program:
            continue
        commands = {work: [program, "bench", work, "--config", config, *size] for work, config, size in works}
        shares = {work: [] for work in commands}
        for _ in range(args.rounds):
            for work, command in commands.items():
                other = [[*commands[name], "--steps", 100000] for name in commands if name != work]
                alone = run(command, args.cpus)[UNITS[work]]
                with load(other, args.cpus):
                    shares[work].append(alone / run(command, args.cpus)[UNITS[work]])
        middle = {work: statistics.median(found) for work, found in shares.items()}
        print(f"both at once, {system}: " + " + ".join(f"{share:.2f} of {work}" for work, share in middle.items())
              + f" = {sum(middle.values()):.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/x-transformers")
    parser.add_argument("--before", help="the program of another commit")
    parser.add_argument("--python", help="measure Python as well")
    parser.add_argument("--cpus", default="0,1", help="as taskset -c takes them, one by one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--filter", default="", help="only works whose title has this")
    args = parser.parse_args()
    group = make_group(1.5)
    if not group:
        print("no quota: the control groups here may not be written to", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        for title, work, layers, size in WORK:
            if args.filter in title:
                config = Path(folder, "model.json")
                config.write_text(json.dumps(layers))
                measure(args, group, title, work, config, size)
        if args.filter in "both at once":
            together(args, folder)
    if group:
        group.rmdir()


if __name__ == "__main__":
    main()
