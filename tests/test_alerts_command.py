"""The command ``alerts``, the ``[[sinks]]`` of a file, and the examples of docs/alerts.md."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from eventbus.alerts import AlertRule, default_rules, rules_from
from eventbus.alerts.command import alerts
from eventbus.alerts.notify import Notifier, Sink
from eventbus.alerts.sinks.settings import sinks_from, sinks_from_plain
from eventbus.errors import ConfigError
from eventbus.toml_text import TomlText
from tests.fakes import FakeClock
from tests.notify_fakes import news
from tests.webhook_receiver import WebhookReceiver, answering

SECRET = "pa55-of-the-test"
ENVIRON = {
    "ALERT_TOKEN": SECRET,
    "ALERT_KEY": SECRET,
    "ALERT_URL": f"https://me:{SECRET}@hooks.example.com/T0KEN",
}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for a line of the table."""
    monkeypatch.setenv("COLUMNS", "250")


def ran(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error. Errors become what the command line makes of them."""
    with CliRunner().isolation() as (out, err, _):
        try:
            code = alerts.main(list(arguments), standalone_mode=False)
        except (ConfigError, click.ClickException) as error:
            return 2, "", str(error)
        return code, out.getvalue().decode(), err.getvalue().decode()


def written(folder: Path, text: str) -> str:
    path = folder / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def sinks(text: str, environ: Mapping[str, str] = ENVIRON) -> Any:
    return sinks_from(TomlText(text, "plan.toml"), environ=environ)


# ---- alerts test --------------------------------------------------------------------------------------------------


def hooks(*ports: int) -> str:
    return "".join(
        f'[[sinks]]\nkind = "webhook"\nurl = "http://127.0.0.1:{port}/{SECRET}"\nallow_private = true\n'
        for port in ports
    )


async def test_test_notification_arrives(tmp_path: Path) -> None:
    """Each sink gets one that says it is a test; exit code 0, and a row for each."""
    async with WebhookReceiver() as receiver:
        file = written(tmp_path, hooks(receiver.port) + '[[sinks]]\nkind = "log"\n')
        code, out, _ = await asyncio.to_thread(ran, "test", file, "--severity", "critical")
    (alert,) = receiver.alerts
    assert code == 0
    assert alert["labels"] == {"test": "true", "alertname": "test", "severity": "critical"}
    assert "Nothing is wrong" in alert["annotations"]["description"]
    rows = [re.split(r" {2,}", line.strip()) for line in out.splitlines()]
    assert rows[0] == ["sink", "where", "result", "time", "reason"]
    assert rows[1][:3] == ["webhook", f"http://127.0.0.1:{receiver.port}", "✓ delivered"]
    assert re.fullmatch(r"\d+ ms", rows[1][3])
    assert rows[2][:3] == ["log", "the log", "✓ delivered"]
    assert SECRET not in out


async def test_sink_that_fails(tmp_path: Path) -> None:
    """Exit code 1 where one failed, with the reason; it is tried once; JSON on standard output, the table elsewhere."""
    async with WebhookReceiver() as good, WebhookReceiver(answering(500, f"no {SECRET}")) as bad:
        file = written(tmp_path, hooks(good.port, bad.port))
        code, out, err = await asyncio.to_thread(ran, "test", file, "--json", "-")
        assert len(bad.received) == 1
        result = json.loads(out)
        assert (code, result["delivered"]) == (1, False)
        assert [(sink["name"], sink["delivered"], sink["failed"]) for sink in result["sinks"]] == [
            ("webhook", 1, 0),
            ("webhook-2", 0, 1),
        ]
        assert result["sinks"][1]["last_error"] == f"http://127.0.0.1:{bad.port} answered 500: no …"
        assert "✗ failed" in err
        code, out, _ = await asyncio.to_thread(ran, "test", file, "--sink", "webhook")
        assert (code, "webhook-2" in out, len(bad.received)) == (0, False, 1)


async def test_sink_that_hangs(tmp_path: Path) -> None:
    """It is given up after --timeout."""

    async def answer(request: object) -> Any:
        await asyncio.Event().wait()

    async with WebhookReceiver(answer) as receiver:
        file = written(tmp_path, hooks(receiver.port))
        code, out, _ = await asyncio.to_thread(ran, "test", file, "--timeout", "50ms")
    assert code == 1
    assert "no answer within 0.05 s" in out


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", [], "no [[sinks]]"),
        ('[[sinks]]\nkind = "log"\n', ["--sink", "lgo"], "no sink is named 'lgo'; there are log"),
        ('[[sinks]]\nkind = "log"\n', ["--severity", "bad"], "'bad' is not one of"),
        ('[[sinks]]\nkind = "log"\n', ["--timeout", "10"], "is not a duration"),
        ('[[sinks]]\nkind = "log"\n', ["--timeout", "0s"], "more than 0s"),
        ('[[sinks]]\nkind = "log"\n', ["--json", "/no/such/folder/out"], "no directory /no/such/folder"),
        ('[[sinks]]\nkind = "lgo"\n', [], "plan.toml:2: a sink's kind is 'lgo'; use one of log, webhook, apprise"),
    ],
)
def test_nothing_is_sent(text: str, options: list[str], said: str, tmp_path: Path) -> None:
    """Wrong usage and unusable files give one line, and exit code 2."""
    code, _, err = ran("test", written(tmp_path, text), *options)
    assert (code, "\n" in err) == (2, False)
    assert said in err


def test_file_that_is_not_there() -> None:
    """It is named."""
    assert ran("test", "/no/such/plan.toml") == (2, "", "/no/such/plan.toml: cannot be read: No such file or directory")


# ---- alerts check and list ----------------------------------------------------------------------------------------


def test_check_shows_rules_and_sinks(tmp_path: Path) -> None:
    """One row each; as JSON the rules as they can be read back. Nothing is sent."""
    file = written(
        tmp_path,
        '[[rules]]\nname = "slow"\nwhen = "p99(ack_latency, 1m) > 250ms"\nfor = "5s"\nsummary = "[b]slow[/b]"\n'
        '[[sinks]]\nkind = "webhook"\nurl = "https://me:x@hooks.example.com/T0KEN"\n',
    )
    code, out, _ = ran("check", file)
    assert code == 0
    rows = [re.split(r" {2,}", line.strip()) for line in out.splitlines()]
    assert rows[1] == ["slow", "warning", "p99(ack_latency, 1m) > 250ms", "5s", "[b]slow[/b]"]
    assert rows[3] == ["webhook", "https://hooks.example.com"]
    code, out, err = ran("check", file, "--json", "-")
    result = json.loads(out)
    assert (code, result["rules"][0]["name"], "slow" in err) == (0, "slow", True)
    assert result["sinks"] == [{"name": "webhook", "where": "https://hooks.example.com"}]


def test_check_knows_that_default_rules_inhibit(tmp_path: Path) -> None:
    """They need not be in the file; which of them a run gets along is told. A name that is none is refused."""
    text = '[[rules]]\nname = "slow"\nwhen = "pending > 5"\ninhibited_by = ["no_acks"]\n'
    code, out, _ = ran("check", written(tmp_path, text))
    assert code == 0
    assert "The default rules come along, to inhibit: broker_disconnected, no_acks" in out
    code, out, err = ran("check", written(tmp_path, text), "--json", "-")
    assert [rule["name"] for rule in json.loads(out)["rules"]] == ["slow"]
    assert "come along" in err
    code, _, err = ran("check", written(tmp_path, text.replace("no_acks", "no_ack")))
    assert (code, "did you mean no_acks?" in err) == (2, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[rule]]\nname = "a"\n', "plan.toml:1: 'rule' is not known here; did you mean rules?"),
        ('[[sink]]\nkind = "log"\n', "did you mean sinks?"),
        ("rate = 5\n", "neither [[rules]] nor [[sinks]]"),
        ('[[rules]]\nname = "a"\nwhen = "p99(ack_latenzy) > 1s"\n', "plan.toml:3: "),
        ("[[rules]\n", "line 1"),
    ],
)
def test_check_refuses(text: str, said: str, tmp_path: Path) -> None:
    """One line with the place, and exit code 2."""
    code, _, err = ran("check", written(tmp_path, text))
    assert (code, "\n" in err) == (2, False)
    assert said in err


def test_check_writes_json_to_a_file(tmp_path: Path) -> None:
    """The table stays on standard output then."""
    out_file = tmp_path / "out.json"
    code, out, _ = ran("check", written(tmp_path, '[[sinks]]\nkind = "log"\n'), "--json", str(out_file))
    assert (code, "the log" in out) == (0, True)
    assert json.loads(out_file.read_text()) == {"rules": [], "sinks": [{"name": "log", "where": "the log"}]}


def test_list_shows_the_default_rules() -> None:
    """All of them, for the given window and ack timeout."""
    code, out, _ = ran("list", "--max-pending", "100", "--ack-timeout", "2s", "--json", "-")
    expected = default_rules(max_pending=100, ack_timeout_s=2.0)
    assert code == 0
    assert json.loads(out)["rules"] == [rule.to_plain() for rule in expected]
    code, out, _ = ran("list")
    assert code == 0
    assert all(rule.name in out for rule in expected)


def test_help_tells_the_exit_codes() -> None:
    """Of ``test`` and of ``check``."""
    runner = CliRunner()
    for command in ("test", "check"):
        assert "Exit codes:" in runner.invoke(alerts, [command, "--help"]).output


# ---- sinks of a file ----------------------------------------------------------------------------------------------


def webhook(*lines: str) -> str:
    return "\n".join(["# a plan", "[[sinks]]", 'kind = "webhook"', 'url = "https://hooks.example.com/T0KEN"', *lines])


def test_names_of_sinks() -> None:
    """Given, or by kind and number; none twice."""
    made = sinks('[[sinks]]\nkind = "log"\n[[sinks]]\nkind = "log"\n[[sinks]]\nkind = "log"\nname = "third"\n')
    assert [sink.name for sink in made] == ["log", "log-2", "third"]
    assert sinks("") == ()
    assert sinks_from_plain([], environ={}) == ()
    assert sinks_from(TomlText('[a]\nsinks = [{kind = "log"}]', "x"), ("a", "sinks"))[0].name == "log"


async def test_secrets_of_the_environment() -> None:
    """They are sent, and shown nowhere."""
    async with WebhookReceiver() as receiver:
        environ = {**ENVIRON, "ALERT_URL": receiver.url.replace("http://", f"http://me:{SECRET}@")}
        made = sinks_from_plain(
            [
                {
                    "kind": "webhook",
                    "url": "env:ALERT_URL",
                    "allow_private": True,
                    "headers": {"X-Key": "env:ALERT_KEY"},
                },
                {"kind": "webhook", "url": receiver.url, "allow_private": True, "bearer_token": "env:ALERT_TOKEN"},
            ],
            environ=environ,
        )
        telling = Notifier(made, clock=FakeClock())
        telling.notify(news())
        await telling.close(5)
    by_key = {request.headers.get("X-Key"): request.headers["Authorization"] for request in receiver.received}
    assert by_key.keys() == {SECRET, None}
    assert by_key[None] == f"Bearer {SECRET}"
    assert by_key[SECRET].startswith("Basic ")
    assert SECRET not in f"{made} {telling.status()}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sinks = 5", "1: sinks are tables; write each as [[sinks]]"),
        ("sinks = [1]", "1: sinks are tables"),
        ("[sinks]\nkind = 'log'", "sinks are tables"),
        ("[[sinks]]\nname = 'x'", "a sink has no kind"),
        ("[[sinks]]\nkind = 5", "2: a sink's kind is 5"),
        ("[[sinks]]\nkind = 'log'\nurl = 'x'", "3: a sink of kind log has no 'url'; use kind, name"),
        ("[[sinks]]\nkind = 'log'\nname = 'a b'", "3: a sink's name is 1 to 64 letters"),
        ("[[sinks]]\nkind = 'log'\nname = 'store'", 'and not "store"'),
        ("[[sinks]]\nkind='log'\nname='a'\n[[sinks]]\nkind='log'\nname='a'", "6: more than one sink is named 'a'"),
        ("[[sinks]]\nkind = 'webhook'", "1: a sink of kind webhook needs url"),
        (webhook("timeot = '5s'"), "5: a sink of kind webhook has no 'timeot'; did you mean timeout?"),
        (webhook("timeout = 5"), "5: 5 is not a duration"),
        (webhook("timeout = '0s'"), "5: timeout is 0 s; use more than 0s and at most 30s"),
        (webhook("timeout = '31s'"), "5: timeout is 31 s"),
        (webhook("allow_private = 'yes'"), "5: allow_private is neither true nor false"),
        (webhook("headers = 5"), "5: headers is no table"),
        (webhook("headers = { Host = 'x' }"), "5: header 'Host' cannot be set"),
        (webhook("headers = { X = 5 }"), "5: headers.X is no text"),
        (
            webhook("headers = { X = 'env:NOT_THERE' }"),
            "5: headers.X is 'env:NOT_THERE', and this environment variable",
        ),
        (webhook("bearer_token = ''"), "5: bearer_token is no text, or an empty one"),
        (
            webhook("headers = { authorization = 'x' }", "bearer_token = 'y'"),
            "6: authorization and bearer_token exclude",
        ),
        (webhook("ca_file = '/no/such/file'"), "5: ca_file '/no/such/file': no certificates can be read: No such file"),
        (
            webhook("allowed_hosts = ['other.example.com']"),
            "4: https://hooks.example.com: not one of the allowed hosts",
        ),
        (webhook("allowed_hosts = 'x'"), "5: allowed_hosts is no list of texts"),
        ("[[sinks]]\nkind = 'webhook'\nurl = 'http://example.com/T0KEN'", "3: http://example.com: use https"),
        ("[[sinks]]\nkind = 'webhook'\nurl = 'env:ALERT_URL'\nbearer_token = 'x'", "bearer_token and the URL's login"),
        ("[[sinks]]\nkind = 'apprise'\nurls = []", "3: urls is empty"),
        (
            "[[sinks]]\nkind = 'apprise'\nurls = ['json://T0KEN']",
            "3: URL 1 of apprise is json://…; for any HTTP server",
        ),
        ("[[sinks]]\nkind = 'log'\n" * 21, "more than 20 sinks"),
    ],
)
def test_sink_that_is_refused(text: str, said: str) -> None:
    """One line: file, line, what is wrong, what is allowed; and nothing that is secret."""
    with pytest.raises(ConfigError) as caught:
        sinks(text)
    message = str(caught.value)
    assert message.startswith("plan.toml:")
    assert said in message
    assert "\n" not in message
    assert not any(secret in message for secret in (SECRET, "T0KEN"))


def test_hosts_that_the_operator_allows() -> None:
    """ACKSCOPE_ALERT_HOSTS holds whatever a plan says; an empty one allows none."""
    text = webhook("allowed_hosts = ['hooks.example.com']")
    assert len(sinks(text, {"ACKSCOPE_ALERT_HOSTS": "a.example.com, *.example.com"})) == 1
    for allowed in ("other.example.com", ""):
        with pytest.raises(ConfigError, match="not one of the allowed hosts"):
            sinks(text, {"ACKSCOPE_ALERT_HOSTS": allowed})


def test_place_in_json() -> None:
    """A list that came as JSON has paths for places."""
    with pytest.raises(ConfigError, match=r"^sinks\[1\]\.name: more than one sink is named 'log'"):
        sinks_from_plain([{"kind": "log"}, {"kind": "log", "name": "log"}], environ={})


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)
_TABLES = st.fixed_dictionaries(
    {"kind": st.sampled_from(["log", "webhook"]) | _VALUES},
    optional={
        "name": st.text(max_size=5) | _VALUES,
        "url": st.from_regex(r"https?://[a-z0-9.@:/\[\]%-]{0,30}", fullmatch=True) | _VALUES,
        "headers": st.dictionaries(st.text(max_size=8), st.text(max_size=8) | _VALUES, max_size=3) | _VALUES,
        "timeout": st.text(max_size=6) | _VALUES,
        "allow_private": st.booleans() | _VALUES,
        "allowed_hosts": st.lists(st.text(max_size=8), max_size=3) | _VALUES,
        "bearer_token": st.text(max_size=8) | _VALUES,
        "ca_file": st.text(max_size=8) | _VALUES,
    },
)


@given(st.lists(_TABLES, max_size=3) | _VALUES)
@example([{"kind": "webhook", "url": "https://0/"}])
@example([{"kind": "webhook", "url": "https://a/", "headers": {"X": "\x00"}}])
@example([{"kind": "webhook", "url": "https://a/", "ca_file": "\x00"}])
def test_any_sinks_at_all(items: Any) -> None:
    """They are taken, or refused in one line: no value crashes it."""
    refused = "sinks"
    made: tuple[Sink, ...] = ()
    try:
        made = sinks_from_plain(items, environ={})
    except ConfigError as error:
        refused = str(error)
    assert refused.startswith("sinks")
    assert "\n" not in refused
    assert len({sink.name for sink in made}) == len(made)


# ---- docs/alerts.md -----------------------------------------------------------------------------------------------


def test_examples_of_the_docs(root: Path) -> None:
    """Every TOML block is a file whose rules and sinks can be used, and together they show every key."""
    text = (root / "docs" / "alerts.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```$", text, re.M | re.S)
    rules: list[AlertRule] = []
    made: list[Sink] = []
    for number, block in enumerate(blocks):
        toml = TomlText(block, f"block {number}")
        rules += rules_from(toml)
        made += sinks_from(toml, environ=ENVIRON)
    assert [rule.name for rule in rules] == ["slow_acks", "lost"]
    assert (rules[0].clear, rules[0].for_s, rules[0].keep_firing_s, rules[0].repeat_s) == (0.2, 5, 10, 1800)
    assert [(sink.name, sink.where) for sink in made] == [
        ("log", "the log"),
        ("on-call", "https://alerts.example.com"),
        ("in-house", "https://hooks.example.com"),
        ("apprise", "Gotify"),
    ]
    shown = set(re.findall(r"^(\w+) = ", "\n".join(blocks), re.M))
    assert shown >= {"when", "clear", "for", "keep_firing_for", "min_samples", "no_data", "inhibited_by", "repeat"}


def test_commands_of_the_docs(root: Path, tmp_path: Path) -> None:
    """What is shown to be typed is there."""
    text = (root / "docs" / "alerts.md").read_text(encoding="utf-8")
    file = written(tmp_path, '[[sinks]]\nkind = "log"\n')
    commands = re.findall(r"^ackscope alerts (\w+)( plan.toml)?", text, re.M)
    assert [name for name, _ in commands] == ["check", "test", "list"]
    for name, argument in commands:
        assert ran(name, *([file] if argument else []))[0] == 0
