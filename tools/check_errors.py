#!/usr/bin/env python3
"""Checks that errors stay data: tools/check_errors.py [--root DIR]

Errors and warnings are notices (core/notice.h), and a notice becomes text once, where it is shown. So in x_transformers/ and
apps/:
- nothing reads the text of an exception, a warning, a status or an errno: what is ours has notice(), and what other code says is
  read and shortened in core/cause.h alone, to be the cause of a notice;
- the line of a notice is shown, or a field of what a report shows, and nothing makes another message, a string or a decision of it;
- a cause is given to a notice alone;
- no text is told from another by what it says (text == "out of range");
- no text begins with the name of what it is about, as in require(ok, "depth: ..."): the name is data, which
  an owner of the part respells, as in require(ok, at("depth"), "...");
- in x_transformers/ no text names an option of the program, as --resume: the library names its own (option("resume") in the
  text or the hint of a notice), and the program respells them (apps/x-transformers/arguments.h, as_flags).

Prints one line a finding, and exits with 1 if there is one.
"""

import argparse
import re
import sys
from pathlib import Path

# Where the words of other code are read.
READS = {"x_transformers/core/cause.cpp"}
# Where a library says them in its own way: what cuDNN and MPI say crosses to ours as a reason and as a cause.
PASSES_WORDS = {"x_transformers/cuda/scored_attention.cpp": {"get_message"}, "x_transformers/mpi/functions.cpp": {"MPI_Error_string"}}
# Where a notice becomes the text that std::exception and LibTorch's warnings ask for, other processes, and the JSON and tables of
# results and of engines that do not run.
MAKES_TEXT = {"x_transformers/core/error.cpp", "x_transformers/core/warning.cpp",
              "x_transformers/distributed/rank_monitor.cpp", "apps/x-transformers/info.cpp",
              "apps/x-transformers/bench_options.cpp", "x_transformers/compare/comparison_table.cpp",
              "x_transformers/inspect/inspection_files.cpp", "x_transformers/ops/cuda_tensors.cpp",
              "apps/x-transformers/bench.cpp", "apps/x-transformers/doctor.cpp"}
WORDS = re.compile(r"(?:\.|->)(what|what_without_backtrace|msg|message|error_message|get_message)\(\)|\b(strerror|dlerror|strerror_r|gai_strerror|MPI_Error_string|(?:generic|system)_category\(\)\.message)\(")
TAKES_WORDS = re.compile(r"\b(cause_of(_status)?|caused)$")
# Text is recognised by its blanks: names and keywords have none.
MATCHES = re.compile(r'[!=]=\s*"[^"\n]* [^"\n]*"|\b(r?find|starts_with|ends_with|contains|compare)\("[^"\n]+ [^"\n]*"')
# A text with an option of a command line; those of our scripts are the user's to type.
FLAG = re.compile(r'"(?:\\.|[^"\\\n])*?(?<![\w-])(--[a-z][\w-]*)')
OF_SCRIPTS = re.compile(r"tools/\w+\.\w+ $")
LINE = re.compile(r"(?:\.|->)(line)\(\)")
CAUSE = re.compile(r"\b(cause_of|cause_of_status|cause_of_errno|cause_of_loader)\(")
# What may be given the line of a notice: what shows it.
SHOWS = re.compile(r"(^|[.>:])(message|fprintf|puts|fputs|print|TORCH_WARN)$")
# What may be given a cause: a notice, and what shows a warning of LibTorch's own, or the end of the program.
TAKES_CAUSE = re.compile(r"(^|[.>:])(caused|fprintf)$")
# A text that begins with the name of an option, an argument, a file or several: "x: ", "data.{}: ", "mask, lens: ".
NAMED = re.compile(r'"(?:--[\w-]+(?: \{\})?|(?:[\w.]|\{\d*\})+(?:(?:, | and )[\w.]+)*): ')
# The same put together, as in path + ": holds no tensors": what is about comes before the first string.
JOINED = re.compile(r'\+\s*": \w')
# What takes such a text, and how many arguments stand before it.
SAYS = {"require": 1, "InputError": 0, "RunError": 0, "WriteError": 0, "warn": 0, "warn_unused": 0}
MAKES_A_STRING = {"fmt::format", "std::string", "text"}


def blanked(text, keeps_strings):
    """`text` with comments, and strings unless they are kept, as blanks, so that places stay the same."""
    blank = lambda found: found.group() if keeps_strings and found.group()[0] == '"' else re.sub(r"[^\n]", " ", found.group())
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.DOTALL)


def without_comments(text):
    return blanked(text, keeps_strings=True)


def without_comments_and_strings(text):
    return blanked(text, keeps_strings=False)


