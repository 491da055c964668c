"""AppriseSink: notifications through apprise, which knows more than a hundred services (the extra ``apprise``).

apprise looks names up itself, so they cannot be pinned as for webhooks: what they stand for is checked just before, and
its kinds for any HTTP server are refused, since ``kind = "webhook"`` does that safely. Its threads cannot be
cancelled: they end by their timeouts, 4 s to connect and 4 s for each answer.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from eventbus.alerts.sinks.address import refusal
from eventbus.alerts.sinks.notification import Notification
from eventbus.alerts.sinks.sink import DeliveryError
from eventbus.alerts.sinks.webhook import Resolve, look_up
from eventbus.alerts.sinks.wording import sentence, title
from eventbus.errors import ConfigError

_ANY_SERVER = ("json", "jsons", "xml", "xmls", "form", "forms", "apprise", "apprises")
_SOCKET_TIMEOUT_S = 4.0


class AppriseSink:
    """Sends through the services that ``urls`` name, as in ``slack://TOKEN_A/TOKEN_B/TOKEN_C``.

    Delivered if every service took it. allow_private: also services in private networks and on this machine.
    Raises ConfigError where apprise is missing, or an entry is none of its URLs; it never repeats one.
    """

    takes_all = False

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        *,
        timeout_s: float = 20.0,
        allow_private: bool = False,
        resolve: Resolve = look_up,
    ) -> None:
        apprise: Any = _import_apprise()
        self.name = name
        self._timeout_s = timeout_s
        self._allow_private = allow_private
        self._resolve = resolve
        self._types = apprise.NotifyType
        asset = apprise.AppriseAsset(
            app_id="AckScope", app_desc="AckScope alerts", http_redirects=False, storage_mode="memory"
        )
        self._all = apprise.Apprise(asset=asset)
        with warnings.catch_warnings():
            # The first URL loads all plugins; one of them (seen with 2.2.0) imports imghdr, which Python deprecates.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._services = [_service(apprise, url, number, asset) for number, url in enumerate(urls, 1)]
        for service in self._services:
            self._all.add(service)
        self.where = ", ".join(str(service.service_name) for service in self._services)

    def __repr__(self) -> str:
        return f"AppriseSink({self.name!r}, {self.where})"

    async def deliver(self, notifications: Sequence[Notification]) -> None:
        """One message of each service for all of them. Raises DeliveryError where a service did not take it."""
        await self._check_hosts()
        result = await self._all.async_notify(
            title=title(notifications),
            body="\n".join(map(sentence, notifications)),
            notify_type=self._type(notifications),
            timeout=self._timeout_s,
        )
        if not result:
            services = [service for service in result if not service] or [None]
            names = ", ".join(str(getattr(service, "name", None) or "none") for service in services)
            raise DeliveryError(f"apprise: not taken by {names}; its log tells why", retry=True)

    async def _check_hosts(self) -> None:
        for service in self._services:
            host = getattr(service, "host", None)
            if not isinstance(host, str) or not host:
                continue
            try:
                found = await self._resolve(host.strip("[]"), getattr(service, "port", None) or 443)
            except (OSError, UnicodeError):
                continue  # not every "host" is one; what cannot be found cannot be reached either
            for address in found:
                reason = refusal(address, allow_private=self._allow_private)
                if reason is not None:
                    raise DeliveryError(f"{service.service_name}: {reason}", retry=False)

    def _type(self, notifications: Sequence[Notification]) -> Any:
        going_on = [notification.change.severity for notification in notifications if not notification.is_over]
        if not going_on:
            return self._types.SUCCESS
        if "critical" in going_on:
            return self._types.FAILURE
        return self._types.WARNING if "warning" in going_on else self._types.INFO


def _service(apprise: Any, url: str, number: int, asset: Any) -> Any:
    scheme = url.partition("://")[0].lower()
    if scheme in _ANY_SERVER:
        raise ConfigError(f'URL {number} of apprise is {scheme}://…; for any HTTP server use kind = "webhook"')
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        raise ConfigError(f"URL {number} of apprise is none that it knows; see https://appriseit.com/services/")
    # A URL can set these itself (redirect=yes, rto=, cto=).
    service.redirects = False
    service.socket_connect_timeout = min(service.socket_connect_timeout, _SOCKET_TIMEOUT_S)
    service.socket_read_timeout = min(service.socket_read_timeout, _SOCKET_TIMEOUT_S)
    return service


def _import_apprise() -> ModuleType:
    try:
        import apprise
    except ImportError:
        raise ConfigError("sinks of kind apprise need it: pip install 'ackscope[apprise]'") from None
    return apprise
