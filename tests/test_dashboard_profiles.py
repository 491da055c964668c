"""Connection profiles on the pages: kept on one, chosen on another, their secrets seen on none. And About."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard_fakes import MemorySource, StubControl, run_info

pytest.importorskip("streamlit", reason="the dashboard's tests need: pip install -r requirements-dev.txt")

from streamlit.testing.v1 import AppTest

from dashboard import about, plan_toml
from dashboard.control import LoadStatus, Phase
from dashboard.profile import Login
from dashboard.profile_trials import Answer, Trials
from dashboard.profiles import Draft, Profiles, profiles_path
from dashboard.source import RunHistory
from dashboard.views import profile_choice
from eventbus import ConnectFailed
from eventbus.embedded.nats import EmbeddedNats
from eventbus.load.plan import LoadPlan
from eventbus.observe import RunStatus, StoreReader

SECRET = "s3cret-Of-The-Test"
URL = "nats://127.0.0.1:4222"
STAGING = Draft("staging", URL, Login.PASSWORD, "me", SECRET)
RUN_S = 60.0


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Profiles of a test are no profiles of the user's, and of no other test."""
    monkeypatch.setenv("ACKSCOPE_HOME", str(tmp_path))
    monkeypatch.delenv("ACKSCOPE_CONFIG_HOME", raising=False)
    return tmp_path


@pytest.fixture
def profiles(home: Path) -> Profiles:
    return Profiles(profiles_path())


def settings_app(control, source, profiles, trials):  # its source is copied: no name of this file is known there
    from dashboard.views import telemetry

    telemetry.page(control, source, profiles, trials)


def live_app(source, history, control):
    from dashboard.views import live

    live.page(source, history, control, [])


def shown(
    tab: str,
    profiles: Profiles,
    *,
    source: MemorySource | None = None,
    status: LoadStatus | None = None,
    trials: Trials | None = None,
) -> AppTest:
    at = AppTest.from_function(
        settings_app,
        args=(StubControl(status), source or MemorySource(), profiles, trials or Trials(nobody)),
        default_timeout=30,
    )
    at.session_state["settings"] = tab
    at.run()
    assert not at.exception
    return at


def nobody(url: str, connection: Mapping[str, str]) -> Answer:
    raise ConnectFailed("nobody listens")


def live(control: StubControl, source: MemorySource | None = None) -> AppTest:
    source = source or MemorySource()
    return AppTest.from_function(live_app, args=(source, RunHistory(source), control), default_timeout=30).run()


def elements(at: AppTest) -> Iterator[Any]:
    """All that is drawn, as the browser is told it."""
    blocks = [at._tree]
    while blocks:
        block = blocks.pop()
        children = getattr(block, "children", {})
        blocks.extend(children.values())
        if not children:
            yield block


def page_of(at: AppTest) -> str:
    """The whole page as text: whatever a browser gets is in it."""
    return "\n".join(str(getattr(element, "proto", "")) for element in elements(at))


def text_of(at: AppTest) -> str:
    return " ".join(one.value for one in at.markdown).replace("\\", "")


def fill(at: AppTest, name: str, url: str, login: Login, user: str = "", secret: str = "") -> AppTest:
    form: Any = at
    slot = next(str(one.key).removesuffix("name") for one in at.text_input if one.label == "Name")
    at.text_input(key=f"{slot}name").set_value(name)
    at.text_input(key=f"{slot}url").set_value(url)
    form.get_by_key(f"{slot}login").set_value(login)
    at.run()
    if login is Login.PASSWORD:
        at.text_input(key=f"{slot}user").set_value(user)
    if login is not Login.NONE:
        at.text_input(key=f"{slot}secret-{login}").set_value(secret)
    return at.button(key="profile_save").click().run()


# ---- kept -------------------------------------------------------------------------------------------------------


