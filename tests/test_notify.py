"""Telling people of alerts: which changes they are told of, and that no sink holds up the program or another sink."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.alerts import AlertRule, parse
from eventbus.alerts.notify import (
    Announcer,
    DeliveryError,
    DeliveryPolicy,
    Notification,
    Notifier,
    SinkStatus,
    try_sinks,
)
from eventbus.alerts.sinks.alertmanager import payload
from eventbus.alerts.sinks.log import LogSink
from eventbus.alerts.sinks.store import StoreSink
from eventbus.alerts.sinks.wording import sentence, title
from eventbus.errors import ConfigError
from eventbus.observe.run import AlertChange
from tests.fakes import FakeClock, FixedChance, until
from tests.notify_fakes import Sleeper, Told, news

FAST = DeliveryPolicy(base_delay_s=0, max_delay_s=0)


def raising(error: Exception) -> Callable[[], Awaitable[None]]:
    async def first() -> None:
        raise error

    return first


async def forever() -> None:
    await asyncio.Event().wait()


def notifier(*sinks: Told, policy: DeliveryPolicy = FAST, sleep: Sleeper | None = None) -> Notifier:
    return Notifier(sinks, clock=FakeClock(), sleep=sleep or Sleeper(), random=FixedChance(0.5), policy=policy)


# ---- which changes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("course", "told"),
    [
        ([("firing", "inactive"), ("resolved", "firing")], ["firing", "resolved"]),
        ([("pending", "inactive"), ("inactive", "pending")], []),
        ([("pending", "inactive"), ("firing", "pending"), ("firing", "firing")], ["firing", "firing"]),
        ([("firing", "pending"), ("recovering", "firing"), ("firing", "recovering")], ["firing"]),
        ([("firing", "pending"), ("recovering", "firing"), ("resolved", "recovering")], ["firing", "resolved"]),
        ([("firing", "pending"), ("no_data", "firing"), ("inactive", "no_data")], ["firing", "inactive"]),
        ([("resolved", "firing")], []),
        ([("firing", "inactive"), ("resolved", "firing"), ("inactive", "resolved")], ["firing", "resolved"]),
    ],
)
async def test_which_changes_people_are_told_of(course: list[tuple[str, str]], told: list[str]) -> None:
    """A beginning, repeats and an end that has a beginning; not what is only about to fire, nor a short recovery."""
    sink, store = Told(), Told("store", takes_all=True)
    telling = notifier(sink, store)
    for state, previous in course:
        telling.notify(news(state, previous))
    await telling.close(5)
    assert sink.changes == [f"pending {state}" for state in told]
    assert store.changes == [f"pending {state}" for state, _ in course]


async def test_muted_change_is_not_told() -> None:
    """A silenced alert reaches no sink but those that take all; once it is no longer silenced its repeat is told."""
    sink, store = Told(), Told("store", takes_all=True)
    telling = notifier(sink, store)
    telling.notify(news(muted="silenced by me"))
    telling.notify(news("firing", "firing", muted="silenced by me"))
    telling.notify(news("firing", "firing"))
    await telling.close(5)
    assert len(store.changes) == 3
    assert [n.repeat for batch in sink.batches for n in batch] == [True]


async def test_end_of_a_muted_alert_that_was_told() -> None:
    """Who heard that an alert fires hears that it ended, muted or not; who did not hears nothing."""
    sink = Told()
    telling = notifier(sink)
    telling.notify(news(rule="told"))
    telling.notify(news("resolved", "firing", rule="told", muted="inhibited by broker_disconnected"))
    telling.notify(news(rule="never told", muted="silenced by me"))
    telling.notify(news("resolved", "firing", rule="never told"))
    await telling.close(5)
    assert sink.changes == ["told firing", "told resolved"]


async def test_same_alert_of_two_runs() -> None:
    """What was told of one run says nothing about another."""
    sink = Told()
    telling = notifier(sink)
    telling.notify(news(run_id="run-1"))
    telling.notify(news(run_id="run-2"))
    await telling.close(5)
    assert sink.changes == ["pending firing", "pending firing"]


# ---- one sink harms neither the program nor another ---------------------------------------------------------------


async def test_hanging_sink_delays_nobody() -> None:
    """``notify`` returns at once, the other sink gets all, and the queue of the one that hangs stays bounded."""
    hanging, good = Told("hanging", forever), Told("good")
    telling = notifier(hanging, good)
    for number in range(300):
        telling.notify(news(rule=f"rule-{number}"))
        if number % 50 == 0:
            await until(lambda: not telling.status()[1].waiting)
            assert len(good.changes) == number + 1
    await until(lambda: len(good.changes) == 300)
    stuck, fine = telling.status()
    assert (fine.delivered, fine.waiting, fine.dropped, fine.failing) == (300, 0, 0, False)
    # The first one is being tried, 100 wait, the rest was dropped.
    assert (stuck.delivered, stuck.waiting, stuck.dropped) == (0, 101, 199)
    await telling.close(0)
    assert telling.status()[0] == replace(stuck, waiting=0, dropped=300)


async def test_full_queue_keeps_what_tells_of_an_end() -> None:
    """The oldest that is no end goes first; only where all are ends the oldest of them goes."""
    release = asyncio.Event()

    async def wait() -> None:
        await release.wait()

    sink = Told(first=wait, takes_all=True)
    telling = notifier(sink, policy=DeliveryPolicy(limit=3))
    telling.notify(news(rule="under way"))
    await until(lambda: sink.attempts)
    for rule, state in [("a", "firing"), ("a", "resolved"), ("b", "firing"), ("b", "resolved"), ("c", "resolved")]:
        telling.notify(news(state, rule=rule))
    telling.notify(news("resolved", rule="d"))
    assert telling.status()[0].dropped == 3
    release.set()
    await telling.close(5)
    assert sink.changes == ["under way firing", "b resolved", "c resolved", "d resolved"]
    assert telling.status()[0].delivered == 4


async def test_retry_with_growing_pauses() -> None:
    """What can be tried again is, with pauses that double up to a limit; then it is given up, and the next one goes."""
    sink, sleep = Told(first=raising(DeliveryError("down", retry=True))), Sleeper()
    telling = notifier(sink, policy=DeliveryPolicy(attempts=6, base_delay_s=1, max_delay_s=6), sleep=sleep)
    telling.notify(news())
    await telling.close(5)
    # FixedChance(0.5): three quarters of 1, 2, 4, 6 and 6 s.
    assert sleep.slept_s == [0.75, 1.5, 3.0, 4.5, 4.5]
    status = telling.status()[0]
    assert (sink.attempts, status.failed, status.waiting, status.last_error) == (6, 1, 0, "down")
    assert status.failing


async def test_receiver_asks_for_patience() -> None:
    """Its pause is kept where it is longer than ours, up to 5 minutes."""
    sink, sleep = Told(first=raising(DeliveryError("busy", retry=True, after_s=60))), Sleeper()
    telling = notifier(sink, policy=DeliveryPolicy(attempts=2), sleep=sleep)
    telling.notify(news())
    await telling.close(5)
    other, longer = Told(first=raising(DeliveryError("busy", retry=True, after_s=1e9))), Sleeper()
    telling = notifier(other, policy=DeliveryPolicy(attempts=2), sleep=longer)
    telling.notify(news())
    await telling.close(5)
    assert (sleep.slept_s, longer.slept_s) == ([60], [300])


async def test_recovery_of_a_sink(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is lost while a sink is down for less than its attempts; the log tells of both turns, once each."""
    failures = [DeliveryError("down", retry=True)] * 3

    async def first() -> None:
        if failures:
            raise failures.pop()

    sink = Told(first=first)
    telling = notifier(sink)
    with caplog.at_level(logging.INFO, "eventbus.alerts"):
        telling.notify(news())
        await telling.close(5)
    assert sink.changes == ["pending firing"]
    status = telling.status()[0]
    assert (status.delivered, status.failed, status.last_error) == (1, 0, "down")
    assert [record.message for record in caplog.records] == [
        "notifications do not reach told: down",
        "notifications reach told again",
    ]


