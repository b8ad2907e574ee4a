import pytest

from veca_edge.base.cpu_features import cpu_flags, int8_instructions, int8_saturates


@pytest.mark.parametrize(
    ("architecture", "flags", "name"),
    [
        ("x86_64", {"avx2", "avx512bw", "avx512_vnni"}, "AVX-512 VNNI"),
        ("x86_64", {"avx2", "avx_vnni"}, "AVX-VNNI"),
        ("x86_64", {"avx512_vnni", "amx_int8"}, "AMX"),
        ("x86_64", {"avx2", "avx512bw"}, "AVX-512 without VNNI"),
        ("AMD64", {"avx2"}, "AVX2 without VNNI"),
        ("x86_64", {"sse4_2"}, "no AVX2"),
        ("x86_64", set(), ""),
        ("aarch64", {"asimd", "asimddp", "i8mm"}, "NEON i8mm"),
        ("aarch64", {"asimd", "asimddp"}, "NEON dot products"),
        ("arm64", {"FEAT_DotProd"}, "NEON dot products"),
        ("aarch64", {"asimd"}, "NEON without dot products"),
    ],
)
def test_int8_instructions(architecture, flags, name):
    assert int8_instructions(architecture, frozenset(flags)) == name


@pytest.mark.parametrize(
    ("architecture", "flags", "saturates"),
    [
        ("x86_64", {"avx2", "avx512bw", "avx512_vnni"}, False),
        ("x86_64", {"avx2", "avx_vnni"}, False),
        ("x86_64", {"avx2", "avx512bw"}, True),
        ("AMD64", set(), True),  # nothing is known: rather slow than wrong
        ("aarch64", {"asimd"}, False),
    ],
)
def test_int8_saturates(architecture, flags, saturates):
    assert int8_saturates(architecture, frozenset(flags)) == saturates


def test_this_cpu_is_known():
    assert cpu_flags()
    assert int8_instructions("x86_64", cpu_flags()) or int8_instructions("aarch64", cpu_flags())
