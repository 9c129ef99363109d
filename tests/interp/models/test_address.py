"""An address is the one way to name an activation; an unknown one raises."""

from __future__ import annotations

import pytest

import interp
from interp.errors import UsageError
from interp.models.address import Address, resolve


@pytest.mark.parametrize(
    ("alias", "canonical"),
    [
        ("blocks.1.hook_resid_post", "blocks.1.hook_out"),
        ("blocks.1.hook_resid_pre", "blocks.1.hook_in"),
        ("blocks.0.hook_attn_out", "blocks.0.attn.hook_out"),
        ("blocks.2.hook_mlp_out", "blocks.2.mlp.hook_out"),
    ],
)
def test_aliases_are_the_same_address(coconut: interp.Reasoner, alias: str, canonical: str) -> None:
    assert Address(alias) == Address(canonical)
    assert hash(Address(alias)) == hash(Address(canonical))
    assert resolve(coconut.model, alias) == resolve(coconut.model, canonical) == [Address(canonical)]


def test_a_star_stays_between_two_dots(coconut: interp.Reasoner) -> None:
    result = [a.name for a in resolve(coconut.model, "blocks.*.hook_out")]
    assert result == ["blocks.0.hook_out", "blocks.1.hook_out", "blocks.2.hook_out"]
    # A plain fnmatch would let the star run over the dot.
    assert "blocks.0.attn.hook_out" in coconut.model.hook_dict


def test_a_pattern_of_aliases_finds_the_canonical_addresses(coconut: interp.Reasoner) -> None:
    result = resolve(coconut.model, "blocks.*.hook_resid_post")
    assert result == resolve(coconut.model, "resid_post")


def test_layers_filter_blocks_and_keep_what_has_none(coconut: interp.Reasoner) -> None:
    result = [a.name for a in resolve(coconut.model, ["resid_post", "mlp_out", "final"], layers=[1])]
    assert result == ["blocks.1.mlp.hook_out", "blocks.1.hook_out", "ln_final.hook_out"]


@pytest.mark.parametrize("layer", [3, -1])
def test_a_layer_that_is_not_there_raises(coconut: interp.Reasoner, layer: int) -> None:
    with pytest.raises(UsageError, match=r"expected layers between 0 and 2, got \[.*\]"):
        resolve(coconut.model, "resid_post", layers=[layer])


@pytest.mark.parametrize("site", ["resid_pots", "blocks.0.hook_otu", "blocks.9.hook_out", "blocks.*.attn.hook_nothing"])
def test_an_unknown_address_raises_with_the_closest_one(coconut: interp.Reasoner, site: str) -> None:
    with pytest.raises(UsageError, match=r"expected a known address, got .*did you mean"):
        resolve(coconut.model, site)


def test_one_unknown_site_among_good_ones_still_raises(coconut: interp.Reasoner) -> None:
    with pytest.raises(UsageError, match="nothing_like_it"):
        resolve(coconut.model, ["resid_post", "nothing_like_it"])


def test_addresses_come_once_and_in_the_order_of_the_forward_pass(coconut: interp.Reasoner) -> None:
    result = resolve(coconut.model, ["final", "resid_post", "mlp_out", "attn_out", "resid_pre", "resid"])
    assert len(set(result)) == len(result)
    order = [a.name for a in result if a.layer == 1]
    assert order == ["blocks.1.hook_in", "blocks.1.attn.hook_out", "blocks.1.mlp.hook_out", "blocks.1.hook_out"]
    assert result[0].name == "blocks.0.hook_in" and result[-1].name == "ln_final.hook_out"
    assert [a.depth for a in result] == sorted(a.depth for a in result)


def test_an_address_says_its_layer_and_its_side_of_the_final_norm() -> None:
    block, final = Address("blocks.12.hook_out"), Address("ln_final.hook_out")
    assert (block.layer, block.hook, block.norm, block.folder) == (12, "hook_out", "pre", "hook_out/L12")
    assert (final.layer, final.norm) == (None, "post")
    assert final.folder != block.folder


def test_no_two_residual_addresses_share_a_folder(coconut: interp.Reasoner) -> None:
    result = resolve(coconut.model, list(coconut.model.hook_dict))
    assert len({a.folder for a in result}) == len(result)
