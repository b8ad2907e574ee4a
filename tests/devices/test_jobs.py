"""Detached jobs, on this machine and through a real SSH server."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.devices import jobs
from veca_edge.devices.connection import LocalConnection, connect, parse_device
from veca_edge.devices.jobs import Job, run_job


@pytest.fixture(params=["local", "ssh"])
def board(request):
    if request.param == "local":
        request.getfixturevalue("local_board")
        yield LocalConnection()
    else:
        request.getfixturevalue("server")
        with connect(parse_device("orin")) as connection:
            yield connection


@pytest.fixture
def job(tmp_path):
    (tmp_path / "in put").write_text("some input\n")
    script = 'echo "begin $(cat input)"; echo on stderr >&2; cp input result; printf end; exit 5'
    return Job("build", script, {"input": tmp_path / "in put"})


def test_a_job_from_start_to_end(board, job, standin, tmp_path):
    log = []
    assert run_job(board, job, on_log=log.append, interval_s=0.05) == 5
    assert log == ["begin some input", "on stderr", "end"]
    jobs.fetch(board, job, "result", tmp_path / "result")
    assert (tmp_path / "result").read_text() == "some input\n"
    assert jobs.read(board, job, "result") == b"some input\n"
    assert jobs.read(board, job, "nothing") is None
    jobs.remove(board, job)
    assert standin.jobs() == []
    assert not standin.files.exists()


def test_a_finished_job_is_not_run_again(board, job, standin):
    assert run_job(board, job, interval_s=0.05) == 5
    [folder] = standin.jobs()
    stamp = (folder / "result").stat().st_mtime_ns
    log = []
    assert jobs.ensure_started(board, job) == "finished"
    assert run_job(board, job, on_log=log.append, interval_s=0.05) == 5
    assert log == ["begin some input", "on stderr", "end"]
    assert (folder / "result").stat().st_mtime_ns == stamp
    (folder / "finished").write_text(str(int(time.time()) - 1000))
    assert run_job(board, job, interval_s=0.05, oldest_s=500) == 5
    assert (folder / "result").stat().st_mtime_ns != stamp


def test_a_job_that_ends_while_it_is_looked_at_is_finished(local_board, job, standin):
    """It has no result yet, and no process any more a moment later."""
    board = LocalConnection()
    assert run_job(board, job, interval_s=0.05) == 5
    [folder] = standin.jobs()
    (folder / "exit").rename(folder / "later")
    (folder / "pid").write_text(f"{os.getpid()}\n")
    standin.tool("bin/tr", "mv later exit")  # with which it looks whether that process is the job's
    assert jobs.ensure_started(board, job) == "finished"
    assert run_job(board, job, interval_s=0.05) == 5


def test_other_content_is_another_job(job, tmp_path):
    same = Job(job.kind, job.script, dict(job.inputs))
    assert same.directory == job.directory
    (tmp_path / "other").write_text("other input\n")
    assert Job(job.kind, job.script, {"input": tmp_path / "other"}).directory != job.directory
    assert Job(job.kind, job.script + " ", job.inputs).directory != job.directory


def test_a_full_disk_is_seen_before_anything_is_copied(board, job, standin):
    greedy = Job(job.kind, job.script, job.inputs, needed_bytes=1 << 60)
    with pytest.raises(EdgeError, match=r"free, and this needs"):
        run_job(board, greedy)
    assert standin.jobs() == []


def test_a_job_that_was_killed_is_started_anew(board, standin, tmp_path):
    once = Job("build", '[ -f again ] && exit 0; touch again; kill -KILL "$PPID"; sleep 0.2')
    with pytest.raises(EdgeError, match="ended without a result"):
        run_job(board, once, interval_s=0.05)
    assert run_job(board, once, interval_s=0.05) == 0


def test_another_process_with_its_number_is_not_the_job(local_board, standin):
    """As after a restart of the board within the patience for it."""
    job = Job("build", f'echo {os.getpid()} >pid; kill -KILL "$PPID"; sleep 0.2')
    with pytest.raises(EdgeError, match="ended without a result"):
        run_job(LocalConnection(), job, interval_s=0.05)


def test_a_dropped_connection_is_made_again(server, standin, tmp_path):
    long = Job("build", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.3; done")
    dropped = []

    def drop(line):
        if line == "2":
            dropped.append(line)
            server.drop_connections()

    log = []
    with connect(parse_device("orin")) as board:
        assert run_job(board, long, on_log=lambda line: (log.append(line), drop(line)), interval_s=0.05) == 0
    assert log == ["1", "2", "3", "4", "5", "6"]
    assert dropped


def until_there(path: Path) -> str:
    """A command that waits for a file."""
    return f"until [ -e {path} ]; do sleep 0.05; done"


def test_killing_the_client_and_running_again_finishes_the_job(server, standin, tmp_path):
    """The job goes on while nobody looks, and the second run finds it, with the whole log."""
    script = f"echo started; {until_there(tmp_path / 'go')}; echo $$ >>runs; echo done"
    code = (
        "import sys; from veca_edge.devices.connection import *; from veca_edge.devices.jobs import *\n"
        f"run_job(connect(parse_device('orin')), Job('build', {script!r}),"
        " on_log=lambda line: print(line, flush=True), interval_s=0.05)"
    )
    client = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert client.stdout.readline() == "started\n"
    os.killpg(client.pid, signal.SIGKILL)
    client.wait()
    server.drop_connections()
    [folder] = standin.jobs()
    assert not (folder / "exit").exists()
    log = []
    with connect(parse_device("orin")) as board:
        again = Job("build", script)
        assert jobs.ensure_started(board, again) == "running"
        (tmp_path / "go").touch()
        assert run_job(board, again, on_log=log.append, interval_s=0.05) == 0
        assert log == ["started", "done"]
        assert jobs.read(board, again, "runs").count(b"\n") == 1
        jobs.remove(board, again)


def test_an_unreachable_board_is_an_error_after_a_while(server):
    job = Job("build", "echo started; sleep 5")

    def stop(line):
        server.stop()

    with connect(parse_device("orin")) as board, pytest.raises(EdgeError, match=r"cannot be reached|broke"):
        run_job(board, job, on_log=stop, interval_s=0.05, patience_s=0.3)


def test_ctrl_c_ends_the_job_and_leaves_nothing(board, standin):
    job = Job("build", "echo $$ >pid_of_script; echo started; sleep 300")
    pids = []

    def interrupt(line):
        [folder] = standin.jobs()
        pids.extend(int((folder / name).read_text()) for name in ("pid", "pid_of_script"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(board, job, on_log=interrupt, interval_s=0.05)
    assert standin.jobs() == []
    until = time.monotonic() + 60
    while running := [pid for pid in pids if runs(pid)]:
        assert time.monotonic() < until, f"processes {running} still run"
        time.sleep(0.05)


def runs(pid):
    """A process that has ended but was not yet waited for does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# ------------------------------------------------------------------------------- clients that share a job


