"""``load`` and ``runs`` on the command line, as a person or a pipeline uses them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree

import pytest
from click.shell_completion import ShellComplete
from nats.js.api import DiscardPolicy, StreamConfig

from eventbus import load_bus
from eventbus.cli import cli, main
from eventbus.embedded.nats import EmbeddedNats
from eventbus.load.message import Messages
from eventbus.load.plan import LoadPlan
from eventbus.load.presets import PRESETS
from eventbus.observe import RunStatus, StoreReader
from eventbus.telemetry.environment import Signal, Target
from eventbus.telemetry.setup import Telemetry
from tests.nats_tools import add_stream, read_back
from tests.test_plan_file import malformed

WAIT_S = 30.0
MEMORY = ("load", "--url", "memory://", "--no-store")
SHORT = ("--rate", "500", "--duration", "300ms")
PLANS = sorted((Path(__file__).parents[1] / "examples" / "plans").glob("*.toml"))
MALFORMED = 60


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs are kept by default, and nothing is yet."""
    home = tmp_path / "home"
    monkeypatch.setenv("ACKSCOPE_HOME", str(home))
    return home


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedNats]:
    with EmbeddedNats() as server:
        yield server


@pytest.fixture
def nothing_starts(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails where a broker is started, a connection made, or a store written."""

    def refuse(*_: object, **__: object) -> NoReturn:
        pytest.fail("something was started")

    monkeypatch.setattr(EmbeddedNats, "start", refuse)
    monkeypatch.setattr("eventbus.load_bus.connect", refuse)
    monkeypatch.setattr("eventbus.load_command.StoreWriter", refuse)
    threads = threading.active_count()
    yield
    assert threading.active_count() == threads
    assert not home.exists()


def result_of(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """The JSON of a short run in this process."""
    assert main([*MEMORY, *arguments, "--json", "-"]) == code, capfd.readouterr().err
    result: dict[str, Any] = json.loads(capfd.readouterr().out)
    return result


# ---- verdict and exit code ------------------------------------------------------------------------------------------


def test_thresholds_that_hold(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit 0, a tick each with figures and units, the verdict in the JSON, and a case each in JUnit's XML."""
    thresholds = ["p99(ack_latency) < 250ms", "ratio(failed, accepted) < 1%", "rate(acked) > 0.5 * rate(offered)"]
    options = [word for threshold in thresholds for word in ("--threshold", threshold)]
    out, junit = tmp_path / "out.json", tmp_path / "junit.xml"
    assert main([*MEMORY, *SHORT, *options, "--name", "short", "--json", str(out), "--junit", str(junit)]) == 0
    lines = [line.split() for line in capfd.readouterr().out.splitlines() if line.startswith("✓")]
    assert [line[1] for line in lines] == ["p99(ack_latency)", "ratio(failed,", "rate(acked)"]
    assert re.fullmatch(r"[\d.]+ (µs|ms) 250 ms", " ".join(lines[0][-4:]))
    assert lines[1][-4:] == ["0", "%", "1", "%"]
    assert re.fullmatch(r"\d+/s \d+/s", " ".join(lines[2][-2:]))
    result = json.loads(out.read_text())
    verdict = result["verdict"]
    assert (verdict["passed"], [row["text"] for row in verdict["rows"]]) == (True, thresholds)
    assert (result["clean"], result["aborted"], result["sinks"]) == (True, None, [])
    (suite,) = ElementTree.parse(junit).getroot()
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("ackscope load short", "4", "0")
    assert [case.get("name") for case in suite] == ["messages", *thresholds]


def test_threshold_that_does_not_hold(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit 99, a cross, and a failure in JUnit's XML; whatever else holds."""
    junit = tmp_path / "junit.xml"
    options = ("--threshold", "p99(ack_latency) < 1us", "--threshold", "increase(acked) >= 150")
    assert main([*MEMORY, *SHORT, *options, "--junit", str(junit)]) == 99
    out = capfd.readouterr().out
    assert "All 150 accepted messages were acked." in out
    assert re.search(r"^✗  p99\(ack_latency\) < 1us +[\d.]+ (µs|ms) +1 µs$", out, re.MULTILINE)
    assert re.search(r"^✓  increase\(acked\) >= 150 +150 +150$", out, re.MULTILINE)
    assert "1 of 2 thresholds does not hold." in out
    (failure,) = ElementTree.parse(junit).getroot().iter("failure")
    assert re.fullmatch(r"does not hold: [\d.]+ (µs|ms) against 1 µs", failure.get("message") or "")


def test_threshold_about_which_nothing_is_known(capfd: pytest.CaptureFixture[str]) -> None:
    """What workers have no figures for was not met: exit 99, and the row says that there were no data."""
    assert main([*MEMORY, "--workers", "2", "--count", "20", "--threshold", "p99(scheduled_latency) < 1s"]) == 99
    assert re.search(r"^\?  p99\(scheduled_latency\) < 1s +no data", capfd.readouterr().out, re.MULTILINE)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("threshold", "code"), [(None, 1), ("ratio(failed, accepted) < 95%", 0), ("ratio(failed, accepted) < 1%", 99)]
)
def test_messages_that_failed(
    server: EmbeddedNats, threshold: str | None, code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without thresholds a refused message is exit 1; with them, they decide."""
    stream = StreamConfig(name=f"FULL{code}", subjects=[f"full{code}"], max_msgs=20, discard=DiscardPolicy.NEW)
    asyncio.run(add_stream(server.url, stream))
    path, junit = tmp_path / "plan.toml", tmp_path / "junit.xml"
    path.write_text(f'url = "{server.url}"\ntopic = "full{code}"\nrate = 500\ncount = 100\nmax_attempts = 1\n')
    words = ("--threshold", threshold) if threshold else ()
    assert main(["load", str(path), "--no-store", "--json", "-", "--junit", str(junit), *words]) == code
    out, err = capfd.readouterr()
    result = json.loads(out)
    assert (result["acked"], result["rejected"], result["clean"]) == (20, 80, False)
    assert "80 of 100 accepted messages were not acked." in err
    assert re.search(r"^error stream_full +80 +attempts", err, re.MULTILINE)
    failures = [case.get("message") for case in ElementTree.parse(junit).getroot().iter("failure")]
    assert len(failures) == (0 if code == 0 else 1)


def test_abort(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A threshold with abort and no grace ends the run long before its time: exit 99, and the table says why."""
    path, junit, store = tmp_path / "plan.toml", tmp_path / "junit.xml", tmp_path / "runs.db"
    path.write_text(
        'url = "memory://"\nrate = 500\nduration = "1h"\n'
        '[[thresholds]]\nexpression = "increase(acked) < 100"\nabort = true\ngrace = "0s"\n'
    )
    assert main(["load", str(path), "--store", str(store), "--junit", str(junit)]) == 99
    out, err = capfd.readouterr()
    assert re.search(r"The run was aborted after \d+ s: increase\(acked\) < 100 did not hold\.", out)
    assert "Traceback" not in err
    assert "ran to its end" in [case.get("name") for case in ElementTree.parse(junit).getroot().iter("testcase")]
    (run,) = StoreReader(store).runs()
    assert run.status is RunStatus.STOPPED
    assert run.verdict is not None
    assert run.verdict["passed"] is False
    assert "did not hold" in (run.error or "")


def test_ctrl_c_goes_before_the_verdict() -> None:
    """Whoever ended the run knows why: 130, also where a threshold does not hold."""
    process = subprocess.Popen(
        [sys.executable, "-m", "eventbus", *MEMORY, "--duration", "1h", "--threshold", "increase(acked) < 1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert "publishing to memory://" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert "increase(acked) < 1" in out


# ---- what is sent ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_example_plan_runs(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each file of examples/plans can be run, here for half a second, and what it asks for has a figure."""
    words = ("load", str(path), "--url", "memory://", "--duration", "500ms", "--warm-up", "0s", "--no-store")
    code = main([*words, "--json", "-"])
    result = json.loads(capfd.readouterr().out)
    assert code == (0 if result["verdict"]["passed"] else 99)
    assert result["clean"]
    assert result["settings"]["name"] == path.stem
    assert all(row["value"] is not None for row in result["verdict"]["rows"])


@pytest.mark.parametrize("name", list(PRESETS))
def test_preset_runs(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """So does each preset."""
    result = result_of(capfd, "--preset", name, "--duration", "300ms", "--warm-up", "0s")
    assert (result["settings"]["name"], result["verdict"]["passed"]) == (name, True)
    assert 25 <= result["acked"] <= 1000


@pytest.mark.parametrize(
    ("words", "pace"),
    [
        (("--rate", "500"), {"rate": 500, "shape": None, "workers": None, "arrivals": "poisson"}),
        (("--rate", "max"), {"rate": None, "shape": None, "workers": None, "arrivals": "constant"}),
        (("--workers", "3"), {"rate": None, "shape": None, "workers": 3, "arrivals": "constant"}),
        (
            ("--stage", "100ms:500"),
            {
                "rate": None,
                "shape": {"kind": "ramp", "stages": [{"duration_s": 0.1, "rate": 500.0}], "start_rate": 0},
                "workers": None,
                "arrivals": "poisson",
            },
        ),
    ],
)
def test_options_take_the_place_of_the_plans_pace(
    words: Sequence[str], pace: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Rate, stages and workers replace each other; the rest of the plan (soak) stays."""
    result = result_of(
        capfd, "--preset", "soak", *words, "--count", "20", "--threshold", "increase(acked) > 0", "--warm-up", "0s"
    )
    settings = result["settings"]
    assert {name: settings[name] for name in pace} == pace
    assert (settings["payload_size_max"], settings["duration_s"]) == (2_048, 3_600)


def test_stages(capfd: pytest.CaptureFixture[str]) -> None:
    """A ramp sends the area below it, and ends by itself; down to nothing is a stage as well."""
    result = result_of(capfd, "--stage", "200ms:1000", "--stage", "200ms:1000", "--stage", "200ms:0")
    assert result["offered"] == result["acked"] == 400
    assert 0.55 < result["sending_s"] < 2


def test_random_intervals(capfd: pytest.CaptureFixture[str]) -> None:
    """With a seed, random arrivals are the same each time; not evenly many."""
    first, again = (
        result_of(capfd, "--poisson", "--rate", "2000", "--duration", "300ms", "--seed", "5") for _ in range(2)
    )
    assert first["acked"] == again["acked"]
    assert 450 < first["acked"] < 750


def test_workers(capfd: pytest.CaptureFixture[str]) -> None:
    """The closed model ends by its count, and has no schedule that could be missed."""
    result = result_of(capfd, "--workers", "4", "--count", "500")
    assert (result["acked"], result["kept_up"], result["schedule_lag_s"]) == (500, True, 0)
    assert result["scheduled_latency_s"]["p99"] is None
    assert result["ack_latency_s"]["p99"] > 0


@pytest.mark.integration
def test_what_is_sent_is_what_was_asked_for(
    server: EmbeddedNats, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Topics by their weights, headers on each message, templates filled in: read back from the stream."""
    template = tmp_path / "order.json"
    template.write_text('{"number": {{ sequence }}, "name": {{ first_name }}}')
    words = (
        *("load", "--url", server.url, "--topic", "sent.a=2", "--topic", "sent.b=1", "--count", "900"),
        *("--rate", "max", "--header", "source=test", "--header", "kind=a=b", "--template", str(template)),
        *("--keys", "3", "--seed", "1", "--no-store", "--json", "-"),
    )
    assert main(words) == 0
    out, err = capfd.readouterr()
    assert "topics sent.a, sent.b" in err
    assert json.loads(out)["acked"] == 900
    messages = asyncio.run(read_back(server.url, "SENT"))
    share = Counter(message.topic for message in messages)
    assert share.total() == 900
    assert 540 < share["sent.a"] < 660
    bodies = [json.loads(message.payload) for message in messages]
    assert len({body["number"] for body in bodies}) == 900
    assert len({body["name"] for body in bodies}) > 20
    for message in messages:
        assert {"source": "test", "kind": "a=b"}.items() <= message.headers.items()


def test_replay_at_recorded_times(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Records come at the times in the file, counted from the first."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"timestamp": 1_700_000_000 + n / 100, "n": n}) + "\n" for n in range(50)))
    result = result_of(capfd, "--replay", str(path), "--replay-at", "recorded")
    assert (result["acked"], result["offered"]) == (50, 50)
    assert 0.49 <= result["sending_s"] < 2
    result = result_of(capfd, "--replay", str(path))  # else as fast as the window lets
    assert (result["acked"], result["sending_s"] < 0.4) == (50, True)


def test_payloads_of_a_range_of_sizes(capfd: pytest.CaptureFixture[str]) -> None:
    """``--payload-size 10-2000`` is in the plan as both ends."""
    settings = result_of(capfd, "--payload-size", "10-2000", "--count", "5")["settings"]
    assert (settings["payload_size"], settings["payload_size_max"]) == (10, 2000)


def test_warm_up_is_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Totals are of all; latencies and the verdict only of what came after the warm-up, and the store says the same."""
    store = tmp_path / "runs.db"
    words = ("load", "--url", "memory://", "--rate", "1000", "--duration", "1500ms", "--warm-up", "700ms")
    assert main([*words, "--threshold", "increase(acked) < 1000", "--store", str(store), "--json", "-"]) == 0
    out, err = capfd.readouterr()
    result = json.loads(out)
    assert result["acked"] == 1500
    measured = sum(count for _, count in result["scheduled_latency"]["counts"])
    assert 300 <= measured <= 950  # 800, but for what was late when the warm-up ended
    assert result["verdict"]["rows"][0]["value"] == measured
    assert "after the first 0.7 s" in err
    assert main(["runs", "show", "last", "--store", str(store), "--json"]) == 0
    figures = json.loads(capfd.readouterr().out)["figures"]
    assert figures["acked"] == measured
    assert figures["ack_latency_p99_s"] == result["ack_latency_s"]["p99"]
    assert figures["scheduled_latency_p99_s"] == result["scheduled_latency_s"]["p99"]
    assert figures["schedule_lag_max_s"] == result["schedule_lag_s"]


def test_run_that_ends_within_its_warm_up(capfd: pytest.CaptureFixture[str]) -> None:
    """Then nothing is judged: no latencies, and a threshold is not met."""
    words = ("--rate", "500", "--count", "50", "--warm-up", "10s", "--threshold", "p99(ack_latency) < 1s")
    result = result_of(capfd, *words, code=99)
    assert (result["acked"], result["ack_latency_s"]["p99"]) == (50, None)
    assert result["verdict"]["rows"][0]["passed"] is None


def test_rules_of_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Alerts are told in the progress, and kept with the run."""
    rules, store = tmp_path / "rules.toml", tmp_path / "runs.db"
    rules.write_text('[[rules]]\nname = "busy"\nwhen = "target_rate > 100"\nsummary = "much is sent"\n')
    words = ("load", "--url", "memory://", *SHORT, "--rules", str(rules), "--store", str(store))
    assert main(words) == 0
    assert "alert firing: busy: much is sent" in capfd.readouterr().err
    reader = StoreReader(store)
    (run,) = reader.runs()
    assert [change.rule for change in reader.alerts(run.run_id)][:1] == ["busy"]


def test_receiver_of_alerts_that_is_not_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The run is as good as any; who was not told, and why, is a warning, without the path, which may be a secret."""
    with socket.socket() as taken:  # bound and not listening: nobody answers there
        taken.bind(("127.0.0.1", 0))
        place = f"http://127.0.0.1:{taken.getsockname()[1]}"
        path = tmp_path / "rules.toml"
        path.write_text(
            '[[rules]]\nname = "busy"\nwhen = "target_rate > 100"\n'
            f'[[sinks]]\nkind = "webhook"\nurl = "{place}/token-of-ours"\nallow_private = true\n'
        )
        assert main([*MEMORY, *SHORT, "--rules", str(path), "--json", "-"]) == 0
    out, err = capfd.readouterr()
    told = re.findall(
        r"^warning: (\d) of \1 notifications of alerts did not arrive at webhook \((.*?)\): .+", err, re.M
    )
    assert [where for _, where in told] == [place]
    (sink,) = json.loads(out)["sinks"]
    assert (sink["delivered"], sink["failed"] + sink["dropped"]) == (0, int(told[0][0]))
    assert "token-of-ours" not in out + err


def test_where_each_process_is_scraped(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Several processes that publish serve Prometheus at ports of their own, and where that is, is said."""
    monkeypatch.setattr("eventbus.load_command.setup", lambda: Scraped())
    assert main([*MEMORY, *SHORT]) == 0
    assert "metrics:" not in capfd.readouterr().err
    monkeypatch.setattr("eventbus.load_command.driver", partial(_one_process, load_bus.driver))
    assert main([*MEMORY, *SHORT, "--processes", "2"]) == 0
    assert "metrics: this process serves http://localhost:9464/metrics; each one that" in capfd.readouterr().err


class Scraped(Telemetry):
    """Would be scraped, were it started."""

    def __init__(self) -> None:
        super().__init__([Target(Signal.METRICS, "prometheus", "http://localhost:9464/metrics")], None)


def _one_process(driver: Callable[..., Any], plan: LoadPlan, messages: Messages, **settings: Any) -> Any:
    return driver(replace(plan, processes=1), messages, **settings)


# ---- what is refused ------------------------------------------------------------------------------------------------

WRONG: list[tuple[str, str]] = [
    ("--threshold 'p99(ack_latncy) < 1s'", "--threshold.*column 5.*did you mean ack_latency"),
    ("--threshold 'p99(ack_latency) < 1%'", "column 18"),
    ("--threshold '1 < 2'", "--threshold"),
    ("--threshold ''", "--threshold"),
    ("--abort", "--abort needs a --threshold"),
    ("--stage 5s", "30s:5000"),
    ("--stage 5s:max", "not 'max'"),
    ("--stage 5s:-1", "rate is -1"),
    ("--stage 5s:nan", "--stage"),
    ("--stage 0s:5", "'0s' is not a duration"),
    ("--stage 5s:many", "'many' is not a number"),
    ("--stage 1s:5 --rate 5", "--rate and --stage exclude each other"),
    ("--stage 1s:5 --workers 5", "--workers and --stage exclude each other"),
    ("--rate 5 --workers 5", "--rate and --workers exclude each other"),
    ("--poisson --rate max", "--poisson needs a rate"),
    ("--poisson --workers 3", "--poisson needs a rate"),
    ("--workers 0", "--workers is 0; use 1 to"),
    ("--strategy wait_each", "needs workers"),
    ("--strategy nope", "'nope' is not one of"),
    ("--topic a=0 --topic b", "weight is 0"),
    ("--topic a=x", "the weight after = is not a number"),
    ("--topic a --topic a", "--topic is 'a' once more"),
    ("--topic 'a b' --topic c", "without spaces"),
    ("--topic =2", "--topic"),
    ("--header nope", "NAME=VALUE"),
    ("--header =a", "NAME=VALUE"),
    ("--payload-size 5-2", "'5-2' is not a range"),
    ("--payload-size a-b", "not a size in bytes"),
    ("--keys 0", "--keys is 0"),
    ("--warm-up 20s", "--warm-up is 20; use less than the 10 s"),
    ("--warm-up soon", "--warm-up.*10s, 2m or 1h"),
    ("--drain -1s", "--drain"),
    ("--max-attempts 0", "--max-attempts is 0; use 1 to"),
    ("--template /no/such/file", "--template /no/such/file: cannot be read: No such file"),
    ("--template {binary}", "is not UTF-8 at byte 0"),
    ("--template {broken}", "broken.toml: template, line 1, column 7: unknown field"),
    ("--replay {broken} --template {broken}", "exclude each other"),
    ("--replay-at recorded", "needs a file to replay"),
    ("--replay-at noon", "'noon' is not one of"),
    ("--loop", "--loop needs --replay"),
    ("--rules /no/such/rules.toml", "/no/such/rules.toml: cannot be read"),
    ("--rules {empty}", r"neither \[\[rules\]\] nor \[\[sinks\]\]"),
    ("--rules {sinks}", r"sinks.toml:\d+: .*https"),
    ("--store x.db --no-store", "--store and --no-store exclude each other"),
    ("--junit /no/such/folder/x.xml", "no directory /no/such/folder"),
    ("--junit {folder}", "is a directory"),
    ("--json {folder}", "is a directory"),
    ("--preset nope", "'nope' is not one of"),
    ("--preset smoke {empty}", "a plan file and --preset exclude each other"),
    ("--dask nope", "--dask.*'nope' is not the address of a Dask scheduler; write tcp://HOST:PORT"),
    ("--dask ''", "write tcp://HOST:PORT"),
    ("--dask http://host:8786", "write tcp://HOST:PORT"),
    ("--dask tcp://host:99999", "write tcp://HOST:PORT"),
    ("--processes 0", "--processes is 0"),
    ("--processes 5 --count 3", "one for each of 5 processes"),
    ("/no/such/plan.toml", "/no/such/plan.toml: cannot be read"),
    ("{broken}", "broken.toml"),
    ("{folder}", "cannot be read"),
    ("{binary}", "binary.toml"),
    ("{empty} {empty}", "unexpected extra argument"),
    ("--name {long}", "--name has"),
    ("--name {lines}", r"--name is 'first\\nsecond'; use one line"),
    ("--duration \N{ARABIC-INDIC DIGIT FIVE}s", "is not a duration"),
]


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(("words", "said"), WRONG, ids=[words for words, _ in WRONG])
def test_wrong_option(words: str, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exactly one line on standard error that says what is wrong, exit 2, and nothing was started."""
    contents = {
        "binary": b"\xff\xfe\x00",
        "broken": b'{"a": {{ nonsense_field }}}',
        "empty": b"",
        "sinks": b'[[sinks]]\nkind = "webhook"\nurl = "http://example.com/hook"\n',
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.toml").write_bytes(content)
    places = {name: str(tmp_path / f"{name}.toml") for name in contents}
    arguments = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", words)]
    arguments = [word.format(**places, folder=tmp_path, long="x" * 300, lines="first\nsecond") for word in arguments]
    assert_refused(["load", *arguments], said, capfd)


@pytest.mark.usefixtures("nothing_starts")
def test_telemetry_that_cannot_be_set_up(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A wrong variable of OpenTelemetry is told before a store is opened or a broker started."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    assert_refused(["load", "--url", "memory://"], "OTEL_TRACES_EXPORTER is 'zipkin'; use one or more of", capfd)


def assert_refused(arguments: Sequence[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: [^\n]+\n", err)
    assert re.search(said, err), err


@pytest.mark.usefixtures("nothing_starts")
def test_malformed_plans(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The same of plan files that cannot be, whatever is wrong with them: the line names the file."""
    chance = random.Random(6)
    path = tmp_path / "plan.toml"
    for _ in range(MALFORMED):
        path.write_text(malformed(chance)[0], encoding="utf-8")
        assert_refused(["load", str(path)], re.escape(str(path)), capfd)


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('url = "ftp://me:secret@host"', "broker URL .not shown.*use nats://"),
        ('url = "nats://"', "nats://"),
        ('replay = "missing.jsonl"', "missing.jsonl: cannot be read"),
        ('rate = 5\nduration = "5s"\nwarm_up = "6s"', "plan.toml:3: warm_up"),
        ("thresholds = ['p99(ack_latency) < 5']", "plan.toml:1: .*column"),
    ],
)
def test_plan_that_cannot_be_run(text: str, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What is no plan's fault by itself is found before anything starts, too."""
    path = tmp_path / "plan.toml"
    path.write_text(text)
    assert_refused(["load", str(path), "--check"], said, capfd)
    assert_refused(["load", str(path)], said, capfd)


# ---- looking before, and after --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("words", [["--preset", name] for name in PRESETS] + [[str(path)] for path in PLANS])
def test_check_sends_nothing(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """``--check`` shows the plan in words and starts nothing."""
    assert main(["load", *words, "--check"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "The plan can be run. Nothing was sent."
    shown = {line.split()[0] for line in lines[1:]}
    assert {"name", "pace", "ends", "payload", "acks", "threshold"} <= shown


@pytest.mark.usefixtures("nothing_starts")
def test_check_as_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With ``--json`` the settings, which a program can read; no password is in them."""
    words = ("--url", "nats://me:secret@127.0.0.1:1", "--count", "7", "--topic", "a=1", "--topic", "b=3", "--check")
    assert main(["load", *words, "--json", "-"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["settings"]["count"] == 7
    assert "broker     nats://127.0.0.1:1" in err
    assert "topics     a (25.0%), b (75.0%)" in err
    assert main(["load", *words, "--json", str(tmp_path / "plan.json")]) == 0
    assert "secret" not in "".join([out, err, *capfd.readouterr(), (tmp_path / "plan.json").read_text()])


def test_presets_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    """``--presets`` is a line for each."""
    assert main(["load", "--presets"]) == 0
    assert [line.split()[0] for line in capfd.readouterr().out.splitlines()] == list(PRESETS)


def test_help_under_headings(capfd: pytest.CaptureFixture[str]) -> None:
    """The many options of ``load`` stand under headings, each once, and no line is cut."""
    assert main(["load", "-h"]) == 0
    out = capfd.readouterr().out
    headings = re.findall(r"^(\w.*):$", out, re.MULTILINE)
    assert headings[:4] == ["What to run", "Where to", "How fast", "How long"]
    assert "Options" not in headings
    options = re.findall(r"^  (?:-\w, )?(--[\w-]+)", out, re.MULTILINE)
    assert len(options) == len(set(options)) >= 35
    assert {"--preset", "--threshold", "--warm-up", "--verbose", "--help"} <= set(options)


def test_commands_are_listed() -> None:
    """``-h`` lists the commands, each with a sentence, without loading what only one of them needs."""
    code = "import sys; from eventbus.cli import cli, main; main(['-h']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=True)
    commands = re.findall(r"^  (\w+) +\w", done.stdout, re.MULTILINE)
    assert {"alerts", "completion", "doctor", "load", "runs", "worker"} <= set(commands)
    assert not {"pandas", "plotly", "pyarrow", "faker", "dask", "distributed", "aiokafka"} & set(done.stderr.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What is printed for a shell is a script of that shell, as far as one is here to say so."""
    assert main(["completion", shell]) == 0
    script = capfd.readouterr().out
    assert "_ACKSCOPE_COMPLETE" in script
    program = shutil.which(shell)
    assert program is not None or shell != "bash"
    if program is not None:
        path = tmp_path / "completion"
        path.write_text(script)
        done = subprocess.run([program, "-n", str(path)], capture_output=True, timeout=WAIT_S, check=False)
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("words", "begun", "found"),
    [
        (["load"], "--pre", "--preset"),
        (["load", "--preset"], "b", "baseline"),
        (["runs"], "s", "show"),
        ([], "al", "alerts"),
    ],
)
def test_what_is_completed(words: list[str], begun: str, found: str) -> None:
    """Options, their words, and commands, also those that are loaded only when they are needed."""
    completion = ShellComplete(cli, {}, "ackscope", "_ACKSCOPE_COMPLETE")
    assert found in [item.value for item in completion.get_completions(words, begun)]


def test_shell_asks_for_completions() -> None:
    """What a shell runs at the tab key is answered by the program itself."""
    words = {"_ACKSCOPE_COMPLETE": "bash_complete", "COMP_WORDS": "ackscope load --pre", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "eventbus"], capture_output=True, text=True, timeout=WAIT_S, env=os.environ | words
    )
    assert done.stdout.splitlines() == ["plain,--preset", "plain,--presets"]


def test_store_by_default(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without ``--store`` a run is kept in $ACKSCOPE_HOME, where ``runs`` looks; with ``--no-store`` nowhere."""
    assert main([*MEMORY, "--count", "5"]) == 0
    assert not home.exists()
    assert "Kept as" not in capfd.readouterr().out
    assert main(["load", "--url", "memory://", "--count", "5", "--name", "kept"]) == 0
    (run_id,) = re.findall("^Kept as (.+): ackscope runs show last$", capfd.readouterr().out, re.MULTILINE)
    assert main(["runs", "list", "--json"]) == 0
    (run,) = json.loads(capfd.readouterr().out)["runs"]
    assert (run["run"], run["name"], run["status"]) == (run_id, "kept", "finished")
    assert (home / "runs.db").is_file()


@pytest.mark.usefixtures("home")
def test_runs_after_loads(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Real runs are listed, shown, compared, exported and reported, for people and as JSON, and the oldest go."""

    def told(*words: str) -> Any:
        assert main(["runs", *words, "--json"]) == 0, capfd.readouterr().err
        return json.loads(capfd.readouterr().out)

    for name, rate in (("slow", "200"), ("fast", "800")):
        words = ("--rate", rate, "--duration", "600ms", "--name", name, "--threshold", "p99(ack_latency) < 1s")
        assert main(["load", "--url", "memory://", *words]) == 0
    capfd.readouterr()
    assert [run["name"] for run in told("list")["runs"]] == ["fast", "slow"]
    shown = told("show", "slow")
    assert (shown["run"]["verdict"]["passed"], shown["figures"]["acked"], shown["failures"]) == (True, 120, [])
    compared = told("compare", "slow", "fast")
    assert [run["figures"]["acked"] for run in compared["runs"]] == [120, 480]
    for ending in ("csv", "parquet", "json", "html"):
        done = told("export", "last", str(tmp_path / f"run.{ending}"))
        assert done["bytes"] == (tmp_path / f"run.{ending}").stat().st_size > 500
    page = tmp_path / "report.html"
    told("report", "fast", str(page))
    text = page.read_text(encoding="utf-8")
    assert "p99(ack_latency)" in text
    assert "Plotly" in text
    assert told("prune", "--max-runs", "1")["deleted"] == [shown["run"]["run_id"]]
    assert [run["name"] for run in told("list")["runs"]] == ["fast"]
    for command in (["list"], ["show"], ["compare", "last", "last"]):
        assert main(["runs", *command]) == 0
        assert "fast" in capfd.readouterr().out
