"""KafkaArtifacts: the Java and the class path that run a real Apache Kafka, as pom.xml names it.

Maven resolves the class path once per machine; it is kept in the user's cache directory under a hash of pom.xml.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

POM = Path(__file__).with_name("pom.xml")
LEAST_JAVA = 17
"""The oldest Java that brokers of Apache Kafka 4 run on, by its release notes."""
RESOLVE_TIMEOUT_S = 600.0
"""Longest time for Maven to fetch about 50 MB; 15 s where the network is fast."""


@dataclass(frozen=True, slots=True)
class KafkaArtifacts:
    """java: the program. class_path: the jars, as Java takes them."""

    java: Path
    class_path: str


class ResolveFailed(Exception):
    """Maven did not find the artifacts; the text has what it said."""


@cache
def missing() -> str | None:
    """What keeps a real Kafka from running on this machine, in words; None if nothing does."""
    java = _java()
    if java is None:
        return f"no Java: install a Java {LEAST_JAVA} runtime, or name a cluster in ACKSCOPE_TEST_KAFKA"
    release = _java_release(java)
    if release < LEAST_JAVA:
        return f"{java} is Java {release}, and Apache Kafka 4 needs {LEAST_JAVA}; JAVA_HOME names another"
    if _cached_class_path() is None and shutil.which("mvn") is None:
        return "no Maven (mvn), which fetches Apache Kafka: install it, or name a cluster in ACKSCOPE_TEST_KAFKA"
    return None


def resolve() -> KafkaArtifacts:
    """Find all that is needed, by Maven if the cache has it not; may block for ``RESOLVE_TIMEOUT_S``.

    Test runs that ask at the same time wait for the first. Raises ResolveFailed with what Maven said.
    """
    if (reason := missing()) is not None:
        raise ResolveFailed(reason)
    java = _java()
    assert java is not None
    class_path = _cached_class_path()
    if class_path is None:
        with _locked():
            class_path = _cached_class_path() or _ask_maven()
    return KafkaArtifacts(java, class_path)


def _java() -> Path | None:
    if (home := os.environ.get("JAVA_HOME")) and (java := Path(home, "bin", "java")).is_file():
        return java
    found = shutil.which("java")
    return None if found is None else Path(found).absolute()


def _java_release(java: Path) -> int:
    """17 for ``openjdk version "17.0.15"``; 0 if it says nothing of the kind."""
    said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


def _cache_file() -> Path:
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:16]
    return platformdirs.user_cache_path("ackscope") / "tests" / f"kafka-{digest}.classpath"


def _cached_class_path() -> str | None:
    """As written by an earlier run, if every jar is still there: they lie in Maven's own repository."""
    try:
        class_path = _cache_file().read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    return class_path if all(Path(jar).is_file() for jar in class_path.split(os.pathsep)) else None


@contextmanager
def _locked() -> Iterator[None]:
    """One run at a time: Maven's repository is not made for two writers. The lock ends with us."""
    file = _cache_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _ask_maven() -> str:
    file = _cache_file()
    written = file.with_suffix(f".{os.getpid()}")
    command = ["mvn", "--batch-mode", "--no-transfer-progress", "--file", str(POM)]
    try:
        try:
            done = subprocess.run(
                [*command, "dependency:build-classpath", f"-Dmdep.outputFile={written}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=RESOLVE_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ResolveFailed(f"Maven took longer than {RESOLVE_TIMEOUT_S} s: {error.output}") from None
        if done.returncode or not written.is_file():
            raise ResolveFailed(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}")
        written.replace(file)  # whole or not at all
    finally:
        written.unlink(missing_ok=True)
    return file.read_text(encoding="utf-8").strip()