def test_without_profiles_the_page_says_what_they_are_for(profiles: Profiles) -> None:
    """The normal first sight: what to do, the empty form, and where it will be kept."""
    at = shown("Connections", profiles)
    assert at.info[0].proto.title == "No connection profile yet"
    assert [button.key for button in at.button] == ["profile_save"]
    assert "profiles.toml" in text_of(at)
    assert not profiles.path.exists()


def test_profile_is_saved_and_its_secret_is_not_seen_again(profiles: Profiles) -> None:
    """After Save the page knows name, URL, user and that there is a password; the browser's field is gone with it."""
    at = fill(shown("Connections", profiles), "staging", URL, Login.PASSWORD, "me", SECRET)
    assert not at.exception
    assert not at.error
    assert profiles.full_url("staging") == f"nats://me:{SECRET}@127.0.0.1:4222"
    assert "user me, a password is kept" in text_of(at)
    assert at.toast[0].value.replace("\\", "").startswith("Profile staging is saved")
    assert SECRET not in page_of(at)
    assert SECRET not in repr(at.session_state)
    assert SECRET not in page_of(at.button(key="profile-edit-0").click().run())


def test_edit_with_an_empty_secret_keeps_it(profiles: Profiles) -> None:
    """The form says that it is kept; another name does not need it, another server does."""
    profiles.save(STAGING)
    at = shown("Connections", profiles)
    at.button(key="profile-edit-0").click().run()
    secret = next(one for one in at.text_input if one.proto.type == one.proto.PASSWORD)
    assert (secret.value, secret.placeholder) == ("", "kept as it is, unless you type another one")
    at = fill(at, "stage", "nats://elsewhere:4222", Login.PASSWORD, "me")
    assert "Password or token** must be given again" in at.error[0].value
    at = fill(at, "stage", URL, Login.PASSWORD, "you")
    assert not at.error
    assert profiles.full_url("stage") == f"nats://you:{SECRET}@127.0.0.1:4222"


def test_files_are_kept_shown_and_told_to_the_run(profiles: Profiles) -> None:
    """Typed under Files and mechanism; they are no secrets, so the form shows them again, and the plan has them."""
    at = shown("Connections", profiles)
    at.text_input(key="profile-0-ca_file").set_value(" /etc/ca.pem ")
    at = fill(at, "staging", "tls://h:4222", Login.TOKEN, secret=SECRET)
    assert not at.error
    at.button(key="profile-edit-0").click().run()
    assert next(one.value for one in at.text_input if str(one.key).endswith("ca_file")) == "/etc/ca.pem"
    control = StubControl()
    at = live(control)
    at.selectbox(key="broker").set_value("staging").run()
    at.button(key="start").click().run()
    (started,) = control.started
    command = started.command(started.url)
    assert (command["url"], command["connection"]) == (f"tls://{SECRET}@h:4222", {"ca_file": "/etc/ca.pem"})


def test_edit_can_be_left(profiles: Profiles) -> None:
    """Nothing is saved, and the form is that of a new profile again."""
    profiles.save(STAGING)
    at = shown("Connections", profiles)
    at.button(key="profile-edit-0").click().run()
    assert "Edit staging" in text_of(at)
    at.button(key="profile_cancel").click().run()
    assert "New profile" in text_of(at)
    assert [one.name for one in profiles.list()] == ["staging"]


def test_delete_asks_first(profiles: Profiles) -> None:
    """The button opens a question; only its answer deletes."""
    profiles.save(STAGING)
    at = shown("Connections", profiles)
    assert "Forget **staging** and its login?" in text_of(at)
    at.button(key="profile-delete-0").click().run()
    assert not at.exception
    assert profiles.list() == ()
    assert at.info[0].proto.title == "No connection profile yet"


