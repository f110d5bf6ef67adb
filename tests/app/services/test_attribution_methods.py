"""The attribution methods on offer are the library's."""

from __future__ import annotations

from dmpo_explore_app.services import attribution_methods

import dmpo_explore as dx


def test_the_methods_are_the_librarys() -> None:
    assert set(attribution_methods.METHODS) == set(dx.attribution.METHODS)
    assert set(attribution_methods.REFUSED) == set(dx.attribution.REFUSED)
    assert set(attribution_methods.BASELINES) == set(dx.attribution.BASELINES)


def test_unsigned_methods() -> None:
    unsigned = {name for name, method in attribution_methods.METHODS.items() if not method.signed}
    assert unsigned == {"saliency", "attention_rollout"}


def test_a_refused_method_has_a_reason() -> None:
    assert all(dx.attribution.REFUSED[name] for name in attribution_methods.REFUSED)
