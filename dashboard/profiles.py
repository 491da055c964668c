"""The file of connection profiles: read, changed, and written all at once, for its owner's eyes only.

Its secrets leave it only in ``Profiles.full_url``. Without Streamlit; methods may be called from any thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dashboard.profile import Listed, Login, Profile
from eventbus.errors import ConfigError
from eventbus.load.connection import CONNECTION
from eventbus.load.setting import SettingRefused
from eventbus.toml_text import MAX_BYTES, TomlText

FILE_NAME = "profiles.toml"
MAX_PROFILES = 50
_HEADER = """\
# Connection profiles of AckScope's dashboard, written by its page "Telemetry & settings".
# It holds passwords: keep it to yourself. Comments of yours would not be kept.
"""
_PRIVATE, _PRIVATE_FOLDER = 0o600, 0o700
_OTHERS = 0o077
_KEYS = ("name", "url", "user", "password", "token", *CONNECTION)
_WRITING = threading.Lock()
"""Held by whoever changes a file: all sessions of the dashboard are threads of one process."""


def profiles_path() -> Path:
    """``$ACKSCOPE_CONFIG_HOME/profiles.toml``, else in ``$ACKSCOPE_HOME``, where that is set, else in the user's
    configuration folder of this system."""
    home = os.environ.get("ACKSCOPE_CONFIG_HOME") or os.environ.get("ACKSCOPE_HOME")
    if home:
        return Path(home) / FILE_NAME
    import platformdirs  # here, so that it is loaded only where it is needed

    return platformdirs.user_config_path("ackscope") / FILE_NAME


@dataclass(frozen=True, slots=True)
class Draft:
    """What somebody typed. secret: empty keeps the one that the profile has. ``repr`` does not tell it."""

    name: str
    url: str
    login: Login = Login.NONE
    user: str = ""
    secret: str = field(default="", repr=False)
    connection: Mapping[str, str] = field(default_factory=dict)


class Profiles:
    """path: of the file; where there is none, there are no profiles.

    What was read is kept until the file changes. Methods block for a small file; they raise ConfigError, with file,
    line and cause where what is in it cannot be used, and then change nothing. No text of an error has a secret.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: tuple[object, tuple[Profile, ...]] = (None, ())

    def list(self) -> tuple[Listed, ...]:
        """All of them, by their names, without their secrets."""
        return tuple(profile.listed for profile in sorted(self._all(), key=lambda one: one.name.casefold()))

    def connection(self, name: str) -> Mapping[str, str]:
        """How to connect beyond the URL: nothing secret."""
        return _find(self._all(), name).connection

    def full_url(self, name: str) -> str:
        """The URL of a profile with its secret, for whoever connects: not to be shown, logged or stored."""
        return _find(self._all(), name).full_url

    def exposed(self) -> bool:
        """True where others on this machine may read the file. It is not written so: somebody changed its mode."""
        try:
            return os.name == "posix" and bool(self.path.stat().st_mode & _OTHERS)
        except OSError:
            return False

    def save(self, draft: Draft, *, replaces: str | None = None) -> Listed:
        """Keep a profile: a new one, or in the place of another. Raises SettingRefused for a field that cannot be.

        An empty secret keeps the one that was, unless the servers or the kind of login changed: who may edit a profile
        could otherwise have its secret sent to a server of theirs.
        """
        with _WRITING:
            kept = list(self._all())
            old = None if replaces is None else _find(kept, replaces)
            others = [profile for profile in kept if profile is not old]
            if any(profile.name.casefold() == draft.name.casefold() for profile in others):
                raise SettingRefused("name", "is taken; give another one, or edit that profile")
            if len(others) >= MAX_PROFILES:
                raise ConfigError(f"there are {MAX_PROFILES} profiles, which is all there may be; delete one first")
            made = _made(draft, old)
            self._write([made if profile is old else profile for profile in kept] if old else [*kept, made])
        return made.listed

    def delete(self, name: str) -> None:
        """Forget a profile and its secret."""
        with _WRITING:
            kept = list(self._all())
            gone = _find(kept, name)
            self._write([profile for profile in kept if profile is not gone])

    def _all(self) -> tuple[Profile, ...]:
        signature = _signature(self.path)
        if signature is None:
            return ()
        if self._read[0] != signature:
            self._read = (signature, _profiles_of(TomlText.read(self.path)))
        return self._read[1]

    def _write(self, profiles: Sequence[Profile]) -> None:
        text = "\n".join([_HEADER, *map(_table, profiles)])
        if len(text.encode()) > MAX_BYTES:
            raise ConfigError(f"{self.path}: would have more than {MAX_BYTES:,} bytes; delete a profile first")
        try:
            _replace(self.path.resolve(), text)  # a link stays one
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written: {error.strerror or error}") from error