async def test_refusal_is_not_tried_again() -> None:
    """An error that no repetition helps against is told after one attempt, and what comes later is tried."""
    failures = [DeliveryError("no such channel", retry=False)]

    async def first() -> None:
        if failures:
            raise failures.pop()

    sink = Told(first=first)
    telling = notifier(sink)
    telling.notify(news(rule="a"))
    await until(lambda: sink.attempts == 1)
    telling.notify(news(rule="b"))
    await telling.close(5)
    assert sink.changes == ["b firing"]
    assert (telling.status()[0].failed, telling.status()[0].delivered) == (1, 1)


async def test_broken_sink() -> None:
    """What a sink raises by mistake ends that delivery and not the task; its text, which may be secret, is not kept."""
    sink = Told(first=raising(ValueError("https://me:secret@host")))
    telling = notifier(sink)
    telling.notify(news())
    await until(lambda: telling.status()[0].failed == 1)
    telling.notify(news(rule="next"))
    await telling.close(5)
    assert telling.status()[0].last_error == "the sink raised ValueError"
    assert sink.attempts == 2


async def test_attempt_has_a_deadline() -> None:
    """A sink that never returns is given up after the policy's timeout, and tried again."""
    sink = Told(first=forever)
    telling = notifier(sink, policy=DeliveryPolicy(attempts=2, base_delay_s=0, max_delay_s=0, timeout_s=0.01))
    telling.notify(news())
    await until(lambda: telling.status()[0].failed == 1)
    assert (sink.attempts, telling.status()[0].last_error) == (2, "no answer within 0.01 s")
    await telling.close(5)


