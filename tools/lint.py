#!/usr/bin/env python3
"""Checks format, includes, errors, comments of options and, with clang-tidy, the files changed since a commit:

  tools/lint.py [--since COMMIT] [--all] [--strict]

Default of --since: where this branch left origin/main, or HEAD. With --at-most N clang-tidy, which takes half a minute a file,
looks at the N files with the most changed lines, and says how many it leaves out. It reads the commands of the preset dev,
which compiles each file by itself; it is configured when it was not. The format is that of clang-format 14; another version
would see differences that are none, so without that one the format is not checked, and lint says so; with --strict, as in
.ci/run, it fails. tools/install_deps.sh --lint brings it.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = re.compile(r"\.(h|cpp|cu|cuh)$")
FORMAT_VERSION = 14


def git(*arguments):
    result = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    return result.stdout.splitlines() if result.returncode == 0 else []


def all_files():
    """Our C++ and CUDA files: tracked, or new and not ignored."""
    listed = git("ls-files", "--cached", "--others", "--exclude-standard")
    return sorted({path for path in listed if SOURCE.search(path) and (ROOT / path).exists()})


def changed_files(since):
    """The files changed since a commit, those with the most changed lines first."""
    base = since or (git("merge-base", "HEAD", "origin/main") or ["HEAD"])[0]
    if since and not git("rev-parse", "--verify", since):
        sys.exit(f"lint: --since {since}: no such commit")
    if not git("rev-parse", "--verify", base):  # no commit yet
        return all_files()
    lines = {path: 0 for path in git("ls-files", "--others", "--exclude-standard")}
    for row in git("diff", "--numstat", "--no-renames", base):
        added, removed, path = row.split("\t")
        lines[path] = sum(int(count) for count in (added, removed) if count.isdigit())
    return sorted((path for path in all_files() if path in lines), key=lambda path: (-lines[path], path))


def format_fault(files, strict):
    """What is wrong with the format, in words; empty: nothing."""
    tool = next((name for name in (f"clang-format-{FORMAT_VERSION}", "clang-format") if shutil.which(name)), None)
    version = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout if tool else ""
    if f"version {FORMAT_VERSION}." not in version:
        found = f", found {version.strip()}" if version else ""
        unchecked = f"the format is not checked: clang-format {FORMAT_VERSION} is not installed{found}"
        if not strict:
            print(f"lint: {unchecked}")
        return unchecked if strict else ""
    if files and subprocess.run([tool, "--dry-run", "-Werror", *files], cwd=ROOT).returncode != 0:
        return "format (make format mends it)"
    return ""


def find_tool(name):
    """The tool, also under a name with its version, as Debian has it."""
    for candidate in [name, *(f"{name}-{version}" for version in range(21, 13, -1))]:
        if shutil.which(candidate):
            return candidate
    sys.exit(f"lint: {name} is not installed (apt-get install {name})")


def without_precompiled_header(build_dir):
    """Writes compile commands that clang reads as well: the header that gcc precompiled is included as text."""
    commands = json.loads((build_dir / "compile_commands.json").read_text())
    for entry in commands:
        entry["command"] = re.sub(r"-include \S*/cmake_pch\.hxx", f"-include {ROOT}/cmake/precompiled.h",
                                  entry["command"]).replace("-Winvalid-pch", "")
    folder = build_dir / "lint"
    folder.mkdir(exist_ok=True)
    (folder / "compile_commands.json").write_text(json.dumps(commands, indent=1))
    return folder, {os.path.relpath(entry["file"], ROOT) for entry in commands}


def tidy(files, jobs, at_most):
    build_dir = ROOT / "build-dev"
    if not (build_dir / "compile_commands.json").exists() and subprocess.run(
            ["cmake", "--preset", "dev"], cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
        sys.exit("lint: cmake --preset dev: failed")
    folder, compiled = without_precompiled_header(build_dir)
    tool = find_tool("clang-tidy")

    def run(path):
        command = [tool, "--quiet", "-p", str(folder), path]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        print(result.stdout + (result.stderr if result.returncode and not result.stdout else ""), end="", flush=True)
        return result.returncode == 0

    looked_at = [path for path in files if path in compiled]
    if at_most is not None and len(looked_at) > at_most:
        print(f"lint: clang-tidy leaves out {len(looked_at) - at_most} changed files of {len(looked_at)}", flush=True)
        looked_at = looked_at[:at_most]
    with ThreadPoolExecutor(jobs) as pool:
        return all(list(pool.map(run, looked_at)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", help="clang-tidy looks at the files changed since this commit")
    parser.add_argument("--all", action="store_true", help="clang-tidy looks at all files")
    parser.add_argument("--at-most", type=int, metavar="N", help="clang-tidy looks at N files")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="clang-tidy processes at a time")
    parser.add_argument("--strict", action="store_true", help="fail where the format cannot be checked")
    arguments = parser.parse_args()
    files = all_files()
    failed = []
    if fault := format_fault(files, arguments.strict):
        failed.append(fault)
    if subprocess.run([sys.executable, str(ROOT / "tools/check_includes.py")]).returncode:
        failed.append("includes")
    if subprocess.run([sys.executable, str(ROOT / "tools/check_errors.py")]).returncode:
        failed.append("errors")
    if subprocess.run([sys.executable, str(ROOT / "tools/option_comments.py"), "--check"]).returncode:
        failed.append("comments of options")
    if not tidy(files if arguments.all else changed_files(arguments.since), arguments.jobs, arguments.at_most):
        failed.append("clang-tidy")
    print("lint: " + ("found something: " + ", ".join(failed) if failed else "clean"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
