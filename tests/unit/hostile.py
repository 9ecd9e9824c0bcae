"""Strings that act where they are not treated as data: in a shell, a page, a terminal, a path, a format.

``HOSTILE=all pytest tests/unit/cli/test_hostile_options.py tests/unit/config/test_hostile_settings.py`` gives every
string to every option and every setting, which takes minutes; otherwise each gets every sixth.
"""

import os

STRINGS = (
    "a'b", 'a"b', "a;touch X", "$(touch X)", "`touch X`", "&&touch X", "|touch X", ">X", "a\ntouch X", "a\r\ntouch X",
    "<script>document.title='X'</script>", "\"><img src=x onerror=alert(1)>", "' onload='alert(1)", "]]><script>",
    "&lt;script&gt;", "..", "../X", "/", "~", "*", "{a,b}", "a" * 4000, "\u202egnp.exe", "\u2028touch X", "\x1b[31mred",
    "%s%n%x", "{}", "{0.__class__}", "{{ 7 * 7 }}", "${oc.env:HOME}", "$HOME", "[red]x[/]", ":smile:", "-rf", "--help",
    "=1+1", "#SBATCH --x", "a|b", "a\tb", "\\", "[x](javascript:alert(1))", "```\nX", "$x_$", "\u05e9\u05dc", "", " ",
)  # fmt: skip
WITH_NUL = (*STRINGS, "a\0b")


def some(number: int) -> tuple[str, ...]:
    """The strings for the ``number``-th of many places: all of them, or a part that differs from place to place."""
    share = 1 if os.environ.get("HOSTILE") == "all" else 6
    return WITH_NUL[number % share :: share]
