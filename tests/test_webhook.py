"""Webhooks against a real HTTP server: what arrives, what counts as delivered, and where they may not be sent."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import trustme
from aiohttp import web

from eventbus.alerts import AlertEngine, History, default_rules
from eventbus.alerts.notify import Announcer, DeliveryError, DeliveryPolicy, Notifier
from eventbus.alerts.sinks.address import WebhookAddress, refusal
from eventbus.alerts.sinks.apprise import AppriseSink
from eventbus.alerts.sinks.webhook import Resolve, WebhookSink
from eventbus.errors import ConfigError
from tests.fakes import FakeClock, FixedChance, until
from tests.notify_fakes import Sleeper, news
from tests.run_samples import sample
from tests.webhook_receiver import WebhookReceiver, answering

NAME = "hooks.example.com"
SECRET = "pa55-of-the-test"


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver() as running:
        yield running


def hook(url: str, **settings: object) -> WebhookSink:
    """A sink that may send to this machine."""
    return WebhookSink("hook", WebhookAddress.parse(url, allow_private=True), **settings)  # type: ignore[arg-type]


def resolving(*answers: Sequence[str]) -> tuple[Resolve, list[tuple[str, int]]]:
    """A resolver with these answers, one after the other, and what it was asked."""
    asked: list[tuple[str, int]] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return answers[min(len(asked), len(answers)) - 1]

    return resolve, asked


async def refused(sink: WebhookSink | AppriseSink) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await sink.deliver([news()])
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value


# ---- what arrives -------------------------------------------------------------------------------------------------


async def test_delivery(receiver: WebhookReceiver) -> None:
    """One POST of Alertmanager's JSON, with the login of the URL as a header, and its path as it was written."""
    url = f"http://me:{SECRET}@127.0.0.1:{receiver.port}/a%2Fb?x=1%202"
    sink = hook(url, headers={"X-Source": "ackscope"})
    await sink.deliver([news(), news(rule="other")])
    (request,) = receiver.received
    assert request.path == "/a%2Fb?x=1%202"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X-Source"] == "ackscope"
    assert request.headers["Authorization"] == "Basic bWU6cGE1NS1vZi10aGUtdGVzdA=="
    assert request.headers["Host"] == f"127.0.0.1:{receiver.port}"
    assert [alert["labels"]["alertname"] for alert in receiver.alerts] == ["pending", "other"]
    assert request.json["receiver"] == "hook"


async def test_alert_through_everything(receiver: WebhookReceiver) -> None:
    """Against a receiver that fails at first, a firing and its end arrive, in order, and the status says so."""
    failures = [answering(500), answering(503, Retry_After="7"), answering(429)]

    async def answer(request: web.Request) -> web.StreamResponse:
        return await (failures.pop() if failures else answering(200))(request)

    receiver.answer = answer
    sleep = Sleeper()
    telling = Notifier(
        [hook(receiver.url)],
        clock=FakeClock(),
        sleep=sleep,
        random=FixedChance(0),
        policy=DeliveryPolicy(base_delay_s=0.001, max_delay_s=0.01),
    )
    telling.notify(news())
    await until(lambda: telling.status()[0].delivered == 1)
    telling.notify(news("resolved", "firing"))
    await telling.close(5)
    assert [alert["status"] for alert in receiver.alerts] == ["firing"] * 4 + ["resolved"]
    assert (telling.status()[0].delivered, telling.status()[0].failed) == (2, 0)
    assert sleep.slept_s == [0.0005, 7, 0.002]


