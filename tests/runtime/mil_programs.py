"""Small programs of MIL, saved by coremltools and executed."""

from __future__ import annotations

from veca_edge.formats.coremltools_library import converting, coremltools_for
from veca_edge.runtime.program import open_mlpackage


def save_program(path, write, *shapes):
    """A package of a small program on float32 inputs `x`, `y`, ...; final as written."""
    ct = coremltools_for("test")
    from coremltools.converters.mil import Builder as mb

    names = "xyz"[: len(shapes)]
    body = {1: lambda x: write(mb, x), 2: lambda x, y: write(mb, x, y)}[len(shapes)]
    program = mb.program(input_specs=[mb.TensorSpec(s) for s in shapes], opset_version=ct.target.iOS18)(body)
    assert list(program.functions["main"].inputs) == list(names)
    with converting(path.parent):
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS18,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
        model.save(str(path))
    return path


def run_program(path, write, x):
    runner = open_mlpackage(save_program(path / "p.mlpackage", write, x.shape))
    (value,) = runner(x).values()
    return value
