import subprocess
import sys
import threading
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from veca_edge.actions.load import expected_latencies, load_bundle
from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.bundle.types import Agreement, CosineStatistics, Fidelity
from veca_edge.proof.golden import read_golden

COSINES = {8: 0.96, 16: 0.985, 32: 0.999}


@pytest.fixture(scope="module")
def bundle(exported_square):
    """With fidelity, as an export writes it."""

    def agreement(cosine: float) -> Agreement:
        cls, dense = (CosineStatistics(mean, mean, mean) for mean in (cosine, cosine + 0.0005))
        return Agreement(2, cls, dense)

    rows = [
        Fidelity(count, "fp32", ImageSize(32, 32), agreement(0.999), agreement(cosine))
        for count, cosine in COSINES.items()
    ]
    return replace(exported_square, fidelity=tuple(rows))


@pytest.fixture(scope="module")
def model(bundle):
    return load_bundle(bundle, threads=1)


@pytest.fixture
def frames(bundle):
    return read_golden(bundle.directory, 8, ImageSize(32, 32)).frames


def test_every_core_count_answers_as_the_reference(model, bundle, frames):
    assert model.core_counts == (8, 16, 32)
    assert (model.precision, model.image_size, model.input) == ("fp32", (32, 32), "image")
    for count in model.core_counts:
        model.core_count = count
        golden = read_golden(bundle.directory, count, model.image_size)
        for i, frame in enumerate(frames):
            output = model(frame)
            assert output.core_count == count
            assert output.latency_ms > 0
            assert output.logits is None
            got = golden.of({"cls": output.cls, "dense": output.dense})
            np.testing.assert_allclose(got["cls"][0], golden.outputs["cls"][i], atol=1e-4)
            np.testing.assert_allclose(got["dense"][0], golden.outputs["dense"][i], atol=1e-4)


def test_one_core_count_alone_is_the_same(bundle, frames, model):
    alone = load_bundle(bundle, core_counts=[16], threads=1)
    assert alone.core_counts == (16,)
    model.core_count = 16
    np.testing.assert_allclose(alone(frames[0]).dense, model(frames[0]).dense, atol=1e-5)


def test_lists_what_there_is(model, bundle):
    with pytest.raises(EdgeError, match="not loaded with 24 cores") as caught:
        model.core_count = 24
    assert caught.value.hint == "It has: 8, 16, 32."
    with pytest.raises(EdgeError, match="no fp32 with 24 cores"):
        load_bundle(bundle, core_counts=[24])
    with pytest.raises(EdgeError, match="has no int8 at 32x32") as caught:
        load_bundle(bundle, precision="int8")
    assert "fp32 at 32x32" in caught.value.hint
    with pytest.raises(EdgeError, match="has no fp32 at 64x64"):
        load_bundle(bundle, image_size=ImageSize(64, 64))
    for_board = replace(bundle, spec=replace(bundle.spec, target="jetson"))
    with pytest.raises(EdgeError, match="holds no engine"):
        load_bundle(for_board)


def test_takes_frames_of_its_size_only(model, frames):
    for wrong in (frames[0][:16], frames[0].astype(np.float32), frames[:, :, :, :1], frames):
        with pytest.raises(EdgeError, match="takes uint8"):
            model(wrong)
    with pytest.raises(EdgeError, match="as a numpy array, but was given list"):
        model([1, 2])


def test_a_contiguous_frame_is_not_copied_and_others_are_right(model, frames):
    frame = frames[0]
    assert np.shares_memory(model._checked(frame), frame)
    expected = model(frame).cls.copy()
    mirrored = np.ascontiguousarray(frame[:, ::-1])[:, ::-1]
    assert not mirrored.flags.c_contiguous
    np.testing.assert_array_equal(model(mirrored).cls, expected)
    # A read-only frame will do: nothing writes to it.
    frame = frame.copy()
    frame.flags.writeable = False
    np.testing.assert_array_equal(model(frame).cls, expected)


