"""Profile: a broker under a name that people gave it, and who we are to it. Without Streamlit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote

from dashboard.broker_choice import RESERVED
from eventbus.errors import ConfigError
from eventbus.load.connection import connection_of
from eventbus.load.setting import SettingRefused
from eventbus.url import BrokerUrl

MAX_NAME, MAX_URL, MAX_SECRET = 60, 2_000, 4_096
"""Characters."""
_CONTEXT = "nats+context"
_NEEDS_NO_PROFILE = ("memory", "embedded+nats", "embedded+kafka")


class Login(StrEnum):
    """How we say who we are."""

    NONE = "none"
    PASSWORD = "password"
    TOKEN = "token"


@dataclass(frozen=True, slots=True)
class Listed:
    """What a page may know of a profile: all but its secret. shown: the URL for people. user: empty without one.

    connection: files and mechanism, as a LoadPlan has them.
    """

    name: str
    url: str
    shown: str
    login: Login
    user: str
    connection: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Profile:
    """Checked on construction. url: without user and password. user: only where ``login`` is PASSWORD.

    connection: files and mechanism, as a LoadPlan has them. secret: the password or the token. It leaves this object
    only in ``full_url``; ``repr`` does not tell it.

    Raises SettingRefused, a ConfigError that knows the field, and never repeats a secret.
    """

    name: str
    url: str
    login: Login = Login.NONE
    user: str = ""
    secret: str = field(default="", repr=False)
    connection: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_name(self.name)
        broker = _broker(self.url)
        if broker.scheme == _CONTEXT and self.login is not Login.NONE:
            raise SettingRefused("login", "is not for a context of the nats tool, which has a login of its own")
        if broker.is_kafka and self.login is Login.TOKEN:
            raise SettingRefused("login", "is a token, which is for NATS; Kafka takes a user and a password")
        if self.login is Login.PASSWORD:
            _check_text("user", self.user, MAX_NAME * 4)
        elif self.user:
            raise SettingRefused("user", "is given, and the login has none")
        if self.login is not Login.NONE:
            _check_text("secret", self.secret, MAX_SECRET)
        elif self.secret:
            raise SettingRefused("secret", "is given, and there is no login")
        if "creds_file" in self.connection and self.login is not Login.NONE:
            raise SettingRefused("login", "is given, and a credentials file too, which is a login; give one of them")
        connection_of(self.url, self.connection)

    @property
    def listed(self) -> Listed:
        """The part without the secret."""
        return Listed(self.name, self.url, _broker(self.url).redacted, self.login, self.user, self.connection)

    @property
    def servers(self) -> tuple[str, ...]:
        """The servers that are told the secret; none where a context names them."""
        return _broker(self.url).servers

    @property
    def full_url(self) -> str:
        """The URL with login and secret, which ``eventbus.connect`` takes: not to be shown, logged or stored."""
        if self.login is Login.NONE:
            return self.url
        words = (self.user, self.secret) if self.login is Login.PASSWORD else (self.secret,)
        login = ":".join(quote(word, safe="") for word in words)
        with_login: Callable[[str], str] = lambda server: server.replace("://", f"://{login}@", 1)  # noqa: E731
        first, *others = self.servers
        if _broker(self.url).is_kafka:  # one login for all, before the first
            return ",".join([with_login(first), *others])
        return ",".join(map(with_login, self.servers))


def _broker(url: str) -> BrokerUrl:
    if not url:
        raise SettingRefused("url", "is empty; give the broker's, as in nats://127.0.0.1:4222")
    if len(url) > MAX_URL or not url.isprintable():
        raise SettingRefused("url", f"has more than {MAX_URL:,} characters, or some that cannot be shown")
    if "@" in url:  # not shown again: what stands before it is a login
        raise SettingRefused("url", "has a login; give it in its own fields, where its secret part is not shown again")
    try:
        broker = BrokerUrl.parse(url)
    except ConfigError as error:
        raise SettingRefused("url", f"cannot be used: {str(error).removeprefix('broker URL: ')}") from None
    if broker.scheme in _NEEDS_NO_PROFILE:
        raise SettingRefused("url", f"is {broker.scheme}://, which needs no profile; give that of a broker of yours")
    return broker


def _check_name(name: str) -> None:
    if not name or name != name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise SettingRefused(
            "name", f"cannot be used; give 1 to {MAX_NAME} characters that can be shown, without spaces around them"
        )
    if name.casefold() in {taken.casefold() for taken in RESERVED}:
        raise SettingRefused("name", "is that of a broker which is in the list anyway; give another one")


def _check_text(field_name: str, text: str, most: int) -> None:
    if not text:
        raise SettingRefused(field_name, "is empty")
    if len(text) > most:
        raise SettingRefused(field_name, f"has {len(text):,} characters; use at most {most:,}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SettingRefused(field_name, "has a character that is none: half of a surrogate pair") from None
