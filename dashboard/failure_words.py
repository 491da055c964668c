"""What a failure means and what was done about it, in words: by kind, by class, by outcome and attempts. Pure.

The facts are those of the reply tables (docs/nats-replies.md, docs/kafka-replies.md) and of the retry policy: FATAL is
never repeated, TRANSIENT is until attempts or lifetime end, AMBIGUOUS only where the broker knows a message again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dashboard import style
from eventbus import ErrorClass, ErrorKind

ACKED_LATE = "acked late"
OUTCOMES: Mapping[str, tuple[str, str, str]] = {
    "rejected": ("violet", "block", "Certainly not stored."),
    "unknown": ("red", "help", "Sent, and no definite answer came: it may be stored."),
    ACKED_LATE: ("green", "done", "Stored: the ack came after the message had been given up as unknown."),
}
"""Colour, icon, and what it says of the message."""
CLASSES: Mapping[str, str] = {
    ErrorClass.TRANSIENT: "that attempt was certainly not stored, and trying again can help",
    ErrorClass.AMBIGUOUS: "that attempt may be stored",
    ErrorClass.FATAL: "that attempt was certainly not stored, and trying again cannot help",
}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a kind of error says, and what people can do. Both are sentences."""

    says: str
    advice: str


KINDS: Mapping[str, Meaning] = {
    ErrorKind.TIMEOUT: Meaning(
        "No ack came within the ack timeout. The message was sent, so the broker may have it: an answer can be lost "
        "or slow, a refusal would have been told.",
        "Is the broker slow, frozen, or full on its disk? Compare p99 on Latency with the ack timeout; a longer one "
        "costs nothing while all goes well.",
    ),
    ErrorKind.DISCONNECTED: Meaning(
        "The connection was lost while the message was on its way, or there was none until its lifetime ended.",
        "Look at Events for when it was lost. How long a message is held: attempts times the ack timeout, plus pauses.",
    ),
    ErrorKind.CLOSED: Meaning(
        "The bus was closed before an answer came.",
        "Call flush before close, or give close more time: the drain of the load plan.",
    ),
    ErrorKind.EXPIRED: Meaning(
        "It was never sent: its topic was not ready before the message's lifetime ended.",
        "Look at Events for why the topic could not be set up.",
    ),
    ErrorKind.NO_RESPONDERS: Meaning(
        "Nobody takes this subject now (status 503): there is no stream for it, JetStream is not ready, or a leader "
        "is being elected.",
        "Is there a stream for this subject, and is JetStream on for this account?",
    ),
    ErrorKind.NO_STREAM: Meaning(
        "There is no stream or topic of that name, and none may be created. On Kafka also: the topic was deleted "
        "while a batch was on its way.",
        "Create it, correct the name, or allow the topic to be created.",
    ),
    ErrorKind.PERMISSION: Meaning(
        "The broker does not allow this publisher here. Where the topic was acked before, the right was taken away "
        "meanwhile, and what was sent before that was heard is in doubt.",
        "Grant the right to publish (NATS: publish permissions; Kafka: Write on the topic), or use another user.",
    ),
    ErrorKind.STREAM_FULL: Meaning(
        "The stream has reached a limit and discards what is new (10077).",
        "Let consumers catch up, raise max_msgs or max_bytes, or choose discard: old if the oldest may be lost.",
    ),
    ErrorKind.TOO_LARGE: Meaning(
        "The message is larger than the stream, topic or broker takes; headers count as well.",
        "Send less in one message, or raise max_msg_size (NATS) or max.message.bytes (Kafka).",
    ),
    ErrorKind.INVALID: Meaning(
        "The broker found the message, or what its headers ask for, not valid here.",
        "The error's text names what it is; docs/nats-replies.md and docs/kafka-replies.md list what provokes each.",
    ),
    ErrorKind.OVERLOADED: Meaning(
        "The broker is short of a resource, or has too many requests at once.",
        "Send slower, with a smaller window, or give the broker more memory and disk.",
    ),
    ErrorKind.CONFLICT: Meaning(
        "What the message expects of the stream does not hold: a last id or sequence, or another stream's name. "
        "On Kafka: somebody else made the topic at the same moment.",
        "Read the last sequence again and decide anew. After a doubt, the first copy may be what is in the way.",
    ),
    ErrorKind.SEALED: Meaning(
        "The stream takes no more messages by its configuration.",
        "Publish to another stream; a sealed one cannot be opened again.",
    ),
    ErrorKind.ACCOUNT_LIMIT: Meaning(
        "A limit of the account is reached, or JetStream is not enabled for it.",
        "Raise the account's limits, delete what is not needed, or enable JetStream for it.",
    ),
    ErrorKind.UNAVAILABLE: Meaning(
        "The broker could not serve the request now: a leader moved, a replica was out of step, a disk failed, or the "
        "connection took no more.",
        "If it lasts, look at the broker's log and at the state of its cluster.",
    ),
    ErrorKind.NOT_ENOUGH_REPLICAS: Meaning(
        "Fewer replicas are in sync than the topic asks for. Refused before it was appended it is not stored; "
        "after that it may be.",
        "Bring the missing brokers back; min.insync.replicas says how many are needed.",
    ),
    ErrorKind.OUT_OF_SEQUENCE: Meaning(
        "The broker has lost count of this producer's batches, or misses one that failed.",
        "Nothing: the producer was replaced by a new one. If it comes again, look for what failed just before.",
    ),
    ErrorKind.FENCED: Meaning(
        "Another producer has taken this one's identity.",
        "AckScope uses no transactional id and replaces the producer by itself. If it comes again, the broker's log "
        "names who took it.",
    ),
    ErrorKind.PROTOCOL: Meaning(
        "An answer came that is no ack and no refusal that is known, so nothing is known of the message.",
        "Is what listens there a broker of this kind, and of a version in use today?",
    ),
    ErrorKind.UNACKNOWLEDGED: Meaning(
        "It was sent in a way that has no acknowledgement, so nothing can be said of it.",
        "Use a durable topic and a strategy that awaits acks.",
    ),
    ErrorKind.OTHER: Meaning(
        "A refusal, or an error of the broker, that no row of the reply tables names.",
        "The error's text is the broker's own; its log may tell more.",
    ),
}
NO_KIND = Meaning("No error was told with it.", "Look at Events for what happened at that time.")
NOT_SENT_IN_TIME = Meaning(
    "It waited for its turn until the ack timeout and was never handed over: its partition had no leader, no broker "
    "could be reached, or the producer was being replaced.",
    "Is every partition led, and can the brokers be reached? Events tell when a producer was replaced, and why.",
)
"""Of a timeout that is TRANSIENT, as there is on Kafka."""
_HELD_FOR_LIFETIME = frozenset({ErrorKind.EXPIRED, ErrorKind.DISCONNECTED, ErrorKind.UNAVAILABLE})


