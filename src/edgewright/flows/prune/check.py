"""Values of a pruning plan that are not valid for any model."""

import re
from math import inf

from edgewright.errors import UsageError
from edgewright.flows.experiment.setup import read_settings
from edgewright.flows.experiment.teacher_outputs import check_distillation
from edgewright.flows.prune.budgets import parse_amount
from edgewright.schema.plan import PrunePlan

PATTERN = re.compile(r"[1-9]\d*:[1-9]\d*")


def check_plan(plan: PrunePlan) -> None:
    """Raise UsageError for plan values that are not valid for any model."""
    read_settings(plan)
    if plan.method == "unstructured" and not 0 < plan.sparsity < 1:
        raise UsageError(
            f"--sparsity {plan.sparsity:g} cannot be used",
            "the share of weights to remove must be between 0 and 1",
            "use --sparsity 0.8",
        )
    if plan.target_speedup is not None and not 1 < plan.target_speedup < inf:
        what = f"--target-speedup {plan.target_speedup:g} cannot be used"
        raise UsageError(what, "the speed-up factor must be above 1", "use --target-speedup 1.5")
    budgets = [one for one in (plan.target_speedup, plan.target_bytes, plan.target_macs) if one]
    if plan.method == "unstructured" and budgets:
        why = "zeroed single weights do not make a model faster, nor smaller until it is compressed"
        raise UsageError("--method unstructured does not support a target", why, "use --sparsity 0.8")
    if not plan.max_drop >= 0:
        what = f"--max-drop {plan.max_drop:g} cannot be used"
        raise UsageError(what, "the allowed drop must be 0 or more", "use --max-drop 1")
    for count, flag, usual in (
        (plan.multiple, "--multiple", 8),
        (plan.rounds, "--rounds", 1),
    ):
        if count < 1:
            raise UsageError(f"{flag} {count} cannot be used", "it must be at least 1", f"use {flag} {usual}")
    check_distillation(plan)
    if not 0 < plan.round_epochs < inf:
        what = f"--round-epochs {plan.round_epochs:g} cannot be used"
        raise UsageError(what, "it must be above 0", "use --round-epochs 1")
    for text, flag in ((plan.target_bytes, "--target-bytes"), (plan.target_macs, "--target-macs")):
        if text and (amount := parse_amount(text, inf, flag)) < 1:
            why = "an absolute target must be at least 1"
            raise UsageError(
                f"{flag} {text} cannot be used", why, f"use {flag} {1 / amount:.3g}x to divide by a factor"
            )
        if text and parse_amount(text, inf, flag) == inf and parse_amount(text, 1.0, flag) >= 1:
            raise UsageError(
                f"{flag} {text} is not below the current amount", "a factor must be above 1", f"use {flag} 2x"
            )
    if plan.pattern and (
        not PATTERN.fullmatch(plan.pattern) or int(plan.pattern.split(":")[0]) >= int(plan.pattern.split(":")[1])
    ):
        what = f"--pattern {plan.pattern} cannot be used"
        raise UsageError(what, "N:M keeps N of each M weights, and N must be smaller than M", "use --pattern 2:4")
