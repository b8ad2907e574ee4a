"""Commands end with 130, 143 and 129 at whatever moment the signal comes."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

CODES = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("sent", "code"), CODES)
def test_an_import_is_not_cut_short(tmp_path, sent, code):
    """The signal comes while a module loads; the module ends first, then the program."""
    (tmp_path / "slow.py").write_text(
        textwrap.dedent(f"""
        import os, time
        os.kill(os.getpid(), {int(sent)})
        for _ in range(20):
            time.sleep(0.01)
        print("loaded", flush=True)
    """)
    )
    program = textwrap.dedent("""
        import signal, sys, time
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from veca_edge.cli.signals import ended_cleanly_by_signals
        with ended_cleanly_by_signals():
            try:
                import slow
                time.sleep(60)
            finally:
                print("cleaned up", flush=True)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert (done.returncode, done.stdout) == (code, "loaded\ncleaned up\n"), done.stderr


def run_program(tmp_path, program):
    (tmp_path / "program.py").write_text(
        textwrap.dedent("""
        import atexit, os, signal, sys, time
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from veca_edge.cli.signals import ended_cleanly_by_signals
        """)
        + textwrap.dedent(program)
    )
    return subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )


@pytest.mark.parametrize(("sent", "code"), CODES)
def test_a_signal_amid_the_last_import_still_counts(tmp_path, sent, code):
    """The command is done before the signal is looked at again; the alarm for that once killed the process later."""
    (tmp_path / "last.py").write_text(f"import os; os.kill(os.getpid(), {int(sent)})")
    done = run_program(
        tmp_path,
        """
        atexit.register(time.sleep, 0.2)
        with ended_cleanly_by_signals():
            import last
            print("done", flush=True)
        """,
    )
    assert (done.returncode, done.stdout) == (code, "done\n"), done.stderr


@pytest.mark.parametrize(("sent", "code"), CODES)
def test_a_signal_that_nobody_hears_still_counts(tmp_path, sent, code):
    """What is raised in a finaliser is printed and forgotten."""
    done = run_program(
        tmp_path,
        f"""
        class Deaf:
            def __del__(self):
                os.kill(os.getpid(), {int(sent)})
                for _ in range(100):
                    pass
        with ended_cleanly_by_signals():
            deaf = Deaf()
            del deaf
            print("done", flush=True)
        """,
    )
    assert (done.returncode, done.stdout) == (code, "done\n"), done.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_python_shuts_down(tmp_path, sent):
    """The default effect, which a shell shows as 130 and 143; no alarm, and no traceback."""
    done = run_program(
        tmp_path,
        f"""
        atexit.register(lambda: (os.kill(os.getpid(), {int(sent)}), time.sleep(10)))
        with ended_cleanly_by_signals():
            pass
        """,
    )
    assert (done.returncode, done.stderr) == (-sent, "")


def test_without_a_signal_nothing_changes(tmp_path):
    done = run_program(
        tmp_path,
        """
        with ended_cleanly_by_signals():
            sys.exit(2)
        """,
    )
    assert (done.returncode, done.stderr) == (2, "")