async def test_close_with_a_dead_sink() -> None:
    """It ends in time, counts what was left as dropped, leaves no task, and later calls do nothing."""
    before = asyncio.all_tasks()
    sink = Told(first=forever)
    telling = notifier(sink)
    telling.notify(news(rule="a"))
    telling.notify(news(rule="b"))
    async with asyncio.timeout(2):
        await telling.close(0.01)
        await telling.close(10)
    telling.notify(news(rule="c"))
    status = telling.status()[0]
    assert (status.waiting, status.dropped, status.delivered, status.failed) == (0, 3, 0, 0)
    assert asyncio.all_tasks() == before


async def test_cancelled_close() -> None:
    """Cancelling ``close`` is honoured at once."""
    telling = notifier(Told(first=forever))
    telling.notify(news())
    closing = asyncio.create_task(telling.close(60))
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await telling.close(0)


def test_two_sinks_of_one_name() -> None:
    """Their status could not be told apart."""
    with pytest.raises(ConfigError, match="more than one sink is named 'told'"):
        notifier(Told(), Told())


@given(
    outcomes=st.lists(st.sampled_from(["ok", "retry", "refuse", "bug", "hang"]), max_size=30),
    count=st.integers(0, 40),
    limit=st.integers(1, 8),
    batch=st.integers(1, 5),
)
def test_every_notification_is_accounted_for(outcomes: list[str], count: int, limit: int, batch: int) -> None:
    """Whatever a sink does: delivered, failed, dropped and waiting add up at any time; nothing waits after close."""

    async def scenario() -> None:
        left = list(outcomes)

        async def first() -> None:
            outcome = left.pop() if left else "ok"
            if outcome == "hang":
                await forever()
            if outcome == "bug":
                raise KeyError
            if outcome != "ok":
                raise DeliveryError(outcome, retry=outcome == "retry")

        sink = Told(first=first, takes_all=True)
        telling = notifier(sink, policy=DeliveryPolicy(limit, batch, attempts=2, base_delay_s=0, max_delay_s=0))

        def total() -> int:
            status = telling.status()[0]
            assert status.waiting <= limit + batch
            return status.delivered + status.failed + status.dropped + status.waiting

        for number in range(count):
            telling.notify(news(rule=f"{number}"))
            assert total() == number + 1
            if number % 3 == 0:
                await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        await telling.close(0)
        status = telling.status()[0]
        assert (total(), status.waiting) == (count, 0)
        assert len(sink.changes) == status.delivered

    asyncio.run(scenario())