@pytest.mark.parametrize(
    ("name", "url", "login", "secret", "said"),
    [
        ("", URL, Login.NONE, "", "**Name** cannot be used"),
        ("kafka MOCK", URL, Login.NONE, "", "**Name** is that of a broker"),
        ("a", f"nats://me:{SECRET}@h", Login.NONE, "", "**URL** has a login"),
        ("a", "ftp://h", Login.NONE, "", "**URL** cannot be used"),
        ("a", "kafka://h", Login.TOKEN, SECRET, "**Login** is a token"),
        ("a", URL, Login.TOKEN, "", "**Password or token** is empty"),
    ],
)
def test_what_cannot_be_saved_is_told_by_its_field(
    profiles: Profiles, name: str, url: str, login: Login, secret: str, said: str
) -> None:
    """Which, and what to give instead; nothing is written."""
    at = fill(shown("Connections", profiles), name, url, login, secret=secret)
    assert said in at.error[0].value
    assert SECRET not in at.error[0].value
    assert not profiles.path.exists()


def test_damaged_file_is_told_and_nothing_can_be_written(profiles: Profiles) -> None:
    """What is wrong, where, and what to do; no form whose Save would write over it."""
    profiles.path.write_text(f"[[profiles]]\nname = 'a'\npassword = '{SECRET}'\n]")
    at = shown("Connections", profiles)
    assert at.error[0].proto.title == "The connection profiles cannot be read"
    assert "at line 4, column 1" in at.error[0].value.replace("\\", "")
    assert not at.button
    assert SECRET not in page_of(at)


def test_file_that_cannot_be_written_is_told(profiles: Profiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason, and what was typed stays in the form."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dashboard.profiles.os.replace", fail)
    at = fill(shown("Connections", profiles), "staging", URL, Login.NONE)
    assert "cannot be written: No space left on device" in at.error[0].value.replace("\\", "")
    assert at.text_input(key="profile-0-name").value == "staging"


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_file_that_others_may_read_is_told(profiles: Profiles) -> None:
    """With the command that mends it."""
    profiles.save(STAGING)
    profiles.path.chmod(0o644)
    at = shown("Connections", profiles)
    assert "chmod 600" in at.warning[0].value
    profiles.path.chmod(0o600)
    assert not at.run().warning


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda *_: Answer("nats-server 2.15.1", 0.00031, encrypted=False), ("connected", "nats-server 2.15.1", "310")),
        (lambda *_: Answer("Kafka, 3 brokers", 0.002, encrypted=True), ("connected", "Kafka, 3 brokers", "lock: encr")),
        (nobody, ("no connection",)),
    ],
)
def test_trial_says_what_became_of_it(profiles: Profiles, ask: Callable[..., Answer], words: tuple[str, ...]) -> None:
    """Try it connects with the secret, in the background, and tells who answered or why nobody did."""
    profiles.save(STAGING)
    asked: list[str] = []
    trials = Trials(lambda url, connection: asked.append(url) or ask(url, connection))  # type: ignore[func-returns-value]
    at = shown("Connections", profiles, trials=trials)
    at.button(key="profile-try-0").click().run()
    trials.wait(10)
    at.run()
    assert not at.exception
    assert asked == [f"nats://me:{SECRET}@127.0.0.1:4222"]
    assert all(word in text_of(at) for word in words)
    assert [error.value for error in at.error] == (["nobody listens"] if ask is nobody else [])
    assert SECRET not in page_of(at)


# ---- chosen -----------------------------------------------------------------------------------------------------


def test_profile_is_chosen_where_brokers_are_and_only_the_start_has_its_secret(profiles: Profiles) -> None:
    """It stands between the brokers that come along and one's own; the page, its address and the plan to download have
    the URL without login, and the worker is told it with."""
    profiles.save(STAGING)
    control = StubControl()
    at = live(control)
    assert at.selectbox(key="broker").options == ["Embedded NATS", "Kafka mock", "staging", "Own broker"]
    at.selectbox(key="broker").set_value("staging").run()
    assert not at.exception
    at.button(key="start").click().run()
    assert not at.exception
    (started,) = control.started
    assert started.command(started.url)["url"] == f"nats://me:{SECRET}@127.0.0.1:4222"
    assert "url" not in started.more
    assert SECRET not in page_of(at)
    assert SECRET not in repr(at.session_state)


