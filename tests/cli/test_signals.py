import os
import signal
import subprocess
import sys
import textwrap

import pytest


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
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
        from veca_edge.cli.signals import end_cleanly_on_signals
        end_cleanly_on_signals()
        try:
            import slow
            time.sleep(60)
        except KeyboardInterrupt:
            sys.exit(130)
        finally:
            print("cleaned up", flush=True)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert (done.returncode, done.stdout) == (code, "loaded\ncleaned up\n"), done.stderr
