"""A runtime that only pretends: seeded times, throttling, fallbacks and every way to fail.

With it the whole product is tested where no real runtime is installed. Its inference is a busy wait, so that
its times are real and CPU time follows them; its outputs are the sums of its inputs.
"""

from edgewright.runtimes.pretend.compiler import compile_model as compile
from edgewright.runtimes.pretend.session import layers, open_session, profile, version

__all__ = ["compile", "layers", "open_session", "profile", "version"]
