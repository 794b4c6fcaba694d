"""The words of a report as numbers: hashed character n-grams, for languages with spaces and without. Pure.

One spelling is made of many: NFKC (half-width kana, full-width letters, composed signs), no case, katakana as hiragana,
one digit for all digits, no invisible signs, a run of one sign as that sign. So Hindi in Latin letters, which has no
spelling of its own (`nahi`, `nahii`, `Nahin`), and Japanese, which has no spaces, both have n-grams in common with what
the classifier was trained on.
"""

import re
import unicodedata
import zlib

SIZES = (1, 2, 3, 4)
"""Lengths of the n-grams, in characters."""

_KATAKANA = {code: code - 0x60 for code in range(ord("ァ"), ord("ヶ") + 1)}
_LINK = re.compile(r"(?:https?://|www\.)\S+")
_RUN = re.compile(r"(.)\1+")


def normalised(text: str) -> str:
    """Return a text in one spelling, with one space for whatever separates words.

    >>> normalised("PAY me 1,500 円... ｶﾈ"), normalised("Paisa nahiiii mila")
    (' pay me 0 0 円 かね ', ' paisa nahi mila ')
    """
    folded = unicodedata.normalize("NFKC", _LINK.sub(" link ", unicodedata.normalize("NFKC", text).casefold()))
    shown = (sign for sign in folded.translate(_KATAKANA) if unicodedata.category(sign) != "Cf")
    signs = "".join("0" if sign.isdecimal() else _kept(sign) for sign in shown)
    return _RUN.sub(r"\1", f" {signs} ")


def _kept(sign: str) -> str:
    """Return a letter or a mark of one (Devanagari's vowel signs are marks), and a space for anything else."""
    return sign if unicodedata.category(sign)[0] in "LM" else " "


def buckets(text: str, number: int) -> set[int]:
    """Return the buckets of a text's n-grams, each in [0, number).

    The hash is CRC-32 of the UTF-8 bytes, so it is the same in each process and each release of Python.

    >>> buckets("ab", 1000) == buckets(" AB!", 1000), len(buckets("", 1000))
    (True, 0)
    """
    signs = normalised(text)
    if not signs.strip():
        return set()
    grams = {signs[start : start + size] for size in SIZES for start in range(len(signs) - size + 1)}
    return {zlib.crc32(gram.encode(errors="replace")) % number for gram in grams}
