"""Browsers as devices; the kind's functions are those of `kinds.DeviceModule`."""

from edgewright.devices.browser.device import check_address, connect, prepare

__all__ = ["check_address", "connect", "prepare"]
