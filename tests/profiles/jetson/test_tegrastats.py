"""Parsers against recorded lines (their CPU lists shortened)."""

import pytest

from veca_edge.devices.jetson.modules import MODULES
from veca_edge.profiles.jetson.tegrastats import between, heat_warnings, parse, parse_line, total_rails, window

XAVIER_NX = (
    "RAM 2673/7765MB (lfb 118x4MB) SWAP 0/3882MB (cached 0MB) CPU [2%@1190,off,off] EMC_FREQ 7% GR3D_FREQ 33% "
    "AO@35C GPU@33C PMIC@50C AUX@-256C VDD_IN 3902/3611 VDD_CPU_GPU_CV 1331/1180 VDD_SOC 997/941"
)
ORIN_NX = (
    "07-16-2026 13:03:45 RAM 1224/15656MB (lfb 4x4MB) SWAP 12/7828MB (cached 0MB) CPU [0%@729] GR3D_FREQ 0% "
    "cv0@41.156C cpu@45.843C soc2@-256C tj@45.843C VDD_IN 4304mW/4304mW VDD_CPU_GPU_CV 573mW/573mW "
    "VDD_SOC 1218mW/1218mW"
)
AGX_ORIN = (
    "07-16-2026 13:03:45 RAM 3000/62840MB (lfb 4x4MB) CPU [0%@729] EMC_FREQ 3%@3199 GR3D_FREQ 12%@[1300,1300] "
    "cpu@52.968C/52.968C VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV 3268mW/3268mW/3268mW "
    "VIN_SYS_5V0 5500mW/5500mW/5500mW"
)
THOR = (
    "RAM 6000/125771MB (lfb 4x4MB) CPU [0%@972] EMC_FREQ 0%@2750 GR3D_FREQ @[314,314,314] gpu@38.5C "
    "VDD_GPU 1962mW/1962mW VDD_CPU_SOC_MSS 5887mW/5887mW VIN_SYS_5V0 5635mW/5635mW VIN 19780mW/19780mW"
)


def test_xavier():
    s = parse_line(XAVIER_NX)
    assert (s.ram_mb, s.gpu_load, s.gpu_mhz, s.emc_mhz) == (2673, 33, None, None)
    assert s.temperatures_c == {"ao": 35, "gpu": 33}
    assert s.rails_mw == {"VDD_IN": 3902, "VDD_CPU_GPU_CV": 1331, "VDD_SOC": 997}


def test_orin_nx():
    s = parse_line(ORIN_NX)
    assert (s.ram_mb, s.gpu_load, s.gpu_mhz) == (1224, 0, None)
    assert s.temperatures_c == {"cv0": 41.156, "cpu": 45.843, "tj": 45.843}
    assert s.rails_mw == {"VDD_IN": 4304, "VDD_CPU_GPU_CV": 573, "VDD_SOC": 1218}


def test_agx_orin():
    s = parse_line(AGX_ORIN)
    assert (s.gpu_load, s.gpu_mhz, s.emc_mhz) == (12, 1300, 3199)
    assert s.temperatures_c == {"cpu": 52.968}
    assert s.rails_mw == {"VDD_GPU_SOC": 5139, "VDD_CPU_CV": 3268, "VIN_SYS_5V0": 5500}


def test_thor():
    s = parse_line(THOR)
    assert (s.gpu_load, s.gpu_mhz, s.emc_mhz) == (None, 314, 2750)
    assert s.rails_mw == {"VDD_GPU": 1962, "VDD_CPU_SOC_MSS": 5887, "VIN_SYS_5V0": 5635, "VIN": 19780}
    assert parse_line(THOR.replace("GR3D_FREQ @[314,314,314] ", "")).gpu_mhz is None


def test_negative_power_and_our_stamp():
    s = parse_line("1234.56 612000000 " + ORIN_NX.replace("573mW/573mW", "-12mW/573mW"))
    assert s.at_s == 1234.56
    assert s.gpu_mhz == 612
    assert s.rails_mw["VDD_CPU_GPU_CV"] == -12
    assert parse_line("1234.56 - " + AGX_ORIN).gpu_mhz == 1300


@pytest.mark.parametrize(
    ("line", "total"), [(XAVIER_NX, 3902), (ORIN_NX, 4304), (AGX_ORIN, 5139 + 3268 + 5500), (THOR, 1962 + 5887 + 5635)]
)
def test_the_modules_power(line, total):
    assert window([parse_line(line)], 1).total_mw == total


def test_rails():
    assert total_rails(["VDD_IN", "VDD_SOC"]) == ("VDD_IN",)
    assert total_rails(["VDD_5V_SOMETHING"]) == ()
    thor = MODULES["AGX Thor T5000"].total_rails
    assert total_rails([*thor, "VIN", "VDD_IN"], thor) == thor


def test_a_window():
    lines = [
        f"{10 + i / 10:.2f} {mhz}000000 " + ORIN_NX.replace("1224/", f"{ram}/").replace("4304mW/", f"{mw}mW/")
        for i, (mhz, ram, mw) in enumerate(
            [(306, 1200, 4000), (1173, 1300, 8000), (1173, 1310, 9000), (1173, 1305, 10000), (306, 1200, 4000)]
        )
    ]
    samples = parse("\n".join(["a greeting", *lines, "Killed"]))
    assert len(samples) == 5
    steady = window(between(samples, 10.05, 10.35), 0.3)
    assert (steady.count, steady.total_mw, steady.ram_mb, steady.gpu_mhz) == (3, 9000, 1305, (1173, 1173, 1173))
    assert steady.hottest_c == 45.843
    assert heat_warnings(steady, 1173) == []
    assert window([], 1) is None
    assert "fell from 1173 to 306" in heat_warnings(window(samples, 1), None)[0]
    assert "allows 1400" in heat_warnings(steady, 1400)[0]
    hot = parse_line(ORIN_NX.replace("tj@45.843C", "tj@96.5C"))
    assert "at 96 C" in heat_warnings(window([hot], 1), None)[0]
