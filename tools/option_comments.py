#!/usr/bin/env python3
"""Writes what the field list of each options struct says of a member above that member, where an editor shows it.

tools/option_comments.py mends the headers in place; with --check it changes nothing, and fails where a comment is missing or
says something else than the list.
"""

import argparse
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STRUCT = re.compile(r"^struct (\w*Options)\b[^;{]*\{", re.M)
STRING = r'"(?:[^"\\]|\\.)*"'
# v("name", member, "meaning", "paper"), v.required, v.size and v.free alike; prefix; prefix_over and overlay name what they start from.
FIELD = re.compile(
    rf'\bv(?:\.(?:required|size|free|required_free|prefix|prefix_over|overlay))?\(\s*"\w+",\s*(\w+),\s*(?:\w+(?:\.\w+)*,\s*)?'
    rf'((?:{STRING}\s*)+)(?:,\s*({STRING}))?')
MEMBER = re.compile(r"^  (?!return\b|using\b|static\b|//|\})[\w:][\w:<>, ]*? (\w+)(?: =|\{|;)")
WIDTH = 100


def end_of(text, opening):
    """The place of the brace that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
    sys.exit("a brace is not closed")


def meanings_of(body):
    """What the list says of each member, with the paper."""
    meanings = {}
    for member, literals, paper in FIELD.findall(body):
        text = "".join(literal[1:-1] for literal in re.findall(STRING, literals)).replace('\\"', '"')
        if paper and paper != '""':
            text += f" ({paper[1:-1]})"
        known = meanings.setdefault(member, [])
        if text not in known:
            known.append(text)
    return {member: "; or: ".join(texts) for member, texts in meanings.items()}


def comment_of(meaning):
    return textwrap.wrap(meaning, WIDTH, initial_indent="  /// ", subsequent_indent="  /// ", break_long_words=False,
                         break_on_hyphens=False)


def without_comment_behind(lines, place):
    """Takes the comment behind the member that begins in a line off it, and off the lines that the comment goes on in."""
    while ";" not in lines[place].split("//")[0]:
        place += 1
    lines[place], behind, _ = lines[place].partition("///<")
    lines[place] = lines[place].rstrip()
    while behind and place + 1 < len(lines) and re.match(r"\s+///?<? ", lines[place + 1]) and \
            len(lines[place + 1]) - len(lines[place + 1].lstrip()) > 2:
        del lines[place + 1]


def mended(body):
    meanings = meanings_of(body)
    lines, result, depth, place = body.split("\n"), [], 0, 0
    while place < len(lines):
        line = lines[place]
        member = MEMBER.match(line) if depth == 0 else None
        if member and member.group(1) in meanings:
            while result and result[-1].startswith("  ///"):
                result.pop()
            result += comment_of(meanings[member.group(1)])
            without_comment_behind(lines, place)
            line = lines[place]
        depth += line.split("//")[0].count("{") - line.split("//")[0].count("}")
        result.append(line)
        place += 1
    return "\n".join(result)


def with_comments(text):
    place = 0
    while found := STRUCT.search(text, place):
        end = end_of(text, found.end() - 1)
        body = mended(text[found.end():end])
        text = text[:found.end()] + body + text[end:]
        place = found.end() + len(body)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    stale = []
    for path in sorted((ROOT / "x_transformers").rglob("*.h")):
        text = path.read_text()
        new = with_comments(text) if "void fields(" in text else text
        if new == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if not arguments.check:
            path.write_text(new)
    for path in stale:
        print(f"{path}: " + ("comments of options are not those of the field list: tools/option_comments.py mends them"
                             if arguments.check else "mended"))
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