def test_outputs_are_reused_and_nothing_is_allocated_per_frame(model, frames):
    mirrored = frames[1][:, ::-1]
    first = model(frames[0])
    model(mirrored)
    second = model(frames[1])
    assert np.shares_memory(first.dense, second.dense)
    tracemalloc.start()
    try:
        for frame in (frames[0], mirrored) * 3:
            model(frame)
        before = tracemalloc.take_snapshot()
        for count in model.core_counts * 3:
            model.core_count = count
            for frame in (frames[0], mirrored):
                model(frame)
        grown = tracemalloc.take_snapshot().compare_to(before, "filename")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        start, _ = tracemalloc.get_traced_memory()
        model(frames[0])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    kept = sum(s.size_diff for s in grown if "tracemalloc" not in s.traceback[0].filename)
    assert kept < 16_000
    # One output of `dense` alone is 4 kB: a frame makes small objects, and no array.
    assert peak - start < 3_000


def test_threads_do_not_disturb_each_other(model, frames):
    model.core_count = 32
    expected = [model(frame).cls.copy() for frame in frames]
    wrong = []

    def work(i: int) -> None:
        for _ in range(50):
            if not np.array_equal(model(frames[i]).cls, expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i % 2,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_adapts_within_the_floor_of_fidelity(bundle, frames):
    model = load_bundle(bundle, threads=1)
    assert model.faithful_core_counts(0.98) == (16, 32)
    model.adapt(budget_ms=1e-6, min_cosine=0.98)
    for _ in range(10):
        model(frames[0])
    assert model.core_count == 16
    assert [(d.before, d.after) for d in model.decisions][:1] == [(32, 16)]
    assert "took longer than 1e-06 ms" in model.decisions[0].reason
    model.hold()
    assert model.decisions == ()
    assert model.core_count == 16
    model.adapt(budget_ms=1000)
    model.core_count = 32
    for _ in range(10):
        model(frames[0])
    assert model.core_count == 32
    with pytest.raises(EdgeError, match=r"mean cosine of 0\.9999 or more") as caught:
        model.adapt(budget_ms=33, min_cosine=0.9999)
    assert "8: 0.9600, 16: 0.9850, 32: 0.9990" in caught.value.hint
    with pytest.raises(EdgeError, match="budget of 0 ms"):
        model.adapt(budget_ms=0)


def test_core_counts_are_compared_by_measurements_or_by_cost(square_bundle):
    from veca_edge.profiles.sweep import ProfileOptions, profile_bundle

    by_cost = expected_latencies(square_bundle, square_bundle.artifacts)
    assert list(by_cost) == [8, 16, 32]
    assert by_cost[8] < by_cost[16] < by_cost[32]
    quick = ProfileOptions(threads=1, rounds=1, seconds=0.02, samples=3, warmup_seconds=0.0)
    profile_bundle(square_bundle, quick, square_bundle.artifacts[:2])
    assert expected_latencies(square_bundle, square_bundle.artifacts) == by_cost
    measured = profile_bundle(square_bundle, quick).measurements
    assert expected_latencies(square_bundle, square_bundle.artifacts) == {m.core_count: m.p50_ms for m in measured}


def test_without_fidelity_there_is_no_floor(exported_square):
    model = load_bundle(exported_square, core_counts=[8], threads=1)
    with pytest.raises(EdgeError) as caught:
        model.adapt(33, min_cosine=0.5)
    assert "no fidelity measurements" in caught.value.hint


def test_needs_only_numpy_and_onnxruntime(exported_square):
    code = f"""
import sys
import numpy as np
from veca_edge.actions.load import load_bundle
from veca_edge.actions.load import expected_latencies
model = load_bundle({str(exported_square.directory)!r})
model(np.zeros((32, 32, 3), np.uint8))
model.adapt(33)
heavy = {{"torch", "onnx", "onnx_ir", "PIL", "psutil", "typer", "rich"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
