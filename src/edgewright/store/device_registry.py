"""Registered devices in the store."""

from dataclasses import dataclass

import msgspec
from sqlalchemy import delete, insert, select, update

from edgewright.errors import StoreCorrupt, UsageError
from edgewright.schema.devices import RegisteredDevice
from edgewright.store.reader import RunReader
from edgewright.store.schema import registered_device

_JSON_COLUMNS = ("facts", "settings")


@dataclass(frozen=True)
class DeviceRegistry(RunReader):
    """The methods of `Store` for the devices that the user added."""

    def add_device(self, device: RegisteredDevice) -> None:
        """Add a device. Raises UsageError if its name is taken."""
        with self.database.writing("the device cannot be added", exclusive=True) as connection:
            taken = connection.execute(
                select(registered_device.c.kind, registered_device.c.address).where(
                    registered_device.c.name == device.name
                )
            ).first()
            if taken is not None:
                raise UsageError(
                    f"the device '{device.name}' exists already",
                    f"it is {taken.address or taken.kind}",
                    f"choose another name, or run edgewright devices remove {device.name} first",
                )
            connection.execute(insert(registered_device), _to_values(device))

    def update_device(self, device: RegisteredDevice) -> None:
        """Replace a device of this name, if it still exists."""
        with self.database.writing("the device cannot be updated") as connection:
            named = registered_device.c.name == device.name
            connection.execute(update(registered_device).where(named).values(_to_values(device)))

    def forget_device(self, name: str) -> bool:
        """Remove a device; its runs stay. Return whether it existed."""
        with self.database.writing("the device cannot be removed") as connection:
            removed = connection.execute(delete(registered_device).where(registered_device.c.name == name))
            return removed.rowcount > 0

    def list_registered_devices(self) -> list[RegisteredDevice]:
        """Return the devices in the order in which they were added."""
        with self.database.reading("the devices cannot be listed") as connection:
            table = registered_device
            rows = connection.execute(select(table).order_by(table.c.added_at, table.c.name)).mappings().all()
        return [_from_values(dict(row)) for row in rows]


def _to_values(device: RegisteredDevice) -> dict[str, object]:
    values: dict[str, object] = msgspec.structs.asdict(device)
    return values | {name: msgspec.json.encode(values[name]).decode() for name in _JSON_COLUMNS}


def _from_values(values: dict[str, object]) -> RegisteredDevice:
    try:
        decoded = {name: msgspec.json.decode(str(values[name])) for name in _JSON_COLUMNS}
        return msgspec.convert({str(name): value for name, value in (values | decoded).items()}, RegisteredDevice)
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(
            f"the device '{values['name']}' cannot be read", str(error), "remove it and add it again"
        ) from None
