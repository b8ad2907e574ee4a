"""The page "On a Jetson" names commands, options and calls that there are."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

PAGE = (Path(__file__).parents[3] / "docs" / "jetson.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for kind, block in BLOCKS
        if kind == "bash"
        for line in block.splitlines()
        if line.strip().startswith("veca-edge ")
    }
)


def test_it_says_that_it_was_not_run():
    assert "Not yet run on hardware" in PAGE.split("## 1.")[0]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_options_exist(line):
    from veca_edge.cli import commands

    command = line.split()[1]
    result = CliRunner().invoke(commands, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for option in re.findall(r"--[a-z-]+", line):
        assert option in result.output, f"{command} has no {option}"


def test_there_are_commands():
    assert {line.split()[1] for line in COMMANDS} >= {"export", "build", "profile", "run"}


@pytest.mark.parametrize("block", [block for kind, block in BLOCKS if kind == "python"])
@pytest.mark.filterwarnings("error::DeprecationWarning")
def test_python_imports(block):
    names = {}
    for line in block.splitlines():
        if re.match(r"from \S+ import|import ", line):
            exec(line, names)
    for called in re.findall(r"veca_edge\.\w+", block):
        assert eval(called, names) is not None


def test_running_an_engine_imports_what_the_page_says():
    code = (
        "import sys; before = {*sys.modules}; import veca_edge.runtime.model, veca_edge.runtime.tensorrt; "
        "veca_edge.load; print(*{name.partition('.')[0] for name in {*sys.modules} - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (said,) = re.findall(r"Of other Python packages this imports (.*?), and neither", PAGE)
    # TensorRT's is imported when an engine is opened; msgspec imports typing_extensions where it is there.
    ours = {"veca_edge", "typing_extensions", *sys.stdlib_module_names}
    assert {*done.stdout.split(), "tensorrt"} - ours == {*re.findall(r"`(\w+)`", said)}


def test_the_options_of_its_advice_exist():
    from veca_edge.cli import commands

    shown = CliRunner().invoke(commands, ["build", "--help"], env={"COLUMNS": "200"}).output
    for option in ("--workspace", "--builder-level", "--device"):
        assert option in PAGE
        assert option in shown
