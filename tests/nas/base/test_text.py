"""What reaches a terminal."""

from __future__ import annotations

import pytest

from nas.base.errors import LONGEST
from nas.base.errors import one_line
from nas.base.text import printable


@pytest.mark.parametrize("text", ["plain", "[/b] stays", "two\nlines", "Ωμέγα 数 é \N{NO-BREAK SPACE}5", ""])
def test_text_for_people_stays(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb\x07", "a\\rb\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("\ud800", "\\ud800"),
        ("a\u2028b", "a\\u2028b"),
        ("\0", "\\x00"),
    ],
)
def test_what_steers_a_terminal_is_shown_instead(text, shown):
    assert printable(text) == shown


def test_a_message_is_one_line_of_at_most_300_characters():
    line = one_line(ValueError("no \x1b[31mname\n" + "x" * 1000))
    assert line.startswith("no \\x1b[31mname xxx")
    assert (len(line), line[-1]) == (LONGEST, "\N{HORIZONTAL ELLIPSIS}")
    assert one_line(ValueError("y" * LONGEST)) == "y" * LONGEST
