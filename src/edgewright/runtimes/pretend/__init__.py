"""A simulated runtime: seeded times, throttling, fallbacks and all kinds of failures.

With it the product is tested without a real runtime. Its inference is a busy wait, so that
its times are real and CPU time follows them; its outputs are the sums of its inputs.
"""

from edgewright.runtimes.pretend.compiler import compile_model as compile
from edgewright.runtimes.pretend.session import layers, open_session, profile, version

__all__ = ["compile", "layers", "open_session", "profile", "version"]
