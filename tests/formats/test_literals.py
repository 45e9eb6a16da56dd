"""Files of plain values: what is read, and that nothing else is."""

import math

import pytest

from fewstep.formats.literals import read_literals

TEXT = """
'What it is for.'
a = b = 40  # two names
c = 'x/' + 'y' 'z'
d = dict(a=a / 2, e=[1.5] * 3, f=(None, True, -1, +2.0))
g = dict(d, a=2**3, **{'h': 7 % 4})
i = {'j': float('inf'), 'k': inf, 'l': float('-inf'), 'm': 7 // 2, **d}
n = list((1, 2)) + [3]
o = tuple([])
pass
"""


def written(tmp_path, text):
    path = tmp_path / "c.py"
    path.write_text(text)
    return path


def test_values(tmp_path):
    values = read_literals(written(tmp_path, TEXT))
    d = {"a": 20.0, "e": [1.5, 1.5, 1.5], "f": (None, True, -1, 2.0)}
    assert values.names == {
        "a": 40,
        "b": 40,
        "c": "x/yz",
        "d": d,
        "g": {**d, "a": 8, "h": 3},
        "i": {"j": math.inf, "k": math.inf, "l": -math.inf, "m": 3, **d},
        "n": [1, 2, 3],
        "o": (),
    }
    assert values.read == {"a", "d"}


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        "from os import path",
        "open('touched', 'w')",
        "x = open('touched', 'w')",
        "x = __import__('os')",
        "x = (lambda: 1)()",
        "x = [y for y in (1, 2)]",
        "x = 1 if True else 2",
        "x = unknown",
        "x = a.b",
        "x = a['b']",
        "a['b'] = 1",
        "a += 1",
        "x, y = 1, 2",
        "x = f'{a}'",
        "x = 'a' * 9",
        "x = '%999999999d' % 1",
        "x = b'bytes'",
        "x = 1j",
        "x = {1}",
        "x = {[]: 1}",
        "x = dict(1)",
        "x = list(3)",
        "x = list(1, 2)",
        "x = float('one')",
        "x = 'a' + 1",
        "x = -'a'",
        "x = 1 / 0",
        "x = (-8) ** 0.5",
        "x = 9.0 ** 9999",
        "with open('touched', 'w') as f: pass",
        "def f(): pass",
        "x: int = 1",
        # what would only grow large
        "x = 2 ** 10_000_000_000",
        "x = 2 ** 63 * 4",
        "x = [0] * 1_000_000_000",
        "x = [0] * 10 ** 4 + [1]",
    ],
)
def test_what_is_refused(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"c\.py, line 3: .* is no plain value.*nothing is executed"):
        read_literals(written(tmp_path, "a = dict(b=1)\n\n" + line))
    assert [path.name for path in tmp_path.iterdir()] == ["c.py"]


def test_what_is_no_python(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_literals(tmp_path / "nothing.py")
    for text in ("x = (", "x = \0", "(" * 100_000):
        with pytest.raises(ValueError, match="is not Python"):
            read_literals(written(tmp_path, text))
    with pytest.raises(ValueError, match="nested too deeply|is not Python"):
        read_literals(written(tmp_path, "x = " + "-" * 5000 + "1"))
