"""A model's graph in Netron, where that package is installed: its own files, served by us under a policy that lets
them reach nothing but us."""

from importlib.util import find_spec


def is_installed() -> bool:
    return find_spec("netron") is not None