def test_pause_of_many_attempts() -> None:
    """It stays at its limit, however many there were."""
    assert DeliveryPolicy(max_delay_s=30).delay_s(5_000, 0.0) == 15


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"attempts": 0}, {"base_delay_s": 31.0}, {"timeout_s": 0.0}])
def test_policy_that_cannot_be(wrong: dict[str, float]) -> None:
    """It is refused with its values."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DeliveryPolicy(**wrong)  # type: ignore[arg-type]


# ---- from the engine's changes -------------------------------------------------------------------------------------


def test_notifications_of_a_run() -> None:
    """They carry the rule's words, when the alert began to fire, and the same fingerprint from beginning to end."""
    rule = AlertRule("slow", parse("pending > 5"), summary="Slow", description="Look at it", labels={"team": "a"})
    announcer = Announcer([rule], run_id="run-1", url="nats://broker:4222")
    course = [("pending", "inactive"), ("firing", "pending"), ("recovering", "firing"), ("firing", "recovering")]
    course += [("firing", "firing"), ("resolved", "firing"), ("firing", "resolved")]
    made = [
        announcer.notification(replace(news(state, previous, rule="slow").change, wall_s=100.0 + second))
        for second, (state, previous) in enumerate(course)
    ]
    assert [n.starts_at_s for n in made] == [100, 101, 101, 101, 101, 101, 106]
    assert [n.ends_at_s for n in made] == [None, None, None, None, None, 105, None]
    assert [n.repeat for n in made] == [False, False, False, False, True, False, False]
    assert {(n.summary, n.description, n.run_id, n.url) for n in made} == {
        ("Slow", "Look at it", "run-1", "nats://broker:4222")
    }
    assert len({n.fingerprint for n in made}) == 1
    assert made[0].labels == {"team": "orders"}


async def test_run_ends_while_an_alert_fires() -> None:
    """What still fires is told to be over; what has ended, or never fired, is not told of again."""
    announcer = Announcer([], run_id="run-1", url="")
    sink = Told()
    telling = notifier(sink)
    for change in (
        news(rule="still"),
        news(rule="over"),
        news("resolved", "firing", rule="over"),
        news("pending", rule="never"),
    ):
        telling.notify(announcer.notification(change.change))
    for notification in announcer.at_end(200.0):
        telling.notify(notification)
    await telling.close(5)
    assert sink.changes == ["still firing", "over firing", "over resolved", "still resolved"]
    assert sink.batches[-1][-1].ends_at_s == 200.0
    assert announcer.at_end(201.0) == []


# ---- trying the sinks ---------------------------------------------------------------------------------------------


async def test_trying_the_sinks() -> None:
    """Each is tried once and all at the same time; what became of it is in its status."""
    good, bad = Told("good"), Told("bad", raising(DeliveryError("wrong token", retry=True)))
    statuses = await try_sinks([good, bad, Told("stuck", forever)], clock=FakeClock(), timeout_s=0.05)
    assert [(status.delivered, status.failed, status.last_error) for status in statuses] == [
        (1, 0, None),
        (0, 1, "wrong token"),
        (0, 1, "no answer within 0.05 s"),
    ]
    assert bad.attempts == 1
    assert good.batches[0][0].test
    assert "Nothing is wrong" in sentence(good.batches[0][0])


def test_status_as_plain_values() -> None:
    """It survives JSON, and values of a later version are left out."""
    status = SinkStatus("hook", 1, 2, 3, 4, 5.0, "down", 6.0, 0.5, "https://host")
    assert status.failing
    assert SinkStatus.from_dict({**json.loads(json.dumps(status.to_dict())), "later": 1}) == status


# ---- log and store ------------------------------------------------------------------------------------------------


