"""Inputs that are nearly right: seeds with a few things changed, the same every time for the same seed."""

from __future__ import annotations

import random
import re

NASTY = (
    "",
    "0",
    "-1",
    "1e999",
    "-0.0",
    "nan",
    "inf",
    ".nan",
    "true",
    "null",
    "~",
    "[]",
    "{}",
    "[[[[[[",
    "{a: {a: {a: ",
    "9" * 400,
    "9" * 5000,
    "4611686018427387904",
    "18446744073709551616",
    "0x" + "f" * 40,
    "1/0",
    "1.5",
    "1e-400",
    "\x00",
    "\x1b[31m",
    "\ufeff",
    "\u202e",
    "é" * 50,
    "'",
    '"',
    ",",
    ";",
    ":",
    "=",
    "\t",
    "\n",
    "\r\n",
    " " * 300,
    "&a *a",
    "!include x.yaml",
    "!!python/object:os.system",
    "<<: *x",
    "extends: run.yaml",
    "../../../etc/passwd",
    "/dev/zero",
    "~nobody/x.yaml",
    "%s%n",
    "x" * 3000,
    "- " * 200,
    "5000 s",
    "-5 GHz",
    "1e30 B",
    "9999999 TiB",
)
_NUMBER = re.compile(r"\d+(\.\d+)?")
_WORD = re.compile(r"[A-Za-z_]\w*")


def mutated(text: str, dice: random.Random) -> str:
    """A text with one to four things changed."""
    for _ in range(dice.choice((1, 1, 1, 2, 3, 4))):
        text = dice.choice(_CHANGES)(text, dice)
    return text[:20_000]


def mutated_bytes(data: bytes, dice: random.Random) -> bytes:
    """Bytes with a few of them changed, taken away or doubled."""
    out = bytearray(data)
    for _ in range(dice.randint(1, 6)):
        place = dice.randrange(len(out) + 1)
        kind = dice.randrange(4)
        if kind == 0 and place < len(out):
            out[place] = dice.choice((0, 1, 127, 128, 255, dice.randrange(256)))
        elif kind == 1:
            del out[place : place + dice.randint(1, 9)]
        elif kind == 2:
            out[place:place] = out[place : place + dice.randint(1, 40)]
        else:
            out[place:place] = dice.randbytes(dice.randint(1, 12))
    return bytes(out)


def _insert(text: str, dice: random.Random) -> str:
    place = dice.randint(0, len(text))
    return text[:place] + dice.choice(NASTY) + text[place:]


def _drop(text: str, dice: random.Random) -> str:
    place = dice.randint(0, len(text))
    return text[:place] + text[place + dice.randint(1, 20) :]


def _double(text: str, dice: random.Random) -> str:
    start = dice.randint(0, len(text))
    end = min(len(text), start + dice.randint(1, 60))
    return text[:end] + text[start:end] * dice.choice((1, 1, 2, 20)) + text[end:]


def _cut(text: str, dice: random.Random) -> str:
    return text[: dice.randint(0, len(text))]


def _number(text: str, dice: random.Random) -> str:
    return _replaced(text, _NUMBER, dice, dice.choice(NASTY))


def _word(text: str, dice: random.Random) -> str:
    words = _WORD.findall(text) or ["x"]
    return _replaced(text, _WORD, dice, dice.choice((dice.choice(words), dice.choice(words), dice.choice(NASTY))))


def _letter(text: str, dice: random.Random) -> str:
    place = dice.randint(0, max(0, len(text) - 1))
    letter = dice.choice((chr(dice.randrange(32, 127)), chr(dice.randrange(0xD800)), "\U0001f600", "\ud800"))
    return text[:place] + letter + text[place + 1 :]


def _line(text: str, dice: random.Random) -> str:
    rows = text.split("\n")
    i, j = dice.randrange(len(rows)), dice.randrange(len(rows))
    rows[i], rows[j] = rows[j], rows[i]
    return "\n".join(rows)


def _replaced(text: str, what: re.Pattern[str], dice: random.Random, by: str) -> str:
    found = list(what.finditer(text))
    if not found:
        return text + by
    match = dice.choice(found)
    return text[: match.start()] + by + text[match.end() :]


_CHANGES = (_insert, _drop, _double, _cut, _number, _number, _number, _word, _word, _letter, _line)
