import os
import sys
import time

import psutil
import pytest

from veca_edge.devices.process import ERROR_BYTES, TooLong, TooSlow, run_bounded

MARK = "# started by a test of processes\n"


def run(code: str, **options):
    return run_bounded([sys.executable, "-c", MARK + code], **{"seconds": 120, "most_bytes": 1 << 20, **options})


def started() -> list[psutil.Process]:
    """What `run` has started and not ended; other tests of this worker may have children of their own."""
    return [p for p in psutil.Process().children() if any(part.startswith(MARK) for part in p.cmdline())]


def test_a_process_from_start_to_end():
    data = os.urandom(300_000)
    copy = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read());"
    code = f"{copy} sys.stderr.write('x' * 50000 + 'end'); sys.exit(7)"
    done = run(code, stdin=data)
    assert (done.exit_code, done.output) == (7, data)
    assert done.error_text == "x" * (ERROR_BYTES - 3) + "end"


def test_it_need_not_read_its_input():
    assert run("pass", stdin=bytes(10 << 20)).exit_code == 0


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_too_long(stream):
    before = psutil.Process().memory_info().rss
    with pytest.raises(TooLong):
        run(f"import sys\nwhile True: sys.{stream}.write('y' * 65536)", most_bytes=1000)
    assert psutil.Process().memory_info().rss - before < 50 << 20
    assert not started()


def test_too_slow():
    begin = time.monotonic()
    with pytest.raises(TooSlow):
        run("import time; time.sleep(600)", seconds=0.3)
    with pytest.raises(TooSlow):
        run("import time; print(1, flush=True); time.sleep(600)", stall_s=0.3)
    assert time.monotonic() - begin < 120
    assert not started()


def test_what_is_done_with_the_output_may_fail():
    def refuse(block):
        raise ValueError(block)

    with pytest.raises(ValueError, match="hello"):
        run("import time; print('hello', flush=True); time.sleep(600)", on_output=refuse)
    assert not started()
