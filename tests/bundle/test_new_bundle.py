"""New bundles: whole in their place or not there, beside others, on full disks, and after kills."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.base.files import held, sha256_of
from veca_edge.bundle.new_bundle import check_output, new_bundle
from veca_edge.bundle.store import open_bundle, verify_files, write_manifest

from .small_bundles import artifact, bundle_of, fill


def test_a_failure_leaves_nothing(tmp_path):
    def fail():
        with new_bundle(tmp_path / "deep" / "er" / "out") as directory:
            fill(directory)
            raise EdgeError("no")

    with pytest.raises(EdgeError, match="no"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_replaces_only_with_force_and_only_bundles(bundle, tmp_path):
    output = bundle.directory
    with pytest.raises(EdgeError, match="exists already"):
        check_output(output, force=False)
    with pytest.raises(EdgeError, match="is not a bundle"):
        check_output(tmp_path, force=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgeError, match="is not a bundle"):
        check_output(tmp_path / "file", force=True)
    with pytest.raises(EdgeError, match="is not a directory"):
        check_output(tmp_path / "file" / "out", force=False)
    (output / "old").write_text("")
    with pytest.raises(ZeroDivisionError), new_bundle(output, force=True):
        _ = 1 / 0
    assert (output / "old").exists()
    with new_bundle(output, force=True) as directory:
        fill(directory)
        assert (output / "old").exists()
    assert not (output / "old").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_link_is_followed_when_replacing(bundle, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(bundle.directory)
    (bundle.directory / "old").write_text("")
    with new_bundle(link, force=True) as directory:
        fill(directory)
    assert link.is_symlink()
    assert not (bundle.directory / "old").exists()


def test_refuses_when_another_took_the_place_meanwhile(tmp_path):
    def run():
        with new_bundle(tmp_path / "out") as directory:
            fill(directory)
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs").write_text("")

    with pytest.raises(EdgeError, match="appeared while"):
        run()
    assert (tmp_path / "out" / "theirs").exists()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_error(tmp_path):
    def run():
        with new_bundle(tmp_path / "out"), open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    with pytest.raises(EdgeError, match="disk is full") as caught:
        run()
    assert "another place" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_system_stay_bugs(tmp_path):
    with pytest.raises(FileNotFoundError), new_bundle(tmp_path / "out"):
        (tmp_path / "missing").read_text()


KILLED = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from veca_edge.bundle.new_bundle import new_bundle
    with new_bundle(Path(sys.argv[1]), force=True) as directory:
        (directory / "half").write_text("half")
        print("writing", flush=True)
        time.sleep(60)
""")


def test_killed_it_leaves_the_old_one_and_the_next_run_cleans_up(bundle, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(bundle.directory)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    left = next(p for p in tmp_path.iterdir() if p.name.startswith(".out.veca-edge-incomplete-"))
    # A run that is still at work is left alone.
    with new_bundle(bundle.directory, force=True) as directory:
        fill(directory)
    assert left.exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert verify_files(open_bundle(bundle.directory)) == 7
    with new_bundle(bundle.directory, force=True) as directory:
        fill(directory)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_bundle_that_was_moved_away_comes_back(bundle, tmp_path):
    bundle.directory.rename(tmp_path / ".out.veca-edge-replaced-12345678")
    with pytest.raises(EdgeError, match="replacing it was interrupted"):
        open_bundle(bundle.directory)
    with pytest.raises(ZeroDivisionError), new_bundle(bundle.directory):
        _ = 1 / 0
    assert open_bundle(bundle.directory) == bundle


def test_a_lock_is_seen_by_others(tmp_path):
    with held(tmp_path) as first, held(tmp_path) as second:
        assert (first, second) == (True, False)


@pytest.mark.parametrize("force", [True, False])
def test_exports_to_one_output_at_once_end_well_or_in_one_message(tmp_path, force):
    ended = []

    def export(label: str) -> None:
        for i in range(5):
            try:
                with new_bundle(tmp_path / "made" / "out", force) as directory:
                    (directory / "models").mkdir()
                    (directory / "models/a").write_text(f"{label} {i}")
                    one = artifact("models/a", sha256=sha256_of(directory / "models/a"))
                    write_manifest(bundle_of(directory, (one,)))
            except BaseException as error:
                ended.append(error)
            else:
                ended.append(None)

    threads = [threading.Thread(target=export, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [error for error in ended if error is not None]
    assert len(ended) == 20
    assert all(isinstance(error, EdgeError) for error in failed), failed
    assert len(failed) == (0 if force else 19)
    assert verify_files(open_bundle(tmp_path / "made" / "out")) == 1
    assert os.listdir(tmp_path / "made") == ["out"]


def test_hints_quote_names(bundle, tmp_path):
    (tmp_path / "it's here").mkdir()
    odd = tmp_path / "it's here" / "a b"
    bundle.directory.rename(odd.with_name(".a b.veca-edge-replaced-12345678"))
    with pytest.raises(EdgeError, match="replacing it was interrupted") as caught:
        open_bundle(odd)
    assert caught.value.hint is not None
    subprocess.run(caught.value.hint.partition(": ")[2], shell=True, check=True)
    assert open_bundle(odd).checkpoint.name == "tiny"


@pytest.mark.parametrize("kind", ["trash", "incomplete", "replaced"])
def test_what_was_half_deleted_never_comes_back(bundle, tmp_path, kind):
    output = bundle.directory
    output.rename(tmp_path / f".out.veca-edge-{kind}-12345678")
    if kind == "replaced":
        # As an earlier version left it when it was killed while it deleted.
        (tmp_path / f".out.veca-edge-{kind}-12345678" / "recipe.safetensors").unlink()
    with pytest.raises(EdgeError, match=r"There is no bundle at [^:]*\.") as caught:
        open_bundle(output)
    assert "mv" not in str(caught.value.hint)
    with new_bundle(output) as directory:
        fill(directory)
    assert os.listdir(tmp_path) == ["out"]