@pytest.mark.parametrize("how", ["deleted", "damaged"])
def test_profile_that_is_gone_starts_nothing(profiles: Profiles, how: str) -> None:
    """It stays chosen and says why it cannot be used: publishing to another broker in its place is nobody's wish."""
    profiles.save(STAGING)
    control = StubControl()
    at = live(control)
    at.selectbox(key="broker").set_value("staging").run()
    if how == "deleted":
        profiles.delete("staging")
    else:
        profiles.path.write_text("]")
    at.button(key="start").click().run()
    assert not at.exception
    assert control.started == []
    assert at.selectbox(key="broker").value == "staging"
    said = " ".join(one.value for one in at.caption).replace("\\", "")
    assert "The profile staging cannot be used" in said
    assert ("deleted or renamed" if how == "deleted" else "profiles.toml: ") in said
    at.selectbox(key="broker").set_value("Embedded NATS").run()
    at.button(key="start").click().run()
    assert [one.url for one in control.started] == ["embedded+nats://"]


def test_address_with_a_profile_that_is_none_begins_as_usual(profiles: Profiles) -> None:
    """A bookmark of a profile that is gone, or of another machine."""
    at = AppTest.from_function(
        live_app, args=(MemorySource(), RunHistory(MemorySource()), StubControl()), default_timeout=30
    )
    at.query_params["broker"] = "no such profile"
    at.run()
    assert not at.exception
    assert at.selectbox(key="broker").value == "Embedded NATS"


def test_damaged_file_does_not_disturb_other_brokers(profiles: Profiles) -> None:
    """Who uses no profile starts as ever."""
    profiles.path.write_text("]")
    control = StubControl()
    at = live(control)
    assert at.selectbox(key="broker").options == ["Embedded NATS", "Kafka mock", "Own broker"]
    at.button(key="start").click().run()
    assert not at.exception
    assert [one.url for one in control.started] == ["embedded+nats://"]


def test_plan_of_a_profile_comes_back_to_it(profiles: Profiles) -> None:
    """A downloaded plan has the URL without login; uploaded again it means the profile."""
    profiles.save(Draft("cluster", "tls://a,tls://b", Login.TOKEN, "", SECRET))
    assert profile_choice.name_of("tls://a,b") == "cluster"
    assert profile_choice.name_of("tls://a") is None
    assert profile_choice.name_of("nonsense") is None
    text = plan_toml.text_of(LoadPlan(url="tls://a,tls://b"))
    assert profile_choice.name_of(plan_toml.plan_from_upload(text.encode(), "plan.toml").url) == "cluster"


