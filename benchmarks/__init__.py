"""What veca-edge claims about speed, memory and fidelity, measured by scripts.

    python -m benchmarks.peers      latency, memory and size beside other toolchains
    python -m benchmarks.fidelity   INT8 of a trained model beside other toolchains, hard weights included
    python -m benchmarks.scaling    VECA beside a dense ViT of the same size, 256 to 1024 pixels
    python -m benchmarks.export     what an export costs, and the size of the bundle
    python -m benchmarks.claims     what the project says of itself, checked against the result files
    python -m benchmarks.readme     the tables and the plot of the README, from what the others measured

They need `pip install -e '.[bench]'`. Each writes a JSON file with its raw samples to `benchmarks/results`.
"""
