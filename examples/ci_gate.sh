#!/bin/sh
# Check a model against a baseline, as a CI job does. Runs in an empty folder, with the model of the demo.
#
#     mkdir try && cd try && sh ../examples/ci_gate.sh
set -eu

# Once, on a developer's machine: the baseline is committed to the repository, with its model beside it.
edgewright demo --copy .
edgewright gate digits.onnx --baseline baseline.json --write \
    --goal "latency<=1.5x, bytes<=1.01x, drop<1" \
    --processes "${PROCESSES:-8}" --seconds 0.1 --task task.toml --data heldout.npz

# In each pull request: exit code 3 if a goal is missed.
edgewright gate digits.onnx --baseline baseline.json --junit gate.xml --summary "${GITHUB_STEP_SUMMARY:-summary.md}"