async def test_default_rule_of_a_frozen_broker(receiver: WebhookReceiver) -> None:
    """From samples to HTTP: acks stop and an alert arrives within 2 s of it; they come again and its end arrives."""
    rules = default_rules(max_pending=10_000, ack_timeout_s=5.0)
    engine, seen = AlertEngine(rules), History(600)
    announcer = Announcer(rules, run_id="run-1", url="nats://broker:4222")
    telling = Notifier([hook(receiver.url)], clock=FakeClock())
    acked = 0
    for quarter in range(4 * 40):
        at_s = quarter / 4
        sent = 250 * quarter
        if not 5 <= at_s < 8:
            acked = sent - 5
        seen.add(sample(at_s, acked=max(0, acked), pending=sent - max(0, acked), max_pending=10_000))
        for change in engine.evaluate(seen, at_s, at_s):
            telling.notify(announcer.notification(change))
    await telling.close(5)
    course = [
        (alert["labels"]["alertname"], alert["status"], alert["startsAt"], alert["endsAt"]) for alert in receiver.alerts
    ]
    # Everything happened before a turn of the loop, so each alert comes once, with its newest state.
    began = {name: starts for name, _, starts, _ in course}
    assert "1970-01-01T00:00:05" <= began["no_acks"] <= "1970-01-01T00:00:07"
    assert {status for _, status, _, _ in course} == {"resolved"}
    assert all(starts < ends for _, _, starts, ends in course)


# ---- what the receiver answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "retry"), [(400, False), (401, False), (404, False), (408, True), (429, True), (500, True), (503, True)]
)
async def test_answer_that_is_no_success(receiver: WebhookReceiver, status: int, retry: bool) -> None:
    """Told with its code and its beginning; tried again only where that can help."""
    receiver.answer = answering(status, "invalid\npayload")
    error = await refused(hook(receiver.url))
    assert (str(error), error.retry) == (
        f"http://127.0.0.1:{receiver.port} answered {status}: invalid payload",
        retry,
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(receiver: WebhookReceiver, status: int) -> None:
    """It could lead anywhere, so one request is all that is made."""
    receiver.answer = answering(status, Location=f"http://127.0.0.1:{receiver.port}/elsewhere")
    error = await refused(hook(receiver.url))
    assert not error.retry
    assert f"answered {status}: a redirect, which is never followed" in str(error)
    assert len(receiver.received) == 1


async def test_receiver_echoes_secrets(receiver: WebhookReceiver) -> None:
    """Login, path and header values are taken out of what it says."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=400, text=f"{request.headers} {request.path_qs}")

    receiver.answer = answer
    sink = hook(
        f"http://me:{SECRET}@127.0.0.1:{receiver.port}/T0KEN/of?key=K3Y", headers={"X-Api-Key": f"Key {SECRET}"}
    )
    text = str(await refused(sink))
    for secret in ("T0KEN", "K3Y", "bWU6cGE1NS1vZi10aGUtdGVzdA"):
        assert secret not in text
        assert secret not in repr(sink)


async def test_endless_answer(receiver: WebhookReceiver) -> None:
    """At most 1 KiB of it is read: a receiver that goes on for ever costs neither memory nor time."""
    wrote = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal wrote
        response = web.StreamResponse(status=400)
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
                wrote += 65_536
        except (ConnectionError, asyncio.CancelledError):
            return response

    receiver.answer = answer
    async with asyncio.timeout(5):
        error = await refused(hook(receiver.url))
    assert len(str(error)) < 250
    assert wrote < 64 * 1024 * 1024


async def test_hanging_receiver(receiver: WebhookReceiver) -> None:
    """It is given up after the sink's timeout, and can be tried again."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    receiver.answer = answer
    error = await refused(hook(receiver.url, timeout_s=0.05))
    assert (str(error), error.retry) == (f"http://127.0.0.1:{receiver.port}: no answer within 0.05 s", True)


async def test_answer_that_drips(receiver: WebhookReceiver) -> None:
    """The timeout is for the whole request: a header now and then does not prolong it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = asyncio.create_task(reader.read(-1))
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while not gone.done():
                writer.write(b"X-More: 1\r\n")
                await writer.drain()
                await asyncio.wait([gone], timeout=0.005)
            gone.exception()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await refused(hook(f"http://127.0.0.1:{port}/", timeout_s=0.1))
    assert error.retry


async def test_nobody_listens(receiver: WebhookReceiver) -> None:
    """Told in one line, without the path; it can be tried again."""
    url = receiver.url.replace("127.0.0.1", f"me:{SECRET}@127.0.0.1")
    await receiver.__aexit__(None, None, None)
    error = await refused(hook(url))
    assert (str(error), error.retry) == (
        f"http://127.0.0.1:{receiver.port}: no connection: Connection refused",
        True,
    )


async def test_proxies_of_the_environment(receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not used: they would look the name up again, past our check."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    await hook(receiver.url).deliver([news()])
    assert len(receiver.received) == 1


async def test_cancelled_delivery(receiver: WebhookReceiver) -> None:
    """Cancellation is passed on, and nothing is left behind."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    receiver.answer = answer
    sending = asyncio.create_task(hook(receiver.url).deliver([news()]))
    await until(lambda: receiver.received)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


# ---- names and addresses ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def encrypted(authority: trustme.CA) -> AsyncIterator[WebhookReceiver]:
    """A receiver with a certificate for NAME."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(NAME).configure_cert(context)
    async with WebhookReceiver(context=context) as running:
        yield running


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_name_is_looked_up_once_and_pinned(encrypted: WebhookReceiver, authority: trustme.CA) -> None:
    """The address that was checked is the one connected to, whatever a second look would say; the certificate and the
    Host header are still the name's."""
    resolve, asked = resolving(["127.0.0.1"], ["169.254.169.254"])
    sink = hook(f"https://{NAME}:{encrypted.port}/hook", context=trusting(authority), resolve=resolve)
    await sink.deliver([news()])
    assert asked == [(NAME, encrypted.port)]
    assert encrypted.received[0].headers["Host"] == f"{NAME}:{encrypted.port}"
    error = await refused(sink)
    assert asked == [(NAME, encrypted.port)] * 2
    assert "169.254.169.254 is in a network that is never sent to" in str(error)
    assert not error.retry
    assert len(encrypted.received) == 1


async def test_certificate_of_another_authority(encrypted: WebhookReceiver) -> None:
    """Refused with the reason, and not tried again: it does not get better by itself."""
    resolve, _ = resolving(["127.0.0.1"])
    error = await refused(hook(f"https://{NAME}:{encrypted.port}/hook", resolve=resolve))
    assert not error.retry
    assert "the certificate is refused" in str(error)
    assert encrypted.received == []


async def test_certificate_of_another_name(encrypted: WebhookReceiver, authority: trustme.CA) -> None:
    """The name of the URL must be in it, although the connection is by address."""
    resolve, _ = resolving(["127.0.0.1"])
    sink = hook(f"https://other.example.com:{encrypted.port}/", context=trusting(authority), resolve=resolve)
    assert "certificate is refused" in str(await refused(sink))
    assert encrypted.received == []


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["10.1.2.3"], ["93.184.216.34", "192.168.0.1"], ["::ffff:10.0.0.1"], ["fd00::1"]]
)
async def test_public_name_of_a_private_address(addresses: list[str]) -> None:
    """Nothing is sent where any of a name's addresses is not public."""
    resolve, _ = resolving(addresses)
    sink = WebhookSink("hook", WebhookAddress.parse(f"https://{NAME}/x"), resolve=resolve)
    error = await refused(sink)
    assert not error.retry
    assert f"{addresses[-1]} is not a public address; allow_private = true allows it" in str(error)