def another(standin, host="0123456789ab", pid=1, seconds_ago=0.0):
    """Another client's file in the directory of the one job that is there."""
    [folder] = standin.jobs()
    user = folder / "users" / f"{host}-{pid}-1-00000000"
    user.touch()
    os.utime(user, (time.time() - seconds_ago,) * 2)
    return user


@pytest.mark.parametrize("seconds", [0, 0.5])
def test_clients_that_do_the_same_at_once_all_end_well(board, standin, tmp_path, seconds):
    (tmp_path / "input").write_bytes(os.urandom(1 << 20))
    script = f"echo ran >>{tmp_path}/runs; echo begin; sleep {seconds}; cp input result; echo end"
    together = threading.Barrier(3)

    def client(number):
        shared, log = Job("build", script, {"input": tmp_path / "input"}), []
        with connect(parse_device(board.device or "local")) as connection:
            together.wait()
            assert run_job(connection, shared, on_log=log.append, interval_s=0.05) == 0
            assert jobs.read(connection, shared, "job.sh").decode() == script
            jobs.fetch(connection, shared, "result", tmp_path / f"result{number}")
            jobs.remove(connection, shared)
        return log

    with ThreadPoolExecutor(3) as pool:
        logs = list(pool.map(client, range(3)))
    assert logs == [["begin", "end"]] * 3
    for number in range(3):
        assert (tmp_path / f"result{number}").read_bytes() == (tmp_path / "input").read_bytes()
    # One that comes when the others are done and gone runs it anew.
    assert 1 <= (tmp_path / "runs").read_text().count("ran") <= 3
    assert not standin.files.exists()


