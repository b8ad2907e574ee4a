"""`veca-edge sensitivity`, with the measuring itself replaced: that is tested where it is done."""

from __future__ import annotations

from veca_edge.actions import sensitivity as action
from veca_edge.actions.sensitivity import Sensitivity
from veca_edge.calibration.sensitivity import LayerSensitivity
from veca_edge.proof.fidelity import Agreement, CosineStatistics


def agreement(loss: float) -> Agreement:
    statistics = CosineStatistics(1.0 - loss, 0.9, 0.8)
    return Agreement(4, statistics, statistics, 0.75, None)


def test_sensitivity(veca_edge, checkpoint, bundle, monkeypatch, tmp_path):
    asked = []

    def measured(request, path, count, progress, by):
        asked.append((request, path, count))
        layers = (
            LayerSensitivity("blocks.0.qkv", 0.25, {8: agreement(1e-4), 16: agreement(2e-4)}),
            LayerSensitivity("blocks.0.fc2", 0.75, {8: agreement(1e-3), 16: agreement(4e-3)}),
        )
        return Sensitivity(layers, (8, 16), 4, by)

    monkeypatch.setattr(action, "sensitivity", measured)
    ended = veca_edge("sensitivity", checkpoint, "--cores", "8,16", "--calibration", "photos", "--count", "4")
    assert ended.code == 0, ended.err
    rows = [line.split() for line in ended.out.splitlines() if line.startswith("blocks")]
    assert rows[0][:5] == ["blocks.0.qkv", "25.0%", "2.0e-04", "2.0e-04", "2.5e-01"]
    assert len(rows[1][5]) == 20, "the worst layer has the longest bar"
    assert f"veca-edge export {checkpoint} --calibration photos --cores 8,16" in ended.out
    request, path, count = asked[-1]
    assert (request.core_counts, request.checkpoint.path, path, count) == ((8, 16), checkpoint, None, 4)

    ended = veca_edge("sensitivity", checkpoint, "--heads", 2, "--resize", "stretch", "--image-size", 64)
    told = f"{checkpoint} --calibration IMAGES --resize stretch --heads 2 --cores 8,16 --image-size 64"
    assert f"veca-edge export {told}\n" in ended.out, "the next step takes what this one was given"

    drawn = tmp_path / "layers.svg"
    ended = veca_edge("sensitivity", checkpoint, "--plot", drawn)
    assert ended.code == 0
    assert f"Wrote {drawn}" in ended.out
    assert "</svg>" in drawn.read_text()
    asked_before = len(asked)
    ended = veca_edge("sensitivity", checkpoint, "--plot", tmp_path / "layers.gif")
    assert (ended.code, len(asked)) == (2, asked_before)
    assert ".svg, .png, .pdf" in ended.err

    assert "Next:" not in veca_edge("sensitivity", bundle).out, "a bundle was exported already"
    found = veca_edge("sensitivity", bundle, "--by", "top1", "--json").json
    assert (found["by"], found["layers"][1]["loss"]) == ("top1", 0.25)
    assert found["layers"][1]["agreement"]["16"]["images"] == 4
    assert asked[-1][1] == bundle
    assert asked[-1][0].core_counts == ()

    assert veca_edge("sensitivity").code == 0
    assert asked[-1][0].core_counts == (16,)
    ended = veca_edge("sensitivity", checkpoint, "--checkpoint", checkpoint)
    assert ended.code == 2
    assert "--checkpoint goes with a bundle" in ended.err


def test_sensitivity_of_a_bundle_without_int8(veca_edge, bundle):
    ended = veca_edge("sensitivity", bundle)
    assert ended.code == 2
    assert "nothing that is quantized" in ended.err
