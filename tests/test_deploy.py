"""deploy/: well formed, on names that are exported, with the thresholds of the house; promtool tests the alerts."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import eventbus
from dashboard import style
from dashboard.views import live_panels
from eventbus.alerts.rule import ERROR_RATIO_LIMIT, ERROR_RATIO_MIN_SETTLED, PENDING_LIMIT
from eventbus.telemetry import names

ALERTS, CONFIG, DASHBOARD = "alerts.yml", "prometheus.yml", "grafana-dashboard.json"
EXPORTED = {name for metric in names.METRICS for name in metric.prometheus_names}
LABELS = {names.prometheus_label(attribute.name) for attribute in names.ATTRIBUTES}
FROM_PROMETHEUS = {"job", "instance", "alertname", "alertstate"}
ACK_TIMEOUT_S = inspect.signature(eventbus.connect).parameters["ack_timeout_s"].default


@pytest.fixture(scope="module")
def deploy(root: Path) -> Path:
    return root / "deploy"


@pytest.fixture(scope="module")
def promtool() -> str:
    """Where Debian's prometheus package puts it."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool: apt-get install prometheus")
    return found


def run(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def rules(deploy: Path) -> list[dict[str, Any]]:
    groups = yaml.safe_load((deploy / ALERTS).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels(deploy: Path) -> list[dict[str, Any]]:
    found = json.loads((deploy / DASHBOARD).read_text(encoding="utf-8"))["panels"]
    assert isinstance(found, list)
    return found


def expressions(deploy: Path) -> Iterator[str]:
    """All of PromQL in deploy/, with Grafana's variables replaced as Grafana would."""
    yield from (rule["expr"] for rule in rules(deploy))
    board = json.loads((deploy / DASHBOARD).read_text(encoding="utf-8"))
    written = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    written += [annotation["expr"] for annotation in board["annotations"]["list"]]
    for expression in written:
        text = expression.replace("$__rate_interval", "30s").replace("$__range", "15m")
        yield text.replace("$job", "eventbus").replace("$instance", ".*")


def alert(deploy: Path, name: str) -> str:
    (found,) = [rule["expr"] for rule in rules(deploy) if rule.get("alert") == name]
    assert isinstance(found, str)
    return found


def test_alerts_as_promtool_sees_them(promtool: str, deploy: Path):
    """The rules are valid, their unit tests pass, and the configuration that names them is complete."""
    run(promtool, "check", "rules", ALERTS, cwd=deploy)
    run(promtool, "test", "rules", "alerts_test.yml", cwd=deploy)
    run(promtool, "check", "config", CONFIG, cwd=deploy)


def test_every_expression_is_promql(promtool: str, deploy: Path, tmp_path: Path):
    """Also those of the Grafana dashboard: as recording rules promtool parses them."""
    recorded = [{"record": f"expression:{i}", "expr": text} for i, text in enumerate(expressions(deploy))]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "all", "rules": recorded}]}), encoding="utf-8")
    run(promtool, "check", "rules", "--lint=none", "rules.yml", cwd=tmp_path)