def test_the_directories_may_be_taken_away_while_they_are_made(local_board, job, standin):
    """As `mkdir -p` finds it when a client that leaves removes what it has just made."""
    standin.tool(
        "bin/mkdir",
        'if [ "$1" = -p ] && [ ! -e ~/taken ]; then : >~/taken; set -- "$2/gone/jobs"; fi; exec /bin/mkdir "$@"',
    )
    assert run_job(LocalConnection(), job, interval_s=0.05) == 5
    assert (standin.home / "taken").exists()


def test_files_go_with_the_last_user(board, job, standin, tmp_path):
    assert run_job(board, job, interval_s=0.05) == 5
    user = another(standin)
    jobs.remove(board, job)
    assert len(standin.jobs()) == 1, "another client still needs them"
    jobs.fetch(board, job, "result", tmp_path / "result")
    os.utime(user, (time.time() - 600,) * 2)
    jobs.remove(board, job)
    assert not standin.files.exists(), "the other one has not looked for ten minutes"


def test_files_stay_while_another_client_copies(board, job, standin):
    assert run_job(board, job, interval_s=0.05) == 5
    [folder] = standin.jobs()
    (folder / "input.01234567.part").touch()
    jobs.remove(board, job)
    assert standin.jobs() == [folder]


def test_a_client_of_this_machine_that_was_killed_does_not_count(board, job, standin):
    assert run_job(board, job, interval_s=0.05) == 5
    ended = subprocess.Popen(["true"])
    ended.wait()
    another(standin, host=jobs._this_host(), pid=ended.pid)
    assert jobs.ensure_started(board, job) == "finished"
    jobs.remove(board, job)
    assert not standin.files.exists()


def test_ctrl_c_leaves_the_job_to_another_client(board, standin, tmp_path):
    job = Job("build", f"echo started; {until_there(tmp_path / 'go')}; echo done")

    def interrupt(line):
        another(standin)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(board, job, on_log=interrupt, interval_s=0.05)
    log = []
    assert jobs.ensure_started(board, job) == "running"
    (tmp_path / "go").touch()
    assert run_job(board, job, on_log=log.append, interval_s=0.05) == 0
    assert log == ["started", "done"]


def test_the_lock_of_a_client_that_was_killed_is_taken_over(board, job, standin):
    ended = subprocess.Popen(["true"])
    ended.wait()
    lock = standin.home / ".cache/veca-edge" / f"{job.directory}.lock"
    lock.mkdir(parents=True)
    (lock / "pid").write_text(f"{ended.pid}\n")
    assert run_job(board, job, interval_s=0.05) == 5
    jobs.remove(board, job)
    assert not standin.files.exists()


def test_a_lock_that_is_held_is_waited_for(local_board, job, standin):
    lock = standin.home / ".cache/veca-edge" / f"{job.directory}.lock"
    lock.mkdir(parents=True)
    (lock / "pid").write_text(f"{os.getpid()}\n")
    timer = threading.Timer(0.5, lambda: ((lock / "pid").unlink(), lock.rmdir()))
    started = time.monotonic()
    timer.start()
    assert run_job(LocalConnection(), job, interval_s=0.05) == 5
    assert time.monotonic() - started >= 0.5
    timer.join()


@pytest.mark.parametrize("name", ["job.sh", "exit", "users/a", "../x", "/etc/passwd", "a b", ""])
def test_inputs_cannot_take_the_names_of_a_job(name, tmp_path):
    with pytest.raises(EdgeError, match="cannot be called"):
        Job("build", "true", {name: tmp_path / "file"})