def meaning(kind: str, error_class: str | None = None) -> Meaning:
    """What a kind says, of a failure of that class; a kind of a newer version is told as such."""
    if not kind:
        return NO_KIND
    if kind == ErrorKind.TIMEOUT and error_class == ErrorClass.TRANSIENT:
        return NOT_SENT_IN_TIME
    unknown = Meaning(f"{style.words(kind).capitalize()}: a kind that this version does not know.", NO_KIND.advice)
    return KINDS.get(kind, unknown)


def class_words(error_class: str, kind: str) -> str:
    """What a class says of the attempt that failed."""
    if kind == ErrorKind.CLOSED:
        return "no other attempt could follow"  # close ends what may be stored as well as what was never sent
    return CLASSES.get(error_class, "not known to this version")


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often the messages of a group were sent, by those that were kept. error_class: of the last failure."""

    least: int
    most: int
    error_class: str | None = None


def handled(outcome: str, kind: str, attempts: Attempts | None, *, kafka: bool = False) -> str:
    """What AckScope did about it: given up at once, tried again, waited.

    attempts: None where none was kept. kafka: a broker that knows no message ids.
    """
    if outcome == ACKED_LATE:
        return (
            f"{_sent(attempts)} Given up as unknown when no more attempts were allowed, but remembered: the ack that "
            "came afterwards was still counted, and the message no longer counts as unknown."
        )
    if attempts is not None and attempts.most == 0:
        return _never_sent(kind, attempts.error_class)
    if outcome == "rejected":
        told = f"{_sent(attempts)} {_refused(kind, attempts, kafka=kafka)}"
        return told.replace("Sent", "Tried", 1) if kind == ErrorKind.TIMEOUT else told  # nothing left this process
    if kind == ErrorKind.CLOSED:
        return f"{_sent(attempts)} It was still awaited when the bus was closed, and close gave it this outcome."
    return f"{_sent(attempts)} {_in_doubt(attempts, kafka=kafka)} {_DOUBT}"


_DOUBT = "Once an attempt may have been stored, no later refusal makes that undone: only an ack would."


def _never_sent(kind: str, error_class: str | None) -> str:
    if kind == ErrorKind.CLOSED:
        why = "the bus was closed before it could be"
    elif error_class == ErrorClass.FATAL and kind not in _HELD_FOR_LIFETIME:
        why = "its topic could not be prepared, and waiting would not have helped"
    else:
        why = "at the end of its lifetime it was given up"
    return f"Held, and never sent: {why}. So it is certainly not stored."


def _refused(kind: str, attempts: Attempts | None, *, kafka: bool) -> str:
    error_class = None if attempts is None else attempts.error_class
    if kind == ErrorKind.CLOSED:
        return "The bus was closed before another attempt, and none before had left a doubt."
    if error_class == ErrorClass.FATAL:
        alone = " Its batch was halved until it was alone, so that it harmed no other message."
        return "The refusal is final, so it was given up at once." + (
            alone if kafka and kind == ErrorKind.TOO_LARGE else ""
        )
    if kind == ErrorKind.TIMEOUT:
        return "Each time it was taken back at its ack timeout, before it left, until no attempt or no time was left."
    again = "" if kafka else " with the same message id"
    return (
        f"Each refusal was answered by a pause that grows and another attempt{again}, until no attempt or no time was "
        "left. No attempt left a doubt."
    )


def _in_doubt(attempts: Attempts | None, *, kafka: bool) -> str:
    once = attempts is not None and attempts.most == 1
    if kafka and once:
        return (
            "Not sent again: Kafka knows no message ids, so the copy could be stored twice, which is worse than a "
            "doubt. What its client repeats by itself makes no second copy."
        )
    if kafka:
        return "Sent again only while it was certain that nothing was stored, or because the topic allows duplicates."
    if once:
        return (
            "Not sent again: the broker would not have known the copy by its message id, or no attempt was left, and "
            "a second copy is worse than a doubt."
        )
    return (
        "Sent again with the same message id, so that a broker that has it already stores no second copy; each "
        "attempt waited for its ack."
    )


def _sent(attempts: Attempts | None) -> str:
    if attempts is None:
        return "How often these were sent was not kept."
    if attempts.least == attempts.most:
        return "Sent once." if attempts.most == 1 else f"Sent {attempts.most} times."
    return f"Sent {attempts.least} to {attempts.most} times."
