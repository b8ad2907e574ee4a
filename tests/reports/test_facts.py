from dataclasses import replace
from pathlib import Path

import pytest
from measured import MACHINE, OTHER_MACHINE, SIZE, made_up_bundle, measure

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.reports.facts import (
    labels_of,
    pareto_front,
    ranges,
    read_subjects,
    series_of,
    telling_labels,
    verdict_summaries,
)


def test_a_series_is_a_line_over_core_counts(tmp_path):
    made_up_bundle(tmp_path / "out")
    found = series_of(read_subjects([tmp_path / "out"], None), SIZE)
    assert [(s.label, s.index) for s in found] == [("int8", 0), ("fp32", 1)]
    assert [c.artifact.core_count for c in found[0].points] == [8, 16, 32]


def test_labels_hold_what_tells_series_apart(tmp_path):
    bundle = made_up_bundle(tmp_path / "a")
    made_up_bundle(tmp_path / "b", OTHER_MACHINE)
    paths = [tmp_path / "a", tmp_path / "b"]
    labels = [s.label for s in series_of(read_subjects(paths, None), SIZE)]
    assert labels == ["a, int8", "a, fp32", "b, int8", "b, fp32"]
    measure(bundle, threads=4)
    labels = [s.label for s in series_of(read_subjects(paths[:1], None), SIZE)]
    assert labels == ["2 threads, int8", "4 threads, int8", "2 threads, fp32", "4 threads, fp32"]


def test_labels_of_directories_that_share_a_name():
    assert labels_of([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    assert labels_of([Path("/v1/out/demo"), Path("/v2/out/demo")]) == ["v1/out/demo", "v2/out/demo"]
    assert labels_of([Path("/only")]) == ["only"]
    assert telling_labels([]) == []


def test_the_pareto_front_is_what_nothing_beats():
    points = [(10, 0.9), (12, 0.95), (11, 0.85), (12, 0.94), (20, 0.95), (9, 0.5)]
    assert pareto_front(points) == [5, 0, 1]
    assert pareto_front([]) == []


def test_the_range_of_a_bundle_in_a_sentence(tmp_path):
    made_up_bundle(tmp_path / "a", sizes=(SIZE, ImageSize(64, 64)))
    made_up_bundle(tmp_path / "b", OTHER_MACHINE)
    found = ranges(read_subjects([tmp_path / "a", tmp_path / "b"], None))
    assert [label for label, _ in found] == ["a, at 32x32", "a, at 64x64", "b, at 32x32"]
    assert found[0][1] == (
        "From 10.0 ms with 8 cores in int8 (cosine 0.94900) to 32.0 ms with 32 cores in fp32 (cosine 0.99900)."
    )


def test_the_verdict_is_plain(tmp_path):
    made_up_bundle(tmp_path / "out")
    subjects = read_subjects([tmp_path / "out"], None)
    (summary,) = verdict_summaries(subjects)
    assert summary.label == ""
    assert summary.sentence == (
        "int8 is 1.76x to 2.28x faster (95% intervals) than fp32 at all 3 core counts. Its files take 0.27x the space "
        "and it needs 0.33x the memory; it costs at most 0.0010 of cosine."
    )


def test_the_verdict_says_slower(tmp_path):
    bundle = made_up_bundle(tmp_path / "out")
    for artifact in bundle.artifacts:
        if artifact.precision == "int8":
            measure(replace(bundle, artifacts=(artifact,)), scale={8: 2.0, 16: 3.0, 32: 1.0}[artifact.core_count])
    (summary,) = verdict_summaries(read_subjects([tmp_path / "out"], None))
    assert "1.76x to 2.28x faster (95% intervals) than fp32 at 1 of 3 core counts" in summary.sentence
    assert "1.31x to 1.71x SLOWER (95% intervals) than fp32 at 1 of 3 core counts" in summary.sentence
    assert "no different in speed from fp32, within the spread of the samples, at 1 of 3" in summary.sentence


def test_bad_bundles(tmp_path):
    bundle = made_up_bundle(tmp_path / "out")
    with pytest.raises(EdgeError, match="No bundle was given"):
        read_subjects([], None)
    with pytest.raises(EdgeError, match="given twice"):
        read_subjects([tmp_path / "out", tmp_path / "out" / ".." / "out"], None)
    measure(bundle, OTHER_MACHINE)
    with pytest.raises(EdgeError, match="2 machines"):
        read_subjects([tmp_path / "out"], None)
    assert len(read_subjects([tmp_path / "out"], "all")[0].machines) == 2
    assert read_subjects([tmp_path / "out"], MACHINE.machine_id)[0].machines == (MACHINE,)
    made_up_bundle(tmp_path / "bare", machine=None)
    with pytest.raises(EdgeError, match="bare has no measurements"):
        read_subjects([tmp_path / "out", tmp_path / "bare"], "all")
