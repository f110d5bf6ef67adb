"""Texts that a page shows literally, and code in them."""

from __future__ import annotations

from dmpo_explore_app.messages import escape_markdown, signed, with_code


def test_what_stands_in_backticks_is_code_and_the_rest_literal() -> None:
    text = with_code("no *x*: run `dmpo-explore fetch --data a_b`, or [see](x)")
    assert text == r"no \*x\*\: run `dmpo-explore fetch --data a_b`\, or \[see\]\(x\)"
    assert with_code("one ` and <b>") == escape_markdown("one ` and <b>") == r"one \` and \<b\>"
    assert with_code("`" + "a" * 600 + "`", 100).count("\\`") == 1  # cut inside: no code


def test_signed_numbers_have_the_minus_of_the_figures() -> None:
    assert [signed(number) for number in (0.126, -0.194, -0.001, 0)] == ["+0.13", "−0.19", "0.00", "0.00"]
