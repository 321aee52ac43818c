"""Functions that make a network smaller by training: prune, distill."""

from typing import Any, Unpack

from edgewright.api.calls import ApiCall
from edgewright.api.options import DistillOptions, PruneOptions, accept
from edgewright.api.plans import plan_distillation, plan_pruning
from edgewright.api.results.training import DistillResult, PruneResult
from edgewright.flows.distill.flow import distill as run_distillation
from edgewright.flows.prune.flow import prune as run_pruning
from edgewright.schema.plan import DistillPlan, PrunePlan


@accept(PruneOptions, PrunePlan, importance=None, seed=0)
def prune(model: Any, **options: Unpack[PruneOptions]) -> PruneResult:
    """Prune a network, and fine-tune it if it is a torch source with `data`.

    Args:
        model: `FILE.py:FACTORY` of a torch network with `weights`, which can be fine-tuned; or a path or an
            `onnx.ModelProto`, which is pruned without fine-tuning.
        **options: as on the command line, see docs/prune.md; `task` and `val` are required.

    Returns:
        Source, control and pruned network with their metrics, sizes in bytes and times in microseconds.

    Raises:
        UsageError, DataError, ModelError: nothing is pruned.
        GateFailed: the drop exceeds `max_drop`, or a target cannot be met; `error.result` has the networks.
        Cancelled: by Ctrl-C or the event.
    """
    with ApiCall(options) as call:
        (path,) = call.write_models(model)
        plan = plan_pruning(path, call.given)
        with call.open_workspace() as workspace:
            report, error = run_pruning(plan, call.find_output(path), workspace)
        return call.finish(PruneResult(report), error)


@accept(DistillOptions, DistillPlan, seed=0)
def distill(**options: Unpack[DistillOptions]) -> DistillResult:
    """Distill a large network into a small one, and compare it with one that was trained without the teacher.

    Args:
        **options: as on the command line, see docs/distill.md; `teacher`, `student`, `task`, `data` and `val` are
            required.

    Returns:
        Teacher, control and student with their metrics, sizes in bytes and times in microseconds.

    Raises:
        UsageError, DataError, ModelError: nothing is trained.
        GateFailed: the student is worse than the control by more than `max_drop`; `error.result` has the networks.
        Cancelled: by Ctrl-C or the event.
    """
    with ApiCall(options) as call:
        plan = plan_distillation(call.given)
        with call.open_workspace() as workspace:
            report, error = run_distillation(plan, call.find_output(plan.teacher), workspace)
        return call.finish(DistillResult(report), error)