def enclosing_call(text, at):
    """The name before the parenthesis that is open at `at`, through the conditionals and braces around; empty: none is."""
    depth = 0
    while at > 0 and (text[at - 1] not in ";" or depth):
        at -= 1
        depth += {")": 1, "}": 1, "(": -1, "{": -1}.get(text[at], 0)
        if depth < 0:
            if text[at] == "{":
                return ""
            name = re.search(r"[\w.:>-]*\s*$", text[:at]).group().strip()
            if name:
                return name
            depth = 0
    return ""


def opening(text, at):
    """Where the parenthesis is that is open at `at`, and the commas between that are not within others; -1 without one."""
    depth = commas = 0
    while at > 0:
        at -= 1
        depth += {")": 1, "}": 1, "]": 1, "(": -1, "{": -1, "[": -1}.get(text[at], 0)
        if depth < 0:
            return (at if text[at] == "(" else -1), commas
        commas += text[at] == "," and not depth
    return -1, commas


def is_assigned_to(text, at, pattern):
    """Whether the statement at `at` assigns to what `pattern` matches."""
    begin = max(text.rfind(mark, 0, at) for mark in ";{}") + 1
    return re.search(pattern + r"\s*=[^=]", text[begin:at]) is not None


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def findings_of_words(path, text):
    if path in READS:
        return
    for found in WORDS.finditer(text):
        passes = (found.group(1) or found.group(2)) in PASSES_WORDS.get(path, ())
        if not passes and not TAKES_WORDS.search(enclosing_call(text, found.start())):
            yield found.start(), f"{found.group(1) or found.group(2)}(): the words of an exception or of the system are read"


def findings_of_lines(path, text):
    if path in MAKES_TEXT or path == "x_transformers/core/notice.cpp":
        return
    for found in LINE.finditer(text):
        call = enclosing_call(text, found.start())
        if re.match(r"\s*(\[|\.(?!c_str\(\)))", text[found.end():]):
            yield found.start(), "a message is taken apart"
        elif call and not SHOWS.search(call):
            yield found.start(), f"{call}() is given a message"
        elif re.match(r"\s*(\+|==|!=)", text[found.end():]) or re.search(r"(\+|==|!=)\s*[\w.>()-]*$", text[:found.start()]):
            yield found.start(), "a message is wrapped or compared"
        elif not call and not is_assigned_to(text, found.start(), r"\b\w+(\.|->)\w+"):
            yield found.start(), "a message is kept as a string"


def findings_of_causes(path, text):
    if path in READS:
        return
    for found in CAUSE.finditer(text):
        call = enclosing_call(text, found.start())
        is_cause = is_assigned_to(text, found.start(), r"\bcause")
        if not is_cause and not TAKES_CAUSE.search(call):
            yield found.start(), f"{found.group(1)}(): a cause is for a notice alone"


def findings_of_matches(path, source):
    if path not in READS:
        for found in MATCHES.finditer(without_comments(source)):
            yield found.start(), "text is told from other text by what it says"


def findings_of_flags(path, source):
    """Options of the program in texts of the library."""
    if not path.startswith("x_transformers/"):
        return
    for found in FLAG.finditer(without_comments(source)):
        if not OF_SCRIPTS.search(source[:found.start(1)]):
            yield found.start(1), f"{found.group(1)}: the library knows no options of the program"


def findings_of_names(path, source):
    if path == "x_transformers/core/notice.cpp":
        return
    plain, text = without_comments_and_strings(source), without_comments(source)
    for found in NAMED.finditer(text):
        at, name, commas = found.start(), "text", 0
        is_beginning = not text[:at].rstrip().endswith('"')
        while is_beginning and name in MAKES_A_STRING and at >= 0 and not commas:
            at, commas = opening(plain, at)
            name = re.search(r"[\w:]*$", plain[:max(at, 0)]).group()
            at -= len(name)
        if is_beginning and at >= 0 and SAYS.get(name) == commas:
            yield found.start(), f"{found.group()[1:-2]}: what a text is about stands in the text"
    for found in JOINED.finditer(text):
        at, commas = opening(plain, found.start())
        name = re.search(r"[\w:]*$", plain[:max(at, 0)]).group()
        last = max(at, text.rfind(",", at, found.start()))
        if SAYS.get(name) == commas and '"' not in text[last:found.start()]:
            yield found.start(), "what a text is about stands in the text"


def check(path, source):
    text = without_comments_and_strings(source)
    if path == "x_transformers/core/cause.h":
        return []
    found = {(line_of(text, at), what)
             for findings in (findings_of_words, findings_of_lines, findings_of_causes) for at, what in findings(path, text)}
    found |= {(line_of(source, at), what)
              for findings in (findings_of_matches, findings_of_flags, findings_of_names) for at, what in findings(path, source)}
    return [f"{path}:{line}: {what}; an error is data: see core/notice.h and core/cause.h" for line, what in sorted(found)]


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
