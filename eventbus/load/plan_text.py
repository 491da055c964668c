"""A plan in words, for people who want to know what would be done. Pure."""

from __future__ import annotations

from eventbus.alerts import Threshold
from eventbus.load.plan import LoadPlan
from eventbus.load.shape import Shape
from eventbus.url import BrokerUrl

MANY_TOPICS = 3
"""So many topics are named; of more, the number is told."""


def plan_text(plan: LoadPlan, total: int | None) -> str:
    """A line for each thing that a plan says, its url without credentials. total: messages, if known.

    Raises ConfigError for a url that cannot be.
    """
    window = f"{plan.max_pending:,} may wait at once, {plan.ack_timeout_s:g} s for each of {plan.max_attempts} attempts"
    rows = [
        ("name", plan.name),
        ("broker", BrokerUrl.parse(plan.url).redacted),
        ("topic" if len(plan.topic_names) == 1 else "topics", _topics(plan)),
        ("pace", _pace(plan)),
        ("ends", _end(plan, total)),
        ("warm-up", f"{plan.warm_up_s:g} s, not judged" if plan.warm_up_s else ""),
        ("payload", _payload(plan)),
        ("keys", f"one of {plan.keys:,}" if plan.keys else ""),
        ("headers", ", ".join(f"{name}={value}" for name, value in plan.headers.items())),
        ("acks", f"{plan.strategy}; {window}"),
        ("drain", f"{plan.drain_s:g} s at most"),
        ("processes", f"{plan.processes}" if plan.processes > 1 else ""),
        (
            "alerts",
            "the default rules" if plan.rules is None else ", ".join(rule.name for rule in plan.rules) or "none",
        ),
        ("told to", ", ".join(str(sink.get("name") or sink.get("kind")) for sink in plan.sinks)),
        *(("threshold", _threshold(threshold)) for threshold in plan.thresholds),
    ]
    return "\n".join(f"{name:10} {value}" for name, value in rows if value)


def topics_text(plan: LoadPlan) -> str:
    """``topic a.b``, or ``topics a, b``; of many, how many."""
    names = plan.topic_names
    if len(names) == 1:
        return f"topic {names[0]}"
    return f"{len(names):,} topics" if len(names) > MANY_TOPICS else f"topics {', '.join(names)}"


def _topics(plan: LoadPlan) -> str:
    if len(plan.topics) < 2:
        return plan.topic
    whole = sum(topic.weight for topic in plan.topics)
    named = [f"{topic.name} ({topic.weight / whole:.1%})" for topic in plan.topics[:MANY_TOPICS]]
    return ", ".join(named) + (f" and {len(plan.topics) - MANY_TOPICS:,} more" * (len(plan.topics) > MANY_TOPICS))


def _pace(plan: LoadPlan) -> str:
    if plan.workers is not None:
        return f"{plan.workers:,} workers, each of which awaits its ack"
    if plan.replay_at == "recorded":
        return "as recorded" + ("" if plan.replay_speed == 1 else f", {plan.replay_speed:g} times as fast")
    if plan.rate is None and plan.shape is None:
        return "as fast as the window lets"
    rate = f"{plan.rate:,g} msg/s" if plan.shape is None else _shape(plan.shape)
    return rate + (", at random intervals" if plan.arrivals == "poisson" else "")


def _shape(shape: Shape) -> str:
    return f"{shape.kind}, up to {shape.peak:,g} msg/s"


def _end(plan: LoadPlan, total: int | None) -> str:
    counts = [count for count in (plan.count, total) if count is not None]
    ends = [f"after {min(counts):,} messages"] if counts else []
    ends += [f"after {plan.sending_s:g} s"] if plan.sending_s is not None else []
    return " or ".join(ends) or "when it is stopped"


def _payload(plan: LoadPlan) -> str:
    if plan.replay is not None:
        return f"{plan.replay}" + (", over and over" if plan.loop else "")
    if plan.template is not None:
        return "JSON after a template"
    most = plan.payload_size_max
    return f"{plan.payload_size:,}{'' if most is None else f' to {most:,}'} random bytes"


def _threshold(threshold: Threshold) -> str:
    aborts = f" (ends the run, but not in its first {threshold.grace_s:g} s)" if threshold.abort else ""
    return threshold.expression.text + aborts
