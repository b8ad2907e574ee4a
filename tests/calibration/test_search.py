"""The search on layers whose best quantization is known or bounded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from veca_edge.calibration.search import (
    PER_TOKEN,
    SearchOptions,
    activation_scales,
    gptq,
    nearest,
    quantized,
    quantized_tokens,
    rounding_error,
    seen_as,
    solve_layer,
    weight_scales,
)
from veca_edge.model.folding import PAIR_MAX

from .errors import output_error

PLAIN = SearchOptions(strengths=(), clips=(1.0,), gptq=False, bias_correction=False)


def layer(seed: int = 0, rows: int = 600, columns: int = 48, out: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator) / columns**0.5
    x = torch.randn(rows, columns, generator=generator) @ mixing
    return torch.randn(out, columns, generator=generator), x


def test_smoothing_takes_outlier_channels_away():
    weight, x = layer()
    spread = torch.ones(48)
    spread[::7] = 60.0

    def error(spread: torch.Tensor | float, options: SearchOptions) -> float:
        inputs = {8: x * spread}
        return output_error(weight / spread, inputs, solve_layer(weight / spread, inputs, options))

    searched = error(spread, SearchOptions())
    assert searched < error(spread, PLAIN) / 20
    assert searched < error(1.0, SearchOptions()) * 1.1  # as good as without outliers
    best = error(spread, SearchOptions(strengths=(1.0,)))
    assert best < error(spread, SearchOptions(strengths=(0.0,))) / 1.5
    for strengths in ((0.0, 1.0), (1.0, 0.0)):
        assert error(spread, SearchOptions(strengths=strengths)) == best


def test_gptq_rounds_better_than_nearest():
    weight, x = layer(1)
    hessian = (x.double().T @ x.double()) / len(x)
    scale = weight_scales(weight.double() * 0.05) * 16  # coarse, so that rounding matters
    wanted = weight.double() * 0.05

    def error(codes: torch.Tensor) -> float:
        off = codes * scale[:, None] - wanted
        return float(((off @ hessian) * off).sum())

    codes = gptq(wanted, hessian, scale)
    assert error(codes) < 0.6 * error(nearest(wanted, scale))
    for block in (7, 16, 64):  # how many columns are worked on at a time is a matter of speed alone
        assert torch.equal(gptq(wanted, hessian, scale, block=block), codes)


def test_rounding_to_nearest_is_what_a_search_without_gptq_does():
    weight, x = layer(1)
    found = solve_layer(weight, {8: x}, PLAIN)
    assert torch.equal(found.codes, nearest(weight.double(), weight_scales(weight.double(), pairs=True)))
    assert found.bias_correction is None


def test_what_rounding_costs_is_the_outputs_mean_error():
    weight, x = layer(1)
    scale = weight.abs().amax(1) / 127
    off = (torch.round(weight / scale[:, None]) * scale[:, None] - weight) @ x.T
    assert rounding_error(weight, x.T @ x / len(x)) == pytest.approx(float(off.square().sum(0).mean()), rel=1e-3)


@pytest.mark.parametrize("columns", [48, 7])
@pytest.mark.parametrize("rounded", [True, False])
def test_sums_of_neighbours_fit_16_bits(rounded, columns):
    weight, _ = layer(columns=columns)
    weight[:, 0] = weight[:, 1] = weight.abs().max()
    wanted, hessian = weight.double(), torch.eye(columns, dtype=torch.float64)

    def codes(pairs: bool) -> torch.Tensor:
        scale = weight_scales(wanted, pairs)
        return gptq(wanted, hessian, scale, pairs) if rounded else nearest(wanted, scale)

    even = columns // 2 * 2
    limited = codes(True)
    sums = (limited[:, 0:even:2] + limited[:, 1:even:2]).abs()
    assert sums.max() <= PAIR_MAX
    assert (sums.amax(1) >= 126).all()  # no more room than needed
    assert (codes(False)[:, :2].sum(1) == 254).all()


def test_scales_leave_room_for_sums_of_neighbours_only_where_they_need_it():
    wanted = torch.tensor([[127.0, -127.0, 1.0], [127.0, 127.0, 1.0], [1.0, 0.0, 127.0], [100.0, 64.0, 3.0]]).double()
    assert weight_scales(wanted).tolist() == [1.0, 1.0, 1.0, float(np.float32(100 / 127))]
    assert weight_scales(wanted, pairs=True).tolist() == [1.0, 2.0, 1.0, float(np.float32(164 / 127))]


def test_what_a_neighbour_gives_way_by_is_made_up_for():
    """Both columns see the same input, so a third that sees it too can take over what they may not hold."""
    rng = np.random.default_rng(0)
    shared = torch.from_numpy(rng.normal(size=(500, 1)))
    seen = torch.cat([shared, shared, shared, torch.from_numpy(rng.normal(size=(500, 1)))], 1)
    hessian, scale = seen.T @ seen / len(seen), torch.ones(1, dtype=torch.float64)
    wanted = torch.tensor([[100.0, 60.0, 0.0, 3.0]], dtype=torch.float64)
    codes = gptq(wanted, hessian, scale, pairs=True)
    assert codes[0, :2].sum() <= PAIR_MAX
    assert codes[0, :3].sum() == 160


def test_tokens_have_scales_of_their_own():
    x = torch.tensor([[-1.0, 0.5, 3.0], [0.0, 100.0, 50.0], [-0.02, -0.01, 0.0], [0.0, 0.0, 0.0]])
    seen = quantized_tokens(x)
    span = x.amax(1, keepdim=True).clamp_min(0) - x.amin(1, keepdim=True).clamp_max(0)
    assert ((seen - x).abs() <= span / 255 + 1e-7).all()
    assert (seen[x == 0] == 0).all()  # a zero stays one, whatever the row
    assert torch.equal(seen_as(x, 1.0, PER_TOKEN), seen)
    many = torch.linspace(-1, 3, 2001)[None]
    # The deviation of what is rounded to steps, of which 8 bits have 255.
    assert float((quantized_tokens(many) - many).std()) == pytest.approx(4 / 255 / 12**0.5, rel=0.02)


def test_search_for_tokens_is_better_where_rows_differ():
    """Rows of very different size: one scale for all leaves little of the small ones, and one scale each all of it."""
    weight, x = layer(5)
    x = x * torch.logspace(-2, 1, len(x))[:, None]

    def error(options: SearchOptions) -> float:
        found = solve_layer(weight, {8: x}, options)
        seen = quantized_tokens(x / found.smoothing)
        made = seen @ (found.codes * found.weight_scale[:, None]).float().T + found.bias_correction
        wanted = x @ weight.T
        return float(((made - wanted).square().mean(1) / wanted.square().mean(1)).mean())

    assert error(PER_TOKEN) < 0.8 * error(SearchOptions())


def test_activations_are_clipped_where_that_helps():
    weight, x = layer(2)
    x[0, 0] = 10.0  # one value that would waste the range of all others
    clipped, less = activation_scales(weight, {8: x}, SearchOptions(clips=(1.0, 0.9), search_rows=600))
    whole, more = activation_scales(weight, {8: x}, SearchOptions(clips=(1.0,), search_rows=600))
    assert clipped[8] == pytest.approx(0.9 * whole[8])
    assert less < more
    assert quantized(x, whole[8])[0, 0] == pytest.approx(10.0)


@pytest.mark.parametrize("out", [20, 100])
def test_of_all_clippings_the_one_that_disturbs_the_output_least_is_taken(out):
    weight, x = layer(2, out=out)
    inputs = {8: x, 64: x.sign() * x.square()}
    for count, seen in inputs.items():
        options, errors = SearchOptions(clips=(1.0, 0.9, 0.7, 0.3), search_rows=600), {}
        for clip in options.clips:
            scale = float(seen.abs().max()) / 127 * clip
            errors[scale] = float(((quantized(seen, scale) - seen) @ weight.T).square().sum(1).mean())
        scales, error = activation_scales(
            weight, {count: seen}, SearchOptions(clips=(1.0, 0.9, 0.7, 0.3), search_rows=600)
        )
        assert scales[count] == pytest.approx(min(errors, key=errors.__getitem__))
        assert error == pytest.approx(min(errors.values()), rel=1e-3)
    alone = [activation_scales(weight, {count: seen}, SearchOptions())[1] for count, seen in inputs.items()]
    assert activation_scales(weight, inputs, SearchOptions())[1] == pytest.approx(sum(alone) / 2)


def test_every_core_count_gets_its_scale_and_all_share_the_codes():
    weight, x = layer(3)
    solution = solve_layer(weight, {8: x, 64: 4 * x}, SearchOptions())
    assert 3 < solution.activation_scale[64] / solution.activation_scale[8] < 5
    assert solution.codes.abs().max() <= 127


@pytest.mark.parametrize("options", [SearchOptions(), SearchOptions(pairs=True), PER_TOKEN])
def test_inputs_that_were_always_zero(options):
    """They say nothing of what rounding costs, and a layer that gets none still has codes."""
    weight, x = layer(6)
    found = solve_layer(weight, {8: torch.zeros_like(x)}, options)
    stored = found.codes * found.weight_scale[:, None]
    assert ((stored - weight * found.smoothing).abs() <= 1.01 * found.weight_scale[:, None]).all()


def test_bias_correction_leaves_no_mean_error():
    weight, x = layer(4)
    x = x + 3.0
    with_it = solve_layer(weight, {8: x}, SearchOptions(rows=600))
    scale = with_it.activation_scale[8]
    seen = quantized(x / with_it.smoothing, scale).double()
    made = seen @ (with_it.codes * with_it.weight_scale[:, None]).T + with_it.bias_correction
    assert (made.mean(0) - (x @ weight.T).double().mean(0)).abs().max() < 1e-4