async def test_localhost_that_is_elsewhere(receiver: WebhookReceiver) -> None:
    """Without encryption only this machine is reached, whatever the resolver makes of its name."""
    there, _ = resolving(["10.1.2.3"])
    here, _ = resolving(["127.0.0.1"])
    url = f"http://localhost:{receiver.port}/"
    assert "10.1.2.3, not this machine; use https" in str(await refused(hook(url, resolve=there)))
    await hook(url, resolve=here).deliver([news()])
    assert len(receiver.received) == 1


async def test_name_that_is_not_found() -> None:
    """It can be tried again: a resolver may be down."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    error = await refused(WebhookSink("hook", WebhookAddress.parse(f"https://{NAME}/x"), resolve=resolve))
    assert (str(error), error.retry) == (f"https://{NAME}: the host is not found: Name or service not known", True)
    nothing, _ = resolving([])
    error = await refused(WebhookSink("hook", WebhookAddress.parse(f"https://{NAME}/x"), resolve=nothing))
    assert error.retry


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"])
def test_public_addresses(address: str) -> None:
    """They need no permission."""
    assert refusal(address) is None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "10.0.0.1",
        "172.31.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "::1",
        "fd12::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
    ],
)
def test_private_addresses(address: str) -> None:
    """They need permission."""
    assert "is not a public address" in (refusal(address) or "")
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "169.254.169.254",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.0.8",
        "192.88.99.1",
        "100.100.100.200",
        "::",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2001:0:0:0:0:0:f5ff:fffe",
        "::7f00:1",
        "64:ff9b:1::1",
        "64:ff9b::a9fe:a9fe",
        "::ffff:169.254.169.254",
        "fd00:ec2::254",
    ],
)
def test_addresses_that_are_never_sent_to(address: str) -> None:
    """No permission opens them: clouds keep the credentials of a machine at some."""
    assert "never sent to" in (refusal(address, allow_private=True) or "")


@pytest.mark.parametrize(
    ("url", "private", "reason"),
    [
        ("http://example.com/x", False, "use https"),
        ("http://example.com/x", True, "use https; http is for this machine only"),
        ("http://127.0.0.1/x", False, "127.0.0.1 is not a public address"),
        ("http://localhost/x", False, "localhost is not a public address"),
        ("http://10.0.0.1/x", True, "use https"),
        ("https://10.0.0.1/x", False, "10.0.0.1 is not a public address"),
        ("https://[::1]/x", False, "::1 is not a public address"),
        ("https://169.254.169.254/latest", True, "never sent to"),
        ("https://[fe80::1%25eth0]/x", True, "is not https://HOST/PATH"),
        ("ftp://example.com/x", True, "is not https://HOST/PATH"),
        ("example.com/x", True, "is not https://HOST/PATH"),
        ("https:///x", True, "is not https://HOST/PATH"),
        ("https://example.com:0/x", True, "is not https://HOST/PATH"),
        ("https://example.com:99999/x", True, "cannot be read"),
        ("https://[::1/x", True, "cannot be read"),
        ("https://exa mple.com/x", True, "holds a space"),
        ("https://example.com/x\r\nHost: y", True, "holds a space"),
        ("https://example.com\\@127.0.0.1/x", True, "holds a space, '\\'"),
        ("https://bücher.example/x", True, "not ASCII"),
        ("https://example.com/x#y", True, "%23"),
        (f"https://a@b:{SECRET}@example.com/x", True, "%40"),
        (f"https://me:12/{SECRET}@example.com/x", True, "%40"),
        ("", True, "is not https://HOST/PATH"),
    ],
)
def test_url_that_is_refused(url: str, private: bool, reason: str) -> None:
    """Before anything is looked up or sent; the text repeats neither login nor path."""
    with pytest.raises(ConfigError) as caught:
        WebhookAddress.parse(url, allow_private=private)
    assert reason in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "/x" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://127.1/", "https://2130706433/", "https://0x7f.1/", "https://localhost./"])
async def test_other_ways_to_write_this_machine(url: str) -> None:
    """They get past no check: what they stand for is looked at."""
    if "localhost" in url:
        with pytest.raises(ConfigError, match="not a public address"):
            WebhookAddress.parse(url)
        return
    error = await refused(WebhookSink("hook", WebhookAddress.parse(url)))
    assert "127.0.0.1 is not a public address" in str(error)


@pytest.mark.parametrize(
    ("allowed", "host", "passes"),
    [
        ([NAME], NAME, True),
        ([NAME.upper()], f"{NAME}.", True),
        (["*.example.com"], NAME, True),
        (["*.example.com"], "example.com", False),
        (["*.example.com"], "evil-example.com", False),
        (["example.com"], NAME, False),
        ([], NAME, False),
        (None, NAME, True),
    ],
)
def test_allowed_hosts(allowed: list[str] | None, host: str, passes: bool) -> None:
    """Only hosts of the list, exactly, or below a ``*.``; without a list all."""

    def parse() -> WebhookAddress:
        return WebhookAddress.parse(f"https://{host}/x", allowed_hosts=allowed)

    if passes:
        assert parse().host == host.lower()
    else:
        with pytest.raises(ConfigError, match="not one of the allowed hosts"):
            parse()


@pytest.mark.parametrize("host", ["s", "http", "https", "t.example.com"])
def test_host_that_occurs_in_the_scheme(host: str) -> None:
    """The URL is sent to as it was written."""
    assert WebhookAddress.parse(f"https://me:x@{host}:8443/a/{host}?b=1").url == f"https://{host}:8443/a/{host}?b=1"


def test_what_is_shown_of_an_address() -> None:
    """Neither login nor path nor query, in no text that it makes of itself."""
    address = WebhookAddress.parse(f"https://me:{SECRET}@{NAME}:8443/T0KEN?key=K3Y")
    sink = WebhookSink("hook", address, headers={"X-Key": SECRET})
    assert (sink.where, repr(sink)) == (f"https://{NAME}:8443", f"WebhookSink('hook', https://{NAME}:8443)")
    for text in (repr(address), str(address), repr(sink)):
        assert not any(secret in text for secret in (SECRET, "T0KEN", "K3Y", "me:"))


@pytest.mark.parametrize(
    "headers", [{"Host": "other"}, {"content-length": "1"}, {"X Y": "1"}, {"": "1"}, {"X": f"{SECRET}\r\nY: 1"}]
)
def test_header_that_cannot_be_sent(headers: dict[str, str]) -> None:
    """It is refused by its name; its value is not repeated."""
    with pytest.raises(ConfigError, match="header") as caught:
        hook("https://127.0.0.1/", headers=headers)
    assert SECRET not in str(caught.value)


# ---- apprise ------------------------------------------------------------------------------------------------------


def gotify(port: int, *, private: bool = True, resolve: Resolve | None = None, host: str = "127.0.0.1") -> AppriseSink:
    """A service of apprise that can be had on this machine."""
    settings = {} if resolve is None else {"resolve": resolve}
    return AppriseSink("phone", [f"gotify://{host}:{port}/{SECRET}"], allow_private=private, **settings)  # type: ignore[arg-type]


async def test_apprise(receiver: WebhookReceiver) -> None:
    """One message of the service for all notifications, with a title that counts them."""
    receiver.answer = answering(200, "{}")
    await gotify(receiver.port).deliver([news(), news("resolved", "firing")])
    (request,) = receiver.received
    assert request.path.startswith("/message")
    assert request.json["title"] == "AckScope: 1 firing, 1 resolved"
    assert "[RESOLVED] pending (warning): Too many messages wait" in request.json["message"]


async def test_service_of_apprise_fails(receiver: WebhookReceiver) -> None:
    """Told by the service's name alone, and tried again; redirects are not followed, whatever the URL says."""
    receiver.answer = answering(302, Location=f"http://127.0.0.1:{receiver.port}/elsewhere")
    sink = AppriseSink("phone", [f"gotify://127.0.0.1:{receiver.port}/{SECRET}?redirect=yes"], allow_private=True)
    error = await refused(sink)
    assert (str(error), error.retry) == ("apprise: not taken by Gotify; its log tells why", True)
    assert len(receiver.received) == 1
    assert SECRET not in repr(sink) + sink.where


