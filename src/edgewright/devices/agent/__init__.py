"""Agents as devices: an app on a phone, or a program on a computer with Java, that we connect to.

The kind's functions are those of `kinds.DeviceModule`; `messages` has the protocol.
"""

from edgewright.devices.agent.device import check_address, connect, prepare

__all__ = ["check_address", "connect", "prepare"]