async def test_log_has_one_line_for_each(caplog: pytest.LogCaptureFixture) -> None:
    """At the level of its severity; line ends in a text cannot forge a line."""
    forged = replace(news(severity="critical"), summary="all fine\nERROR eventbus: forged")
    with caplog.at_level(logging.INFO, "eventbus.alerts"):
        await LogSink().deliver([forged, news("resolved", "firing"), news(severity="info")])
    assert [record.levelname for record in caplog.records] == ["CRITICAL", "INFO", "INFO"]
    assert caplog.messages[0] == (
        "[FIRING] pending (critical): all fine ERROR eventbus: forged; value 6000, threshold 5000; run=run-1; "
        "broker=nats://broker:4222; team=orders"
    )
    assert caplog.messages[1].startswith("[RESOLVED] pending (warning): Too many messages wait")


async def test_store_gets_every_change() -> None:
    """Muted ones too; no repeats and no tests, which are no changes."""
    kept: list[tuple[str, AlertChange]] = []
    muted = news(muted="silenced by me")
    sink = StoreSink(lambda run_id, change: kept.append((run_id, change)))
    await sink.deliver([muted, news("firing", "firing"), Notification.for_test(1.0), news("pending")])
    assert [(run, change.state, change.muted) for run, change in kept] == [
        ("run-1", "firing", "silenced by me"),
        ("run-1", "pending", ""),
    ]


# ---- what receivers get -------------------------------------------------------------------------------------------


def test_body_for_receivers_of_alertmanager() -> None:
    """All fields of version 4, with times in UTC and labels that tell where it happened."""
    fired, ended = news(severity="critical"), news("resolved", "firing", rule="error_ratio", wall_s=101.5)
    body = payload("hook", [fired, ended])
    assert body == {
        "version": "4",
        "groupKey": '{}:{run_id="run-1"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "hook",
        "groupLabels": {"run_id": "run-1"},
        "commonLabels": {"team": "orders", "run_id": "run-1", "instance": "nats://broker:4222"},
        "commonAnnotations": {"summary": "Too many messages wait", "value": "6000", "threshold": "5000"},
        "externalURL": "",
        "alerts": [
            {
                "status": "firing",
                "labels": {
                    "team": "orders",
                    "alertname": "pending",
                    "severity": "critical",
                    "run_id": "run-1",
                    "instance": "nats://broker:4222",
                },
                "annotations": {"summary": "Too many messages wait", "value": "6000", "threshold": "5000"},
                "startsAt": "1970-01-01T00:01:30.000Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "",
                "fingerprint": "of-pending",
            },
            {
                "status": "resolved",
                "labels": {
                    "team": "orders",
                    "alertname": "error_ratio",
                    "severity": "warning",
                    "run_id": "run-1",
                    "instance": "nats://broker:4222",
                },
                "annotations": {"summary": "Too many messages wait", "value": "6000", "threshold": "5000"},
                "startsAt": "1970-01-01T00:01:30.000Z",
                "endsAt": "1970-01-01T00:01:41.500Z",
                "generatorURL": "",
                "fingerprint": "of-error_ratio",
            },
        ],
    }


def test_alert_that_changed_twice_in_one_body() -> None:
    """Only its newest change is told, as Alertmanager does; the body has no NaN, which JSON does not know."""
    without = replace(news("resolved", "firing"), change=replace(news("resolved").change, value=math.nan))
    body = payload("hook", [news(), without])
    assert [alert["status"] for alert in body["alerts"]] == ["resolved"]
    assert body["status"] == "resolved"
    assert "value" not in body["alerts"][0]["annotations"]
    json.dumps(body, allow_nan=False)


def test_title_of_several() -> None:
    """It counts them by state."""
    several = [news(rule="a"), news(rule="b"), news("resolved", rule="c"), news("firing", "firing", rule="d")]
    assert title(several) == "AckScope: 2 firing, 1 resolved, 1 still firing"
    assert title(several[:1]) == "[FIRING] a (warning)"
