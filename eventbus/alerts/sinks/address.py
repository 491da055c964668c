"""WebhookAddress: where a webhook may be sent, checked before any name is looked up; and which networks are public.

Whoever writes a plan chooses the address, and this program sends from inside a network: so by default only public
networks are reached, encrypted. What a name stands for is checked when it is used, by ``refusal``, since it can change.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from eventbus.errors import ConfigError

_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # shared address space (RFC 6598): carriers, and overlay networks
        "::1/128",
        "fc00::/7",
    )
)
"""What ``allow_private`` opens."""
_METADATA = tuple(map(ipaddress.ip_address, ("100.100.100.200", "fd00:ec2::254")))
"""Where clouds hand credentials to their machines, besides the link-local 169.254.169.254: never opened."""
_NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24")))
"""Special use (RFC 6890, RFC 7526), and yet is_global in Python 3.11."""
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_TUNNELS = tuple(map(ipaddress.ip_network, ("2002::/16", "2001::/32")))
"""6to4 and Teredo carry an IPv4 address, of any network, inside."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?|[0-9a-fA-F:.]+")
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\uffff\\]")
_DEFAULT_PORTS = {"https": 443, "http": 80}

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class WebhookAddress:
    """An address that may be sent to. Its repr, and ``shown``, hold neither login nor path: both can be secret.

    url: without login. host: as it is looked up. authorization: for the header of this name; None without a login.
    secrets: what must not appear in any text.
    """

    url: str = field(repr=False)
    host: str
    port: int
    secure: bool
    shown: str
    allow_private: bool = False
    authorization: str | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def parse(
        cls, text: str, *, allow_private: bool = False, allowed_hosts: Sequence[str] | None = None
    ) -> WebhookAddress:
        """Read a URL. Raises ConfigError that says what is allowed, and never repeats login or path.

        allow_private: also private networks and this machine, and the latter without encryption. allowed_hosts: names
        and addresses, ``*.`` before a name for all below it; None allows all.
        """
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ConfigError("the URL cannot be read; write it as https://HOST/PATH") from None
        if _UNSAFE.search(text):
            raise ConfigError("the URL holds a space, '\\' or a character that is not ASCII; write them as %XX")
        if parts.scheme not in _DEFAULT_PORTS or not host or not _HOST.fullmatch(host) or port == 0:
            raise ConfigError("the URL is not https://HOST/PATH, as in https://alerts.example.com/hook")
        rest = text[text.index("//") + 2 + len(parts.netloc) :]
        if "#" in rest or "@" in rest or parts.netloc.count("@") > 1:
            # Else a password with '/' in it would be taken for host and path, and shown.
            raise ConfigError("the URL holds '#', or an '@' besides the one after a login; write them as %23 and %40")
        name = f"[{host}]" if ":" in host else host
        shown = f"{parts.scheme}://{name}" + ("" if port is None else f":{port}")
        _check_host(host.rstrip("."), shown, allow_private, allowed_hosts)
        if parts.scheme == "http" and not (allow_private and _is_this_machine(host.rstrip("."))):
            raise ConfigError(f"{shown}: use https; http is for this machine only, with allow_private = true")
        login = parts.netloc.rpartition("@")[0]
        authorization = _basic(login) if login else None
        return cls(
            url=shown + rest,
            host=host,
            port=port or _DEFAULT_PORTS[parts.scheme],
            secure=parts.scheme == "https",
            shown=shown,
            allow_private=allow_private,
            authorization=authorization,
            secrets=_secrets(login, rest, authorization),
        )

    def refusal(self, address: str) -> str | None:
        """Why ``address``, of this host, may not be connected to; None if it may."""
        if not self.secure and not _is_loopback(ipaddress.ip_address(address)):
            return f"{self.shown} is {address}, not this machine; use https"
        return refusal(address, allow_private=self.allow_private)


def refusal(address: str, *, allow_private: bool = False) -> str | None:
    """Why nothing may be sent to this IP address; None if it may. Raises ValueError where it is none."""
    ip = _inner(ipaddress.ip_address(address))
    if _is_public(ip):
        return None
    if not any(ip in network for network in _PRIVATE) or ip in _METADATA:
        return f"{address} is in a network that is never sent to (link-local, multicast or reserved)"
    return None if allow_private else f"{address} is not a public address; allow_private = true allows it"


def _is_public(ip: _Ip) -> bool:
    if ip.is_multicast or ip.is_reserved or not ip.is_global:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC)
    return ip in _GLOBAL_UNICAST and not any(ip in network for network in _TUNNELS)


def _inner(ip: _Ip) -> _Ip:
    """The IPv4 address inside one that only wraps it."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip


def _is_loopback(ip: _Ip) -> bool:
    return _inner(ip).is_loopback


def _as_ip(host: str) -> _Ip | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_this_machine(host: str) -> bool:
    ip = _as_ip(host)
    return host == "localhost" if ip is None else _is_loopback(ip)


def _check_host(host: str, shown: str, allow_private: bool, allowed_hosts: Sequence[str] | None) -> None:
    if allowed_hosts is not None and not any(_matches(host, allowed) for allowed in allowed_hosts):
        raise ConfigError(f"{shown}: not one of the allowed hosts ({', '.join(allowed_hosts) or 'none'})")
    ip = _as_ip(host)
    reason = None if ip is None else refusal(str(ip), allow_private=allow_private)
    if reason is None and host == "localhost" and not allow_private:
        reason = "localhost is not a public address; allow_private = true allows it"
    if reason is not None:
        raise ConfigError(f"{shown}: {reason}")


def _matches(host: str, allowed: str) -> bool:
    allowed = allowed.lower().rstrip(".")
    return host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed


def _secrets(login: str, rest: str, authorization: str | None) -> tuple[str, ...]:
    """Login, path and query, whole and in pieces, as they are written and as they are meant; longest first."""
    pieces = [piece for piece in re.split(r"[/?&=]", rest) if len(piece) > 4]
    written = {login, *login.split(":", 1), rest, rest[1:], *pieces}
    if authorization is not None:
        written.add(authorization.removeprefix("Basic "))
    found = written | {unquote(text) for text in written}
    return tuple(sorted((text for text in found if len(text) > 2), key=len, reverse=True))


def _basic(login: str) -> str:
    user, _, password = login.partition(":")
    return "Basic " + base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
