"""Connection profiles without pages: the file, its secrets, and whether a broker answers."""

from __future__ import annotations

import json
import os
import stat
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.broker_choice import RESERVED
from dashboard.profile import MAX_NAME, MAX_SECRET, Login, Profile
from dashboard.profile_trials import Answer, Trials
from dashboard.profiles import MAX_PROFILES, Draft, Profiles, profiles_path
from eventbus.embedded.nats import EmbeddedNats
from eventbus.errors import ConfigError, ConnectFailed
from eventbus.load.setting import SettingRefused
from eventbus.url import BrokerUrl, take_credentials

SECRET = "s3cret-Of-The-Test"
URL = "nats://127.0.0.1:4222"
STAGING = Draft("staging", URL, Login.PASSWORD, "me", SECRET)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
NAMES = st.text(max_size=MAX_NAME + 5)
URLS = st.sampled_from(
    ["nats://a:1", "tls://a,tls://b:2", "nats://a,b", "wss://[::1]:80/path", "kafka://a:9092", "kafka+ssl://a,b:1"]
)


@pytest.fixture
def profiles(tmp_path: Path) -> Profiles:
    return Profiles(tmp_path / "config" / "profiles.toml")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- the file ---------------------------------------------------------------------------------------------------


def test_profile_is_kept_for_its_owner_alone(profiles: Profiles) -> None:
    """File 0600 and folder 0700 from the first byte; another reader of the file finds what was saved."""
    shown = profiles.save(STAGING)
    assert (shown.name, shown.shown, shown.login, shown.user) == ("staging", URL, Login.PASSWORD, "me")
    assert mode(profiles.path) == 0o600
    assert mode(profiles.path.parent) == 0o700
    assert not profiles.exposed()
    again = Profiles(profiles.path)
    assert again.list() == (shown,)
    assert again.full_url("staging") == f"nats://me:{SECRET}@127.0.0.1:4222"
    assert [path.name for path in profiles.path.parent.iterdir()] == ["profiles.toml"]


@given(NAMES, URLS, st.sampled_from(Login), TEXTS, TEXTS)
@settings(deadline=None, max_examples=60)
def test_any_name_and_any_secret_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, name: str, url: str, login: Login, user: str, secret: str
) -> None:
    """Whatever characters: what can be saved is read back exactly, and what cannot is refused and changes nothing. The
    connection's end gets the very user and secret out of the URL."""
    kept = Profiles(tmp_path_factory.mktemp("profiles") / "profiles.toml")
    kept.save(Draft("before", URL))
    draft = Draft(name, url, login, user, secret if login is not Login.NONE else "")
    try:
        shown = kept.save(draft)
    except SettingRefused:
        assert [one.name for one in kept.list()] == ["before"]
        printable = name and name == name.strip() and name.isprintable() and len(name) <= MAX_NAME
        assert not printable or name.casefold() == "before" or (login is Login.TOKEN and "kafka" in url)
        return
    assert shown in Profiles(kept.path).list()
    broker = BrokerUrl.parse(Profiles(kept.path).full_url(name))
    assert broker.redacted == BrokerUrl.parse(url).redacted
    words = {Login.NONE: (), Login.PASSWORD: (user, secret), Login.TOKEN: (secret,)}[login]
    taken = [take_credentials(server)[1] for server in broker.servers]
    assert taken == ([words, *[()] * (len(taken) - 1)] if broker.is_kafka else [words] * len(taken))


