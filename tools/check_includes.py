#!/usr/bin/env python3
"""Checks who includes whom: tools/check_includes.py [--root DIR] [--compile [--build-dir DIR] [--jobs N]]

- A file in x_transformers/NAME includes only its own folder and those that xt_folder(NAME ...), or xt_plugin(NAME ...), in
  CMakeLists.txt lists.
- Files include each other in no circle.
- Own headers are included by their path from the root; nothing in the library includes apps/, tests/ or the umbrella.
- No whole-library header of LibTorch in x_transformers/; no torch/nn in ops/*.h; fmt and nlohmann/json.hpp in no header
  but core/json.h.
- Headers of options (*_options.h) include no header of modules: of ours only core/ and other headers of options. What has
  a field list and is called ...Options stands in one.
- kernels/cuda/device/ includes only itself, CUDA, CUTLASS and the standard library.
- Every header says #pragma once; with --compile, every header compiles alone (slow: seconds for each).

Prints one line a finding, and exits with 1 if there is one.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LIBRARY = "x_transformers"
UMBRELLA = f"{LIBRARY}/x_transformers.h"
JSON_HEADER = f"{LIBRARY}/core/json.h"  # templates over JSON values: the one header that needs the whole of it
HEADERS = {".h", ".cuh"}
SOURCES = HEADERS | {".cpp", ".cu"}
WHOLE_TORCH = {"torch/torch.h", "torch/all.h", "torch/extension.h", "torch/nn.h"}
NOT_IN_HEADERS = re.compile(r"fmt/|nlohmann/json\.hpp$")
DEVICE = f"{LIBRARY}/kernels/cuda/device/"
DEVICE_MAY = re.compile(r"cu(da|tlass|te|blas|rand)\w*([./]|$)|cooperative_groups|math_constants\.h$|mma\.h$|[a-z0-9_]+$")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
# A struct of options up to its field list: structs that stand alone have no line that begins with a brace before it.
FIELD_LIST = re.compile(r"^struct (\w+Options)\b[^;{]*\{\n(?:(?!\}).*\n)*?  void fields\(Visitor&", re.MULTILINE)
BLOCK_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)

# One #include: its line, the path in it, and whether that stood in quotes.
Include = namedtuple("Include", "line path quoted")


def folder_table(cmake_lists):
    """{folder: folders it may include}, from the xt_folder(...) and xt_plugin(...) lines of CMakeLists.txt."""
    text = re.sub(r"#.*", "", cmake_lists)
    calls = [call.split() for call in re.findall(r"^\s*xt_(?:folder|plugin|mpi_plugin)\(([^)]*)\)", text, re.MULTILINE)]
    return {call[0]: set(call[1:]) for call in calls}


def includes_of(text):
    text = BLOCK_COMMENT.sub(lambda comment: "\n" * comment.group().count("\n"), text)
    return [Include(text.count("\n", 0, match.start(1) if match.group(1) else match.start(2)) + 1,
                    match.group(1) or match.group(2), match.group(1) is not None)
            for match in INCLUDE.finditer(text)]


def folder_of(path):
    """'nn' of x_transformers/nn/positions/rotary.h; None of the umbrella and of what is outside the library."""
    parts = Path(path).parts
    return parts[1] if len(parts) > 2 and parts[0] == LIBRARY else None


def source_files(root, *tops):
    """Paths from the root of all C++ and CUDA files below the folders `tops`."""
    found = (path for top in tops for path in Path(root, top).rglob("*") if path.suffix in SOURCES)
    return sorted(str(path.relative_to(root)) for path in found)


def check_table(table):
    findings = [f"CMakeLists.txt: xt_folder({name}) lists {other}, which has no xt_folder line above it"
                for at, name in enumerate(table) for other in sorted(table[name])
                if other not in list(table)[:at]]
    return findings


def is_of_options(path):
    return path.endswith("_options.h")


def may_be_in_options(path):
    """Whether a header of options may include this: nothing that brings in modules."""
    if path.startswith(LIBRARY + "/"):
        return folder_of(path) == "core" or is_of_options(path)
    return not path.startswith("torch/")


def check_library_include(path, include, table):
    """Why a file of the library may not include this; None if it may."""
    folder = folder_of(path)
    if include.path in WHOLE_TORCH:
        return f"<{include.path}> is for programs; include the narrow headers"
    if path.endswith(".h") and folder == "ops" and include.path.startswith("torch/nn"):
        return f"<{include.path}>: headers of ops are about tensors, not modules"
    if Path(path).suffix in HEADERS and path != JSON_HEADER and NOT_IN_HEADERS.match(include.path):
        return f"<{include.path}> in a header; only .cpp files include it (headers: nlohmann/json_fwd.hpp)"
    if is_of_options(path) and not may_be_in_options(include.path):
        return f"{include.path}: headers of options include, of ours, core/ and other headers of options"
    if path.startswith(DEVICE) and not (include.path.startswith(DEVICE) or DEVICE_MAY.match(include.path)):
        return f"{include.path}: device code includes only {DEVICE}, CUDA and CUTLASS"
    if include.path.startswith(("apps/", "tests/", "benchmarks/")):
        return f"{include.path} is outside the library"
    if path != UMBRELLA and include.path == UMBRELLA:
        return f"{UMBRELLA} is for users of the library; include the narrow headers"
    other = folder_of(include.path)
    if folder and other and other != folder and other not in table.get(folder, ()):
        return f"{include.path}: {folder} may include {', '.join(sorted(table.get(folder, ()))) or 'nothing of ours'}"
    return None


def misplaced_options(path, text):
    """Lines and names of the structs with field lists that a header holds and should not; core/ has what all of them share."""
    if not path.endswith(".h") or is_of_options(path) or folder_of(path) == "core":
        return []
    return [(text.count("\n", 0, match.start()) + 1, match.group(1)) for match in FIELD_LIST.finditer(text)]


def find_circle(graph):
    """Some circle in {file: files it includes}, as a list that ends where it starts; None if there is none."""
    done, trail = set(), []

    def visit(node):
        if node in trail:
            return trail[trail.index(node):] + [node]
        if node in done:
            return None
        trail.append(node)
        for following in sorted(graph.get(node, ())):
            circle = visit(following)
            if circle:
                return circle
        done.add(trail.pop())
        return None

    for node in sorted(graph):
        circle = visit(node)
        if circle:
            return circle
    return None


def check_tree(root):
    """All findings but those of --compile, each as 'file:line: what'."""
    table = folder_table(Path(root, "CMakeLists.txt").read_text())
    findings = check_table(table)
    library = source_files(root, LIBRARY)
    graph = {}
    for path in library + source_files(root, "apps", "tests", "benchmarks", "examples"):
        text = Path(root, path).read_text()
        includes = includes_of(text)
        in_library = path in library
        if in_library and folder_of(path) not in table and path != UMBRELLA:
            findings.append(f"{path}: no xt_folder line in CMakeLists.txt names its folder")
        if Path(path).suffix in HEADERS and "#pragma once" not in text:
            findings.append(f"{path}: no #pragma once")
        for line, name in misplaced_options(path, text) if in_library else []:
            findings.append(f"{path}:{line}: {name} has a field list: it stands in a header of options (*_options.h)")
        for include in includes:
            why = check_library_include(path, include, table) if in_library else None
            if not why and include.path.startswith(LIBRARY + "/") and not Path(root, include.path).exists():
                why = f"{include.path} does not exist"
            if not why and include.quoted and in_library and not include.path.startswith(LIBRARY + "/"):
                why = f'"{include.path}": name own headers by their path from the root, others in <>'
            if why:
                findings.append(f"{path}:{include.line}: {why}")
        graph[path] = {include.path for include in includes if include.path.startswith(LIBRARY + "/")}
    circle = find_circle(graph)
    if circle:
        findings.append("a circle of includes: " + " > ".join(circle))
    return findings


def compile_flags(build_dir):
    """Compiler, macros, include folders and language flags of the library's files, from compile_commands.json."""
    commands = json.loads(Path(build_dir, "compile_commands.json").read_text())
    entry = next((c for c in commands if f"/{LIBRARY}/" in c["file"]), None)
    if entry is None:
        sys.exit(f"check_includes: no file of {LIBRARY}/ in {build_dir}/compile_commands.json")
    words = [word for word in entry["command"].split() if not word.endswith("/ccache")]
    flags, after = [words[0]], None
    for word in words[1:]:
        if after:
            flags += [after, word]
            after = None
        elif word in ("-isystem", "-I"):
            after = word
        elif word.startswith(("-I", "-D", "-std=", "-f")):
            flags.append(word)
    return flags


def check_headers_alone(root, build_dir, jobs):
    flags = compile_flags(build_dir)

    def compile_alone(path):
        command = [*flags, "-w", "-fsyntax-only", "-x", "c++", path]
        result = subprocess.run(command, cwd=root, capture_output=True, text=True)
        errors = [line for line in result.stderr.splitlines() if "error" in line]
        return f"{path}: does not compile alone: {(errors or ['?'])[0]}" if result.returncode else None

    headers = [path for path in source_files(root, LIBRARY) if path.endswith(".h")]
    with ThreadPoolExecutor(jobs) as pool:
        return [finding for finding in pool.map(compile_alone, headers) if finding]


def main():
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=here, help="the repository")
    parser.add_argument("--compile", action="store_true", help="also compile every header of the library alone")
    parser.add_argument("--build-dir", type=Path, help="folder of compile_commands.json; default: ROOT/build")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="compilers at a time")
    arguments = parser.parse_args()
    findings = check_tree(arguments.root)
    if arguments.compile:
        findings += check_headers_alone(arguments.root, arguments.build_dir or arguments.root / "build", arguments.jobs)
    print(*findings, sep="\n", end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
