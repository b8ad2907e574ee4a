"""A test double of tegrastats: recorded lines (CPU lists completed), the power higher while the GPU is busy."""

import sys
import time

from settings import ROOT, settings

CAPTURES = {
    "orin_nx": "07-16-2026 13:03:45 RAM {ram}/15656MB (lfb 4x4MB) SWAP 0/7828MB (cached 0MB) "
    "CPU [1%@729,0%@729,off,off] EMC_FREQ 0%@3199 GR3D_FREQ {load}%@[{clock}] "
    "cv0@41.156C cpu@45.843C gpu@46.2C tj@{hot}C VDD_IN {total}mW/4304mW VDD_CPU_GPU_CV {gpu}mW/573mW "
    "VDD_SOC 1218mW/1218mW",
    "agx_orin": "07-16-2026 13:03:45 RAM {ram}/62840MB (lfb 4x4MB) CPU [1%@729] EMC_FREQ 3%@3199 "
    "GR3D_FREQ {load}%@[{clock},{clock}] cpu@52.968C/52.968C tj@{hot}C/52.9C "
    "VDD_GPU_SOC {gpu}mW/5139mW/5139mW VDD_CPU_CV 3268mW/3268mW/3268mW VIN_SYS_5V0 5500mW/5500mW/5500mW",
}

interval = float(sys.argv[sys.argv.index("--interval") + 1]) / 1000
while True:
    told = settings()
    busy = (ROOT / "gpu-busy").exists()
    clock = 612 if busy and told["throttle"] else 1173 if busy else 306
    print(
        CAPTURES[told["capture"]].format(
            ram=1324 if busy else 1224,
            load=99 if busy else 0,
            clock=clock,
            hot="97.5" if told["throttle"] else "45.843",
            total=9304 if busy else 4304,
            gpu=5573 if busy else 573,
        ),
        flush=True,
    )
    time.sleep(interval)