def _made(draft: Draft, old: Profile | None) -> Profile:
    secret = draft.secret
    if not secret and old is not None and draft.login is old.login is not Login.NONE:
        there = Profile(draft.name, draft.url).servers  # refuses a URL that cannot be, before all else
        if there != old.servers:
            raise SettingRefused("secret", "must be given again, since the URL is another one")
        secret = old.secret
    user = draft.user if draft.login is Login.PASSWORD else ""
    return Profile(draft.name, draft.url, draft.login, user, secret, draft.connection)


def _find(profiles: Sequence[Profile], name: str) -> Profile:
    for profile in profiles:
        if profile.name == name:
            return profile
    raise ConfigError(f"there is no profile {name!r} any more; choose another broker")


def _signature(path: Path) -> object:
    """Another one whenever the file is another one; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    return found.st_mtime_ns, found.st_size, found.st_ino


def _profiles_of(toml: TomlText) -> tuple[Profile, ...]:
    for key in toml.data:
        if key != "profiles":
            toml.refuse((key,), "only [[profiles]] are known here")
    tables = toml.data.get("profiles", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        toml.refuse(("profiles",), "profiles are tables; write each as [[profiles]]")
    if len(tables) > MAX_PROFILES:
        toml.refuse(("profiles", MAX_PROFILES), f"there may be {MAX_PROFILES} profiles")
    found: list[Profile] = []
    for index, table in enumerate(tables):
        profile = _profile_of(toml, index, table)
        if any(profile.name.casefold() == other.name.casefold() for other in found):
            toml.refuse(("profiles", index, "name"), "the name is taken by a profile above")
        found.append(profile)
    return tuple(found)


def _profile_of(toml: TomlText, index: int, table: Mapping[str, Any]) -> Profile:
    for key, value in table.items():
        if key not in _KEYS:
            toml.refuse(("profiles", index, key), f"a setting is not known here; use {', '.join(_KEYS)}")
        if not isinstance(value, str):
            toml.refuse(("profiles", index, key), f"{key} is no text; write it in quotes")
    login = Login.TOKEN if "token" in table else Login.PASSWORD if {"user", "password"} & set(table) else Login.NONE
    if login is Login.TOKEN and {"user", "password"} & set(table):
        toml.refuse(("profiles", index, "token"), "a profile has a token, or user and password")
    secret = {Login.TOKEN: "token", Login.PASSWORD: "password"}.get(login, "")
    texts = [str(table.get(key, "")) for key in ("name", "url", "user", secret)]
    connection = {key: table[key] for key in CONNECTION if key in table}
    try:
        return Profile(texts[0], texts[1], login, texts[2], texts[3], connection)
    except SettingRefused as error:
        name = str(error.key[-1])
        toml.refuse(("profiles", index, {"secret": secret, "login": "url"}.get(name, name)), str(error))


def _table(profile: Profile) -> str:
    values = {"name": profile.name, "url": profile.url}
    if profile.login is Login.PASSWORD:
        values |= {"user": profile.user, "password": profile.secret}
    elif profile.login is Login.TOKEN:
        values["token"] = profile.secret
    values |= profile.connection
    return "\n".join(["[[profiles]]", *(f"{name} = {_quoted(text)}" for name, text in values.items()), ""])


def _quoted(text: str) -> str:
    """A string of TOML: one of JSON, but for DEL, which TOML wants escaped, and all else as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # its owner's from the beginning: 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, _PRIVATE)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