@given(st.text(max_size=30), st.binary(max_size=30))
@settings(deadline=None, max_examples=60)
def test_damaged_file_is_told_and_left_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, text: str, octets: bytes
) -> None:
    """Reading, saving and deleting are refused with the file's name; not a byte of it changes, and nothing of its
    secrets is in the text."""
    path = tmp_path_factory.mktemp("profiles") / "profiles.toml"
    damage = (
        f'[[profiles]]\nname = "a"\nurl = "{URL}"\npassword = "{SECRET}"\n]'.encode()
        + text.encode(errors="ignore")
        + octets
    )
    path.write_bytes(damage)
    kept = Profiles(path)
    for act in (kept.list, lambda: kept.save(STAGING), lambda: kept.delete("a"), lambda: kept.full_url("a")):
        with pytest.raises(ConfigError) as refused:
            act()
        assert str(path) in str(refused.value)
        assert SECRET not in str(refused.value)
    assert path.read_bytes() == damage


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"[[profiles]]\nname = 'a'\nurl = '{URL}'\npasword = '{SECRET}'", "profiles.toml:4: a setting is not known"),
        (f"[[profiles]]\nname = 'a'\nurl = '{URL}'\nuser = 'me'", "secret is empty"),
        (f"[[profiles]]\nname = 'a'\nurl = '{URL}'\npassword = '{SECRET}'", "user is empty"),
        (f"[[profiles]]\nname = 'a'\nurl = 'nats://me:{SECRET}@h'", "profiles.toml:3: url has a login"),
        (f"[[profiles]]\nname = 'a'\nurl = '{URL}'\ntoken = 5", "profiles.toml:4: token is no text"),
        (f"[[profiles]]\nname = 'a'\nurl = '{URL}'\ntoken = 'x'\nuser = 'y'", "a token, or user and password"),
        (f"[[profiles]]\nname = 'a'\nurl = '{URL}'\n[[profiles]]\nname = 'A'\nurl = '{URL}'", "profiles.toml:5"),
        ("[[profiles]]\nname = 'Kafka mock'\nurl = 'kafka://h'", "profiles.toml:2: name is that of a broker"),
        ("[[profiles]]\nname = 'a'\nurl = 'memory://'", "needs no profile"),
        ("profiles = 3", "profiles are tables"),
        ("[profile]", "only [[profiles]]"),
        ("#" * 300_000, "right file"),
    ],
)
def test_file_that_says_what_cannot_be_is_told_with_its_line(profiles: Profiles, content: str, said: str) -> None:
    """As every file of AckScope: name, line, cause; and nothing of a secret."""
    profiles.path.parent.mkdir()
    profiles.path.write_text(content)
    with pytest.raises(ConfigError) as refused:
        profiles.list()
    assert said in str(refused.value)
    assert SECRET not in str(refused.value)