async def test_service_of_apprise_in_a_private_network(receiver: WebhookReceiver) -> None:
    """It needs permission, as a webhook does."""
    resolve, asked = resolving(["10.1.2.3"])
    error = await refused(gotify(receiver.port, private=False, resolve=resolve, host="gotify.example.com"))
    assert "10.1.2.3 is not a public address" in str(error)
    assert asked == [("gotify.example.com", receiver.port)]
    assert receiver.received == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"json://me:{SECRET}@host", 'use kind = "webhook"'),
        (f"XMLS://me:{SECRET}@host", 'use kind = "webhook"'),
        (f"nothing://{SECRET}", "none that it knows"),
        (SECRET, "none that it knows"),
        ("slack://", "none that it knows"),
    ],
)
def test_url_that_apprise_does_not_take(url: str, reason: str) -> None:
    """It is refused without being repeated."""
    with pytest.raises(ConfigError, match=reason) as caught:
        AppriseSink("phone", [url])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "make"),
    [
        ("aiohttp", lambda: hook("https://127.0.0.1/")),
        ("apprise", lambda: AppriseSink("phone", ["gotify://host/token"])),
    ],
)
def test_extra_that_is_not_installed(module: str, make: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"pip install 'ackscope\[(alerts|apprise)\]'"):
        make()
