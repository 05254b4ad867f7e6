#!/usr/bin/env python3
"""Checks that no message is taken apart: tools/check_errors.py [--root DIR]

Errors and warnings are data (core/notice.h). Where x_transformers/ and apps/ catch one, nothing searches, cuts, compares or
substitutes its text, and its text is handed to nothing but what makes or reports another message. What LibTorch and
nlohmann-json say is no data: core/device.cpp and core/json.cpp, alone, shorten it.

Prints one line a finding, and exits with 1 if there is one.
"""

import argparse
import re
import sys
from pathlib import Path

FOREIGN = {"x_transformers/core/device.cpp", "x_transformers/core/json.cpp"}
TAKES_APART = re.compile(r"\b(\w+)[.](r?find\w*|substr|erase|replace|insert|starts_with|ends_with|contains|compare|remove_\w+)\(")
ITS_TEXT = re.compile(r"\b\w+(?:\.|->|\(\))*(?:\.|->)(what|what_without_backtrace|line)\(\)")
# What a message may be given to: another error, a line of text, a report.
MAY_TAKE = re.compile(r"(^|[.>:])(InputError|RunError|WriteError|Malformed|format|string|fail|report|message|spelling|first_line|"
                      r"TORCH_WARN|runtime_error|invalid_argument|catch|if)$")


def without_comments(text):
    blank = lambda found: re.sub(r"[^\n]", " ", found.group())
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', lambda m: m.group() if m.group()[0] == '"' else blank(m), text,
                  flags=re.DOTALL)


def handlers(text):
    """(begin, end) of the blocks of catch (...) { ... }."""
    for found in re.finditer(r"\bcatch\s*\([^)]*\)\s*\{", text):
        depth, end = 1, found.end()
        while depth and end < len(text):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        yield found.end(), end


def enclosing_call(text, at):
    """The name before the parenthesis that is open at `at`; empty: none is in the statement."""
    depth = 0
    while at > 0 and text[at - 1] not in ";{}" or depth:
        at -= 1
        depth += {")": 1, "(": -1}.get(text[at], 0)
        if depth < 0:
            return re.search(r"[\w.:>-]*$", text[:at]).group()
    return ""


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def check(path, source):
    if path in FOREIGN:
        return []
    text = without_comments(source)
    findings = set()
    for begin, end in handlers(text):
        messages = set(re.findall(r"\b(\w+)\s*=\s*[^;]*\bwhat(?:_without_backtrace)?\(\)", text[begin:end]))
        for found in TAKES_APART.finditer(text, begin, end):
            if found.group(1) in messages:
                findings.add((line_of(text, found.start()), f"{found.group(2)}() of a message"))
    for found in ITS_TEXT.finditer(text):
        function = enclosing_call(text, found.start())
        if re.match(r"\)*\s*(\[|\.\w)", text[found.end():]):
            findings.add((line_of(text, found.start()), "a message is taken apart"))
        elif function and found.group(1) != "line" and not MAY_TAKE.search(function):
            findings.add((line_of(text, found.start()), f"{function}() is given a message"))
    return [f"{path}:{line}: {what}; an error is data: see core/notice.h" for line, what in sorted(findings)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    root = parser.parse_args().root
    findings = []
    for top in ("x_transformers", "apps"):
        for path in sorted(Path(root, top).rglob("*")):
            if path.suffix in {".h", ".cpp", ".inc", ".cu", ".cuh"}:
                findings += check(path.relative_to(root).as_posix(), path.read_text())
    print("\n".join(findings), end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
