"""When an interchange may be called: the anchors of the counterfactual contract, and the power to tell.

Sufficiency of at least 0.80, a competitor of at most 0.25 (both against the answers that follow by luck), and a
corruption that costs at least half of the right answers. Where an interval holds an anchor nothing is called.
"""

from __future__ import annotations

from interp.causal.sites import SiteInterchange

SUFFICIENT, COMPETITOR, CORRUPTION, SAME_VALUE = 0.80, 0.25, -0.50, 0.10


def verdict(found: SiteInterchange) -> tuple[str, str]:
    """`used`, `not used`, `damaged` or `undecided`, and why.

    `used`: answers follow other values, stay with the same value, and do not follow from the wrong places. `damaged`:
    answers change, but those of same-value donors do too, so the site holds more than the value. `not used`: swaps
    are not followed although a random vector there costs answers, or nothing there matters at all.
    """
    contract = found.contract()
    sufficiency, competitor = contract["sufficiency"], contract["competitor"]
    if sufficiency["value"] is None:
        return "undecided", "no donor of another value"
    low, high = sufficiency["ci"]
    same = found.rates("same value", "changed")
    if low >= SUFFICIENT:
        if competitor["value"] is not None and competitor["ci"][1] > COMPETITOR:
            return "undecided", f"the same edit at a wrong place may be followed as well (anchor {COMPETITOR})"
        if same["value"] is None:
            return "undecided", "no donors of the same value, so damage cannot be told from content"
        if same["ci"][1] <= SAME_VALUE:
            return "used", "answers follow the donor's value and stay when it is the same"
        if same["ci"][0] > SAME_VALUE:
            return "damaged", "donors of the same value change answers too: the site holds more than the value"
        return "undecided", f"the interval of same-value changes holds {SAME_VALUE}: take more problems"
    if high >= SUFFICIENT:
        return "undecided", f"the interval of sufficiency holds the anchor {SUFFICIENT}: take more problems"
    if same["value"] is not None and same["ci"][0] > SAME_VALUE:
        return "damaged", "answers change with donors of the same value too: the site holds more than the value"
    return "not used", f"fewer than {SUFFICIENT:.0%} of answers follow"
