"""A TOML file that knows its lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventbus.errors import ConfigError
from eventbus.toml_text import MAX_BYTES, TomlText

TEXT = '''\
# a comment with [[stages]] in it
rate = 5
name = """
[[stages]]
two lines"""

[[stages]]
rate = 1

[[stages]]
rate = 2
list = [
  1,
  2,
]
"quoted key" = 3
inline = { a = 1, b = 2 }

[other.inner]
x = true
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("rate",), 2),
        (("name",), 5),
        (("stages", 0, "rate"), 8),
        (("stages", 1, "rate"), 11),
        (("stages", 1, "list"), 15),
        (("stages", 1, "quoted key"), 16),
        (("stages", 1, "inline", "b"), 17),
        (("other", "inner", "x"), 20),
        (("other", "inner"), 19),
        (("stages", 1), 10),
        (("stages", 1, "missing"), 10),
        (("stages", 2, "rate"), 7),
        (("missing",), 1),
        ((), 1),
    ],
)
def test_line_of_a_key(key: tuple[str | int, ...], line: int) -> None:
    """Where its value is complete; of what is missing, the nearest table that is there."""
    assert TomlText(TEXT, "plan.toml").line_of(key) == line


def test_dotted_keys_and_other_ends_of_lines() -> None:
    """Every way to write it, also with the line ends of Windows."""
    toml = TomlText("a.b = 1\r\na.c = 2\r\n[d]\r\ne.f = 3\r\n", "plan.toml")
    assert toml.data == {"a": {"b": 1, "c": 2}, "d": {"e": {"f": 3}}}
    assert [toml.line_of(key) for key in (("a", "b"), ("a", "c"), ("d", "e", "f"))] == [1, 2, 4]


def test_refuse() -> None:
    """File, line, reason."""
    with pytest.raises(ConfigError, match=r"^plan\.toml:11: too much$"):
        TomlText(TEXT, "plan.toml").refuse(("stages", 1, "rate"), "too much")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = ", "end of document"),
        ("a = 1\na = 2\n", "line 2"),
        ("a = 1\n[a]", "line 2"),
        ("a = \x00", "line 1"),
        ("a = '''\nnever\nending", "plan.toml: "),
        ("a = " + "[" * 20_000, "plan.toml: "),
    ],
)
def test_not_toml(text: str, reason: str) -> None:
    """One line with the file and, where TOML has one, the line."""
    with pytest.raises(ConfigError) as refused:
        TomlText(text, "plan.toml")
    assert reason in str(refused.value)
    assert str(refused.value).startswith("plan.toml: ")
    assert len(str(refused.value).splitlines()) == 1


def test_file(tmp_path: Path) -> None:
    """Read as UTF-8; its path is its name."""
    path = tmp_path / "plan.toml"
    path.write_text("name = 'Köln'\n", encoding="utf-8")
    toml = TomlText.read(path)
    assert (toml.data, toml.name) == ({"name": "Köln"}, str(path))


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, too large, or not UTF-8: each says so with its path, and the line where there is one."""
    path = tmp_path / "plan.toml"
    with pytest.raises(ConfigError, match=r"plan\.toml: cannot be read: No such file"):
        TomlText.read(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        TomlText.read(tmp_path)
    path.write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigError, match=r"plan\.toml:2: not UTF-8: byte 0xff"):
        TomlText.read(path)
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="more than 262,144 bytes"):
        TomlText.read(path)


@pytest.mark.parametrize(
    ("text", "said"), [("a = " + "[" * 5000, "nested too deeply"), ("a = " + "9" * 5000, "digits")]
)
def test_what_python_cannot_read(text: str, said: str) -> None:
    """Also what is refused by Python and not by TOML's rules is told in one line with the file's name."""
    with pytest.raises(ConfigError, match=f"^x.toml: [^\\n]*{said}"):
        TomlText(text, "x.toml")