def test_alerts_fire_in_a_test(deploy: Path):
    """Each alert is seen firing by a unit test, and seen silent."""
    tests = yaml.safe_load((deploy / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    cases = [(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]]
    firing = {name for name, fires in cases if fires}
    alerts = {rule["alert"] for rule in rules(deploy) if "alert" in rule}
    assert firing == alerts
    assert {name for name, fires in cases if not fires} == alerts


def test_names_are_exported(deploy: Path):
    """Rules and dashboard use metrics and labels that names.py has, as Prometheus writes them."""
    recorded = {rule["record"] for rule in rules(deploy) if "record" in rule}
    used: set[str] = set()
    for expression in expressions(deploy):
        bare = re.sub(r'"[^"]*"', "", expression)
        for listed in re.findall(r"\{([^}]*)\}", bare) + re.findall(r"\b(?:by|on|ignoring) \(([^)]*)\)", bare):
            assert set(re.findall(r"[a-zA-Z_]+", listed)) <= LABELS | FROM_PROMETHEUS, expression
        bare = re.sub(r"\{[^}]*\}|\b(?:by|on|ignoring) \([^)]*\)", "", bare)
        used |= set(re.findall(r"\b(?:eventbus|messaging)[a-zA-Z0-9_:]*", bare))
    assert used <= EXPORTED | recorded
    assert len(used) >= 10  # the pattern finds them


def test_outcomes_are_the_values_of_names(deploy: Path):
    """What a selector asks of eventbus_ack_outcome are values that it has."""
    asked = [text for e in expressions(deploy) for text in re.findall(r'eventbus_ack_outcome=~?"([^"]*)"', e)]
    assert {value for text in asked for value in text.split("|")} == set(names.OUTCOMES) - {"unacknowledged"}
    assert {frozenset(text.split("|")) for text in asked if "unknown" in text} == {names.FAILED}


def test_thresholds_are_those_of_the_house(deploy: Path):
    """The default alert rules and the default ack timeout, in the alerts and on the dashboard."""
    ratio = alert(deploy, "EventbusFailureRatio")
    assert ratio.endswith(f"> {ERROR_RATIO_LIMIT}")
    assert f">= {ERROR_RATIO_MIN_SETTLED})" in ratio
    assert alert(deploy, "EventbusPending").endswith(f"> {PENDING_LIMIT}")
    assert alert(deploy, "EventbusOldestPending").endswith(f"> {ACK_TIMEOUT_S:g}")
    levels = {"Error ratio": ERROR_RATIO_LIMIT, "Pending": PENDING_LIMIT, "Oldest pending": ACK_TIMEOUT_S}
    shown = [(p["title"], p["fieldConfig"]["defaults"].get("thresholds", {}).get("steps")) for p in panels(deploy)]
    for title, steps in shown:
        if title in levels:
            assert steps[-1]["value"] == levels[title], title


def test_ranges_hold_enough_scrapes(deploy: Path):
    """A rate needs two samples; with four scrapes or more in each range of an alert one may fail."""
    config = yaml.safe_load((deploy / CONFIG).read_text(encoding="utf-8"))
    interval_s = int(config["global"]["scrape_interval"].removesuffix("s"))
    ranges = [int(seconds) for rule in rules(deploy) for seconds in re.findall(r"\[(\d+)s\]", rule["expr"])]
    assert ranges
    assert min(ranges) >= 4 * interval_s


LOAD_ONLY = {"traffic", "scheduled", "heatmap", "lags"}
"""Charts of the Live page, by key, of what only a load knows; and the heatmap, which Prometheus' buckets are too wide
for."""


def test_dashboard_has_the_panels_of_the_live_page(deploy: Path):
    """The same figures and charts, in the same order, under the same names, but for what only a load knows."""
    tree = ast.parse(inspect.getsource(live_panels))
    figures: list[str] = []
    charts: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="trend"), args=[ast.Constant(value=str(title)), *_]):
                figures.append(title)
            case ast.AnnAssign(target=ast.Name(id="drawn"), value=ast.List(elts=rows)):
                for row in rows:
                    assert isinstance(row, ast.Tuple)
                    name, _, _, key, _ = row.elts
                    charts.append((ast.literal_eval(name), ast.literal_eval(key)))
    assert {key for _, key in charts} > LOAD_ONLY
    shown = [(panel["type"], panel["title"]) for panel in panels(deploy)]
    assert shown == [("stat", title) for title in figures] + [
        ("timeseries", title) for title, key in charts if key not in LOAD_ONLY
    ]


def test_dashboard_has_the_colours_of_the_live_page(deploy: Path):
    """One outcome and one error type have one colour everywhere."""
    colours = {
        panel["title"]: {o["matcher"]["options"]: o["properties"][0]["value"]["fixedColor"] for o in overrides}
        for panel in panels(deploy)
        if (overrides := panel["fieldConfig"]["overrides"])
    }
    assert colours["Failed attempts"] == style.ERROR_KIND_COLOURS
    assert colours["Outcomes"] == {
        "acked": style.ACKED,
        "duplicate": style.DUPLICATE,
        "late": style.LATE,
        "rejected": style.REJECTED,
        "unknown": style.UNKNOWN,
        "no ack": style.PENDING,
    }


def test_dashboard_can_be_imported(deploy: Path):
    """Its data source is chosen on import, ids and references are apart, and panels do not overlap."""
    found = panels(deploy)
    assert {panel["datasource"]["uid"] for panel in found} == {"${datasource}"}
    assert len({panel["id"] for panel in found}) == len(found)
    for panel in found:
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
    places = [panel["gridPos"] for panel in found]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24  # Grafana's grid


def test_collector_is_whole(deploy: Path):
    """Every part of a pipeline is configured, nothing is configured in vain, and all of it listens on loopback."""
    config = yaml.safe_load((deploy / "otel-collector.yaml").read_text(encoding="utf-8"))
    for kind in ("receivers", "processors", "exporters"):
        used = {part for pipeline in config["service"]["pipelines"].values() for part in pipeline[kind]}
        assert used == set(config[kind])
    protocols = config["receivers"]["otlp"]["protocols"]
    endpoints = [*(p["endpoint"] for p in protocols.values()), config["exporters"]["prometheus"]["endpoint"]]
    assert [endpoint.partition(":")[0] for endpoint in endpoints] == ["127.0.0.1"] * 3
    assert endpoints[-1] in targets(deploy, "collector")


def test_worker_is_scraped_on_loopback(deploy: Path):
    """At the port that the specification of OpenTelemetry gives a Prometheus exporter."""
    assert targets(deploy, "eventbus") == ["127.0.0.1:9464"]


def targets(deploy: Path, job: str) -> list[str]:
    config = yaml.safe_load((deploy / CONFIG).read_text(encoding="utf-8"))
    (scrape,) = [scrape for scrape in config["scrape_configs"] if scrape["job_name"] == job]
    return [target for group in scrape["static_configs"] for target in group["targets"]]
