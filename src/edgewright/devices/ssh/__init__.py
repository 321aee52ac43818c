"""Boards over SSH."""

from edgewright.devices.kinds import DeviceContext
from edgewright.devices.protocol import Device
from edgewright.devices.ssh.address import check_address as check_address
from edgewright.schema.devices import RegisteredDevice


def connect(row: RegisteredDevice, context: DeviceContext) -> Device:
    """Connect to a board. Raises DeviceUnreachable, DeviceUnauthorized."""
    from edgewright.devices.remote.device import RemoteDevice
    from edgewright.devices.ssh.link import open_link

    link = open_link(row)
    try:
        return RemoteDevice(link, row, context)
    except BaseException:
        link.close()
        raise


def prepare(row: RegisteredDevice, context: DeviceContext) -> RegisteredDevice:
    """Return the row with the board's host key, which later connections require."""
    from edgewright.devices.ssh.link import fetch_host_key, get_fingerprint

    row = fetch_host_key(row)
    if fingerprint := get_fingerprint(row):
        context.progress(f"{row.name}: the host key is {fingerprint}")
    return row