@pytest.mark.integration
def test_secret_is_nowhere_but_in_the_connection(profiles: Profiles, home: Path) -> None:
    """A real run with a login, as the page starts it: its acks are counted, and the secret is neither in the store, nor
    in what the worker says, nor among its arguments."""
    with EmbeddedNats(extra_config=f'authorization {{ user: me, password: "{SECRET}" }}') as server:
        profiles.save(Draft("staging", server.url, Login.PASSWORD, "me", SECRET))
        control = StubControl()
        at = live(control)
        at.selectbox(key="broker").set_value("staging").run()
        at.number_input(key="rate").set_value(500.0).run()
        at.button(key="start").click().run()
        (started,) = control.started
        command = {**started.command(started.url), "count": 300}
        lines = "".join(json.dumps(one) + "\n" for one in ({"cmd": "bad", "url": started.url}, command))
        store = home / "runs.db"
        with subprocess.Popen(
            [sys.executable, "-m", "eventbus", "worker", "--store", str(store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write(lines)
            worker.stdin.flush()
            said = []
            for line in worker.stdout:
                said.append(line)
                if json.loads(line)["event"] == "ended":
                    break
            arguments = Path(f"/proc/{worker.pid}/cmdline")
            listed = arguments.read_bytes() if arguments.exists() else b""
            rest, errors = worker.communicate(timeout=RUN_S)
    assert json.loads(said[-1])["report"]["acked"] == 300
    assert SECRET not in "".join(said) + rest + errors
    assert SECRET.encode() not in listed
    (run,) = StoreReader(store).runs()
    assert (run.status, run.url) == (RunStatus.FINISHED, server_address(said))
    for path in home.iterdir():
        assert path == profiles.path or SECRET.encode() not in path.read_bytes(), path
    source = MemorySource(run, StoreReader(store).samples(run.run_id))
    assert SECRET not in page_of(live(StubControl(), source))


def server_address(said: list[str]) -> str:
    """Where the run was, as the worker told it."""
    return next(str(told["url"]) for line in said if (told := json.loads(line))["event"] == "started")


# ---- about ------------------------------------------------------------------------------------------------------


def test_about_tells_versions_files_and_documents(profiles: Profiles, home: Path) -> None:
    """What a bug report needs, as text to copy: versions, what is kept where and how large; no secret."""
    profiles.save(STAGING)
    (home / "runs.db").write_bytes(b"x" * 3000)
    (home / "runs.db-wal").write_bytes(b"x" * 1096)
    at = shown("About", profiles, source=MemorySource(run_info(RunStatus.FINISHED)))
    report = at.code[0].value
    assert "AckScope: 0." in report
    assert f"Streamlit: {pytest.importorskip('streamlit').__version__}".casefold() in report.casefold()
    assert "embedded nats-server: 2." in report
    assert f"Runs: {about.short(home / 'runs.db')} (4 KiB)" in report
    assert "Alert rules and sinks:" in report
    assert "(not made yet)" in report
    assert "Newest run: run-1, finished, nats" in report
    assert "Apache License 2.0" in text_of(at)
    assert SECRET not in page_of(at)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (MemorySource(), "Newest run: none yet"),
        (MemorySource(run_info(RunStatus.INTERRUPTED)), "Newest run: run-1, interrupted, nats"),
        (MemorySource(trouble="the store is locked"), "Newest run: the store cannot be read: the store is locked"),
    ],
)
def test_about_without_runs_after_an_interrupted_one_and_with_a_failing_store(
    profiles: Profiles, source: MemorySource, said: str
) -> None:
    """It says so, and the rest of it is there as ever."""
    at = shown("About", profiles, source=source)
    assert said in at.code[0].value
    assert len(at.error) == (1 if source.trouble else 0)
    assert "Versions" in text_of(at)


def test_document_is_read_on_the_page(profiles: Profiles) -> None:
    """Those of the repository that are there; what would lead nowhere from a page is no link in it."""
    at = shown("About", profiles)
    documents = at.selectbox(key="document")
    assert len(documents.options) == len(about.DOCUMENTS)
    documents.set_value("docs/DESIGN.md").run()
    assert not at.exception
    assert "# How AckScope fits together" in text_of(at)
    assert "](" not in about.document("docs/DESIGN.md")
    assert "cannot be read" in about.document("docs/none.md")


def test_user_is_not_in_the_text_to_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Folders of the user are told from ``~`` on."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert about.short(tmp_path / "state" / "runs.db") == "~/state/runs.db"
    assert about.short(Path("/var/runs.db")) == "/var/runs.db"


def test_missing_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No page fails for it: the embedded broker itself says what to install."""
    from eventbus import ConfigError

    def missing() -> Path:
        raise ConfigError("none")

    monkeypatch.setattr(about, "find_nats_server", missing)
    about.server_version.cache_clear()
    try:
        assert about.server_version() == "not installed"
    finally:
        about.server_version.cache_clear()


@pytest.mark.parametrize("tab", ["Telemetry", "Connections", "About"])
def test_tabs_are_drawn_while_a_run_goes_on(profiles: Profiles, tab: str) -> None:
    """Settings can be looked at and changed meanwhile; they count for the next run."""
    profiles.save(STAGING)
    at = shown(tab, profiles, status=LoadStatus(Phase.RUNNING, "run-1", 1000.0))
    assert not at.error
    assert [one.label for one in at.tabs] == ["Telemetry", "Connections", "About"]
