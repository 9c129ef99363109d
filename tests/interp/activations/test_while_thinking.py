"""Activations recorded while thinking: those of a replay where nothing is changed, and with what follows where it is."""

from __future__ import annotations

import numpy as np

import interp
from interp.activations.while_thinking import record_thinking
from interp.models.address import Address
from interp.reasoners.interventions import Intervention, replace_with
from interp.traces import Channel, TraceSet


def test_it_records_what_a_replay_records(coconut: interp.Reasoner, traces: TraceSet) -> None:
    own = record_thinking(coconut, traces.problems[:6], sites="resid_post", channels=["latent"])
    again = interp.record(coconut, traces[:6], sites="resid_post", channels=["latent"])
    assert [t.answer for t in own.traces] == [t.answer for t in traces[:6]]
    for address in again.addresses:
        np.testing.assert_allclose(own.acts(address), again.acts(address), atol=2e-4)


def test_what_follows_an_intervention_is_in_it(coconut: interp.Reasoner, traces: TraceSet) -> None:
    trace = traces[0]
    first = trace.channel.index(Channel.LATENT)
    zero = np.zeros((1, coconut.model.cfg.d_model), np.float32)
    edit = Intervention(Address("blocks.0.hook_in"), np.array([[0, first]]), replace_with(zero))
    plain, edited = (
        record_thinking(coconut, [trace.problem], sites="resid_post", channels=["latent"], interventions=edits)
        for edits in ((), (edit,))
    )
    address, positions = plain.addresses[-1], plain.index["position"].to_numpy()
    difference = np.abs(plain.acts(address) - edited.acts(address)).max(axis=1)
    assert (difference[positions >= first] > 1e-2).all() and (difference[positions < first] < 1e-4).all()
