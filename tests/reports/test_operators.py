from dataclasses import replace

import pytest
from measured import SIZE

from veca_edge.actions.recommend import candidates
from veca_edge.proof.golden import read_golden
from veca_edge.reports.operators import (
    CALLS,
    OperatorTimes,
    layer_of,
    layer_rows,
    measured_layers,
    operator_rows,
    operator_times,
    summed,
)


def test_profiles_real_artifacts(real_bundle):
    frames = read_golden(real_bundle.directory, 8, SIZE).frames
    chosen = [c for c in candidates(real_bundle) if c.artifact.core_count == 16]
    seen = []
    times = operator_times(real_bundle.directory, chosen, frames, lambda *step: seen.append(step))
    assert seen[-1] == ("profiling operators", 2, 2)
    by_precision = {t.artifact.precision: t for t in times}
    assert "MatMulIntegerToFloat" in by_precision["int8"].by_operator
    assert "MatMulIntegerToFloat" not in by_precision["fp32"].by_operator
    for t in times:
        assert sum(t.by_operator.values()) == pytest.approx(t.total_ms)
    rows = layer_rows(times)
    assert [r.name for r in rows][:4] == ["patch embedding", "layer 0", "layer 1", "layer 2"]
    assert sum(r.shares[0] for r in rows) == pytest.approx(1)


def test_medians_of_nodes_are_summed():
    events = [("blocks.0.fc1.MatMul", "MatMul", ms) for ms in [1.0] * (CALLS - 1) + [100.0]]
    events += [("blocks.0.Add", "Add", 0.5)] * CALLS + [("tokens", "Concat", 0.1)] * (2 * CALLS)
    operators, layers = summed(events)
    assert operators == pytest.approx({"MatMul": 1.0, "Add": 0.5, "Concat": 0.2})
    assert layers == pytest.approx({"layer 0": 1.5, "patch embedding": 0.2})


def test_small_operators_are_put_together(real_bundle):
    artifact = real_bundle.artifacts[0]
    times = [OperatorTimes(artifact, 1, {f"op{i}": float(i) for i in range(5)}, {"layer 0": 10.0})]
    assert [(r.name, r.ms) for r in operator_rows(times, most=3)] == [
        ("op4", (4.0,)),
        ("op3", (3.0,)),
        ("op2", (2.0,)),
        ("2 others", (1.0,)),
    ]


def test_layers_that_a_board_measured(real_bundle):
    candidate = candidates(real_bundle)[0]
    assert measured_layers(candidate) is None
    layers = [
        ["blocks.0.fc1 + blocks.0.fc2", 0.2],
        ["patch_embed", 0.1],
        ["blocks.1.q, blocks.2.k", 0.3],
        ["Reformatting CopyNode", 0.05],
        ["blocks.0.out", 0.1],
    ]
    found = measured_layers(replace(candidate, measurement=replace(candidate.measurement, details={"layers": layers})))
    assert found.by_layer == pytest.approx(
        {"layer 0": 0.3, "patch embedding": 0.1, "fused from layers 1 to 2": 0.3, "outside the layers": 0.05}
    )
    assert operator_rows([found]) == []
    assert [r.name for r in layer_rows([found])] == [
        "patch embedding",
        "layer 0",
        "fused from layers 1 to 2",
        "outside the layers",
    ]


def test_names_say_the_layer():
    assert layer_of("blocks.11.q.MatMul/MatMulAddFusion") == "layer 11"
    assert layer_of("gemm_output_reshape_token_5") == "added by ONNX Runtime"
