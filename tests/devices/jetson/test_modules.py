import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.devices.jetson.modules import (
    JETPACKS,
    MODULES,
    estimate,
    estimate_frame,
    identify_module,
    jetpack_of_l4t,
    jetpack_tensorrt,
)


def test_jetpack_to_tensorrt():
    assert [jetpack_tensorrt(v) for v in ("5.1", "6.0", "6.1", "6.2", "7.0", "7.1", "7.2")] == [
        "8.5",
        "8.6",
        "10.3",
        "10.3",
        "10.13",
        "10.13",
        "10.16",
    ]
    assert jetpack_tensorrt("6.2.1") == "10.3"
    for unknown in ("4.6", "6", "latest", "6.2; rm -rf /", ""):
        with pytest.raises(EdgeError, match="Unknown JetPack") as error:
            jetpack_tensorrt(unknown)
        assert "6.2" in error.value.hint


@pytest.mark.parametrize(
    ("l4t", "jetpack"),
    [
        ("35.3.1", "5.1"),
        ("36.3.0", "6.0"),
        ("36.4.0", "6.1"),
        ("36.4.3", "6.2"),
        ("36.4.7", "6.2"),
        ("36.5.0", "6.2"),
        ("38.2.0", "7.0"),
        ("38.4.0", "7.1"),
        ("39.2.0", "7.2"),
        ("32.7.1", None),
        ("3", None),
        ("361.0", None),
    ],
)
def test_l4t_to_jetpack(l4t, jetpack):
    assert jetpack_of_l4t(l4t) == jetpack


def test_peaks_reproduce_the_marketed_tops():
    """NVIDIA states sparse INT8 TOPS, of GPU and DLA together; the Nanos have no DLA."""
    marketed = {"Orin Nano 4GB": (20, 34), "Orin Nano 8GB": (40, 67)}
    for name, (base, super_mode) in marketed.items():
        assert 2 * MODULES[name].int8_tops() == pytest.approx(base, abs=1)
        assert 2 * MODULES[name].int8_tops(True) == pytest.approx(super_mode, abs=1)
    assert MODULES["AGX Orin 64GB"].int8_tops() == pytest.approx(85.2, abs=0.1)
    assert MODULES["AGX Thor T5000"].int8_tops() is None


@pytest.mark.parametrize(
    ("model", "compatible", "ram_mb", "name"),
    [
        (
            "NVIDIA Orin Nano Developer Kit",
            "nvidia,p3768-0000+p3767-0003 nvidia,p3768-0000+p3767-0005",
            6480,
            "Orin Nano 8GB",
        ),
        (
            "NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
            "nvidia,p3768-0000+p3767-0000",
            15656,
            "Orin NX 16GB",
        ),
        (
            "NVIDIA Jetson AGX Orin Developer Kit",
            "nvidia,p3737-0000+p3701-0005 nvidia,p3701-0005",
            62800,
            "AGX Orin 64GB",
        ),
        ("NVIDIA Jetson AGX Orin Developer Kit", "nvidia,p3737-0000+p3701-0000", 30600, "AGX Orin Developer Kit 32GB"),
        (
            "NVIDIA Jetson AGX Thor Developer Kit",
            "nvidia,p4071-0000+p3834-0008 nvidia,tegra264",
            125000,
            "AGX Thor T5000",
        ),
        ("NVIDIA Jetson Orin Nano Developer Kit", "", 3600, "Orin Nano 4GB"),
        ("NVIDIA Jetson Orin Nano Developer Kit", "", 7600, "Orin Nano 8GB"),
        ("Jetson AGX Orin Industrial", "nvidia,p3737-0000+p3701-0008", 60000, None),
        ("Raspberry Pi 5", "raspberrypi,5-model-b", 8000, None),
    ],
)
def test_identify_module(model, compatible, ram_mb, name):
    found = identify_module(model, compatible, ram_mb)
    assert (found.name if found else None) == name


def test_jetpacks_of_modules():
    assert MODULES["Xavier NX"].jetpacks == ("5.1",)
    assert MODULES["AGX Thor T5000"].jetpacks == ("7.0", "7.1", "7.2")
    assert set(MODULES["Orin NX 8GB"].jetpacks) == set(JETPACKS) - {"7.0", "7.1"}


def test_estimate_is_a_roofline():
    nano = MODULES["Orin Nano 8GB"]
    compute = estimate(nano, int8_macs=10.24e9, moved_bytes=1e6)
    assert compute.bound == "compute"
    assert compute.milliseconds == pytest.approx(1.0)
    assert estimate(nano, fp16_macs=10.24e9).milliseconds == pytest.approx(2.0)
    assert estimate(nano, fp32_macs=10.24e9).milliseconds == pytest.approx(4.0)
    memory = estimate(nano, int8_macs=1e6, moved_bytes=68e6)
    assert memory.bound == "bandwidth"
    assert memory.milliseconds == pytest.approx(1.0)
    assert estimate(nano, moved_bytes=68e6, super_mode=True).milliseconds == pytest.approx(68 / 102)
    with pytest.raises(EdgeError, match="no estimate for AGX Thor"):
        estimate(MODULES["AGX Thor T5000"], int8_macs=1)
    with pytest.raises(EdgeError, match="no Super"):
        estimate(MODULES["AGX Orin 64GB"], int8_macs=1, super_mode=True)


def test_estimates_of_a_model():
    nano = MODULES["Orin Nano 8GB"]
    int8, fp16 = (estimate_frame(nano, p, 1024e6, 102.4e6, 1e6).compute_ms for p in ("int8", "fp16"))
    assert fp16 == pytest.approx(0.2)
    assert int8 == pytest.approx(0.09 + 0.02)
    with pytest.raises(EdgeError, match="Unknown precision"):
        estimate_frame(nano, "w8", 1, 0, 1)