def test_write_that_fails_leaves_the_file_of_before(profiles: Profiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """All or nothing: a full disk costs neither the profiles nor leaves a half of them behind."""
    profiles.save(STAGING)
    before = profiles.path.read_bytes()

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dashboard.profiles.os.fsync", fail)
    with pytest.raises(ConfigError, match=r"profiles\.toml: cannot be written: No space left"):
        profiles.save(Draft("other", URL))
    assert profiles.path.read_bytes() == before
    assert [path.name for path in profiles.path.parent.iterdir()] == ["profiles.toml"]


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_file_that_others_may_read_is_told_and_mended(profiles: Profiles) -> None:
    """Somebody copied it about: it is said, and the next change makes it private again."""
    profiles.save(STAGING)
    profiles.path.chmod(0o644)
    assert profiles.exposed()
    profiles.save(Draft("other", URL))
    assert (mode(profiles.path), profiles.exposed()) == (0o600, False)


def test_change_by_hand_is_seen(profiles: Profiles) -> None:
    """What was read is kept only as long as the file is the same."""
    profiles.save(STAGING)
    assert len(profiles.list()) == 1
    profiles.path.write_text(profiles.path.read_text() + f"[[profiles]]\nname = 'by hand'\nurl = '{URL}'\n")
    assert [one.name for one in profiles.list()] == ["by hand", "staging"]
    profiles.path.unlink()
    assert profiles.list() == ()


def test_file_behind_a_link_stays_behind_it(profiles: Profiles, tmp_path: Path) -> None:
    """Whoever keeps the file elsewhere keeps it there."""
    real = tmp_path / "elsewhere.toml"
    real.touch()
    profiles.path.parent.mkdir()
    profiles.path.symlink_to(real)
    profiles.save(STAGING)
    assert profiles.path.is_symlink()
    assert tomllib.loads(real.read_text())["profiles"][0]["name"] == "staging"


def test_number_of_profiles_is_bounded(profiles: Profiles) -> None:
    """One more than there may be is refused; the others stay."""
    for number in range(MAX_PROFILES):
        profiles.save(Draft(f"number {number}", URL))
    with pytest.raises(ConfigError, match="delete one first"):
        profiles.save(STAGING)
    profiles.save(STAGING, replaces="number 7")
    assert len(profiles.list()) == MAX_PROFILES


def test_two_sessions_lose_nothing_of_each_other(tmp_path: Path) -> None:
    """Each change is made to what is in the file then."""
    path = tmp_path / "profiles.toml"
    threads = [
        threading.Thread(target=Profiles(path).save, args=(Draft(f"number {number}", URL),)) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Profiles(path).list()) == 8


def test_place_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the variable of its own, by that of the store, else in the user's configuration folder."""
    monkeypatch.setenv("ACKSCOPE_HOME", str(tmp_path / "home"))
    assert profiles_path() == tmp_path / "home" / "profiles.toml"
    monkeypatch.setenv("ACKSCOPE_CONFIG_HOME", str(tmp_path / "config"))
    assert profiles_path() == tmp_path / "config" / "profiles.toml"
    monkeypatch.delenv("ACKSCOPE_HOME")
    monkeypatch.delenv("ACKSCOPE_CONFIG_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert profiles_path().parts[-2:] == ("ackscope", "profiles.toml")


def test_files_and_mechanism_are_kept(profiles: Profiles) -> None:
    """They are no secrets: a page may show them. What cannot be together is refused by its name."""
    files = {"ca_file": "/etc/ca.pem", "cert_file": "/etc/c.pem", "key_file": "/etc/k.pem"}
    creds = {"creds_file": "/home/me/a.creds", **files}
    profiles.save(Draft("nats", "tls://h", connection=creds))
    profiles.save(
        Draft("kafka", "kafka+ssl://h", Login.PASSWORD, "me", SECRET, {"mechanism": "SCRAM-SHA-512", **files})
    )
    again = Profiles(profiles.path)
    assert [one.connection for one in again.list()] == [{"mechanism": "SCRAM-SHA-512", **files}, creds]
    assert again.connection("nats") == creds
    for draft, key in (
        (Draft("a", "tls://h", Login.TOKEN, "", SECRET, {"creds_file": "x"}), ("login",)),
        (Draft("a", "kafka://h", connection={"creds_file": "x"}), ("connection", "creds_file")),
        (Draft("a", "tls://h", connection={"mechanism": "PLAIN"}), ("connection", "mechanism")),
        (Draft("a", "tls://h", connection={"key_file": "x"}), ("connection",)),
    ):
        with pytest.raises(SettingRefused) as refused:
            profiles.save(draft)
        assert refused.value.key == key
    assert len(profiles.list()) == 2


# ---- secrets ----------------------------------------------------------------------------------------------------


def test_nothing_tells_a_secret_by_itself() -> None:
    """Neither a profile, a draft, nor what a page is given; only the full URL has it."""
    made = Profile("a", URL, Login.PASSWORD, "me", SECRET)
    assert SECRET not in repr((made, STAGING, made.listed))
    assert SECRET in made.full_url


def test_empty_secret_keeps_the_one_there_was(profiles: Profiles) -> None:
    """Name, user, and how the URL is spelled can be changed without knowing the password."""
    profiles.save(STAGING)
    profiles.save(Draft("stage", URL, Login.PASSWORD, "you"), replaces="staging")
    assert [one.name for one in profiles.list()] == ["stage"]
    assert profiles.full_url("stage") == f"nats://you:{SECRET}@127.0.0.1:4222"


@pytest.mark.parametrize(
    ("draft", "field"),
    [
        (Draft("staging", "nats://elsewhere:4222", Login.PASSWORD, "me"), "secret"),
        (Draft("staging", "tls://127.0.0.1:4222", Login.PASSWORD, "me"), "secret"),
        (Draft("staging", f"{URL},nats://elsewhere:1", Login.PASSWORD, "me"), "secret"),
        (Draft("staging", URL, Login.TOKEN), "secret"),
    ],
)
def test_kept_secret_is_never_sent_anywhere_else(profiles: Profiles, draft: Draft, field: str) -> None:
    """Who may edit a profile must not learn its password by having it sent to a server of theirs."""
    profiles.save(STAGING)
    with pytest.raises(SettingRefused) as refused:
        profiles.save(draft, replaces="staging")
    assert refused.value.key == (field,)
    assert profiles.full_url("staging") == f"nats://me:{SECRET}@127.0.0.1:4222"


def test_login_that_is_taken_away_is_forgotten(profiles: Profiles) -> None:
    """Nothing of it stays in the file."""
    profiles.save(STAGING)
    profiles.save(Draft("staging", URL), replaces="staging")
    assert SECRET not in profiles.path.read_text()
    profiles.delete("staging")
    assert profiles.list() == ()


@pytest.mark.parametrize(
    ("draft", "field"),
    [
        (Draft("", URL), "name"),
        (Draft(" a", URL), "name"),
        (Draft("a\nb", URL), "name"),
        (Draft("\ud800", URL), "name"),
        (Draft("x" * (MAX_NAME + 1), URL), "name"),
        *((Draft(name.upper(), URL), "name") for name in RESERVED),
        (Draft("STAGING", URL), "name"),
        (Draft("a", ""), "url"),
        (Draft("a", "http://h"), "url"),
        (Draft("a", f"nats://me:{SECRET}@h"), "url"),
        (Draft("a", "nats://h\n"), "url"),
        (Draft("a", "nats://" + "h" * 3000), "url"),
        (Draft("a", "embedded+nats://"), "url"),
        (Draft("a", URL, Login.PASSWORD, "", SECRET), "user"),
        (Draft("a", URL, Login.PASSWORD, "me", ""), "secret"),
        (Draft("a", URL, Login.PASSWORD, "me", "\udfff"), "secret"),
        (Draft("a", URL, Login.TOKEN, "", SECRET * MAX_SECRET), "secret"),
        (Draft("a", "kafka://h", Login.TOKEN, "", SECRET), "login"),
        (Draft("a", "nats+context://x", Login.TOKEN, "", SECRET), "login"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(profiles: Profiles, draft: Draft, field: str) -> None:
    """So that the page can say it there; the file stays as it was, and a secret is not repeated."""
    profiles.save(STAGING)
    with pytest.raises(SettingRefused) as refused:
        profiles.save(draft)
    assert refused.value.key == (field,)
    assert SECRET not in str(refused.value)
    assert len(profiles.list()) == 1


def test_profile_that_is_gone_is_told(profiles: Profiles) -> None:
    """Another session deleted it meanwhile: nothing is made up in its place."""
    for act in (profiles.full_url, profiles.delete, lambda name: profiles.save(STAGING, replaces=name)):
        with pytest.raises(ConfigError, match="no profile 'staging' any more"):
            act("staging")


# ---- trials -----------------------------------------------------------------------------------------------------


def test_one_trial_at_a_time_and_the_newest_is_kept() -> None:
    """A second one does nothing while the first is going on; what changed since is forgotten."""
    go, asked = threading.Event(), []

    def ask(url: str, connection: Mapping[str, str]) -> Answer:
        asked.append(url)
        assert go.wait(10)
        return Answer("nats-server 1.2.3", 0.001, encrypted=False)

    trials = Trials(ask)
    trials.begin("a", "nats://a", {})
    trials.begin("b", "nats://b", {})
    assert trials.running
    go.set()
    trials.wait(10)
    assert asked == ["nats://a"]
    trial = trials.of("a")
    assert trial is not None
    assert (trial.running, trial.answer, trials.of("b")) == (False, Answer("nats-server 1.2.3", 0.001, False), None)
    trials.forget("a")
    assert trials.of("a") is None


def test_trial_of_a_profile_that_was_changed_meanwhile_is_dropped() -> None:
    """What it finds is not of the profile as it is now."""
    go = threading.Event()

    def ask(url: str, connection: Mapping[str, str]) -> Answer:
        assert go.wait(10)
        raise ConnectFailed("too late")

    trials = Trials(ask)
    trials.begin("a", "nats://a", {})
    trials.forget("a")
    assert not trials.running
    go.set()
    trials.wait(10)
    assert trials.of("a") is None


@pytest.mark.integration
def test_trial_says_who_answers_or_what_is_wrong(profiles: Profiles) -> None:
    """A real server with a login: version and round trip with the right password, the server's no with a wrong one, and
    the reason where nobody listens. No text has the password."""
    trials = Trials()
    with EmbeddedNats(extra_config=f'authorization {{ user: me, password: "{SECRET}" }}') as server:
        url = server.url
        profiles.save(Draft("right", url, Login.PASSWORD, "me", SECRET))
        profiles.save(Draft("wrong", url, Login.PASSWORD, "me", SECRET + "x"))
        for name in ("right", "wrong"):
            trials.begin(name, profiles.full_url(name), profiles.connection(name))
            trials.wait(20)
    profiles.save(Draft("nobody", url, Login.TOKEN, "", SECRET))
    trials.begin("nobody", profiles.full_url("nobody"), profiles.connection("nobody"))
    trials.wait(20)
    right, wrong, nobody = (trials.of(name) for name in ("right", "wrong", "nobody"))
    assert right is not None
    assert right.answer is not None
    assert right.answer.what.startswith("nats-server 2.")
    assert 0 < right.answer.round_trip_s < 5
    assert (right.answer.encrypted, right.answer.warning) == (False, "")
    assert wrong is not None
    assert "uthoriz" in wrong.error
    assert nobody is not None
    assert "could not connect" in nobody.error
    assert SECRET not in repr((right, wrong, nobody))


@pytest.mark.integration
def test_context_of_the_nats_tool_brings_login_and_files(
    profiles: Profiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its URL is enough of a profile: credentials and certificates are what the context says."""
    folder = tmp_path / "xdg" / "nats" / "context"
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    trials = Trials()
    with EmbeddedNats(extra_config=f'authorization {{ user: me, password: "{SECRET}" }}') as server:
        told = {"url": server.url, "user": "me", "password": SECRET}
        (folder / "mine.json").write_text(json.dumps(told))
        profiles.save(Draft("mine", "nats+context://mine"))
        trials.begin("mine", profiles.full_url("mine"), profiles.connection("mine"))
        trials.wait(20)
    trial = trials.of("mine")
    assert trial is not None
    assert trial.answer is not None, trial.error


@pytest.mark.integration
def test_trial_of_a_kafka_tells_its_brokers(profiles: Profiles) -> None:
    """No broker of Kafka tells its version, so their number is told."""
    pytest.importorskip("aiokafka", reason="needs: pip install -r requirements-dev.txt")
    kafka = pytest.importorskip("eventbus.embedded.kafka")
    trials = Trials()
    with kafka.EmbeddedKafka() as mock:
        profiles.save(Draft("kafka", mock.url))
        trials.begin("kafka", profiles.full_url("kafka"), profiles.connection("kafka"))
        trials.wait(30)
    trial = trials.of("kafka")
    assert trial is not None
    assert trial.answer is not None, trial.error
    assert trial.answer.what.startswith("Kafka, ")
    assert trial.answer.round_trip_s > 0
