"""The folders of a federation: all of them, or none."""

from pathlib import Path

import pytest

from edgewright.errors import ModelNotFound, RuntimeMissing
from edgewright.federated.job import RoundSettings
from edgewright.flows.federate import network
from edgewright.flows.federate.network import init_federation
from edgewright.flows.federate.plan import FederatePlan

pytest.importorskip("cryptography", reason="the keys of a federation need it")


def make_plan(folder: Path, weights: str | None = None) -> FederatePlan:
    (folder / "net.py").write_text("def build():\n    return None\n")
    return FederatePlan(
        model=f"{folder}/net.py:build", weights=weights, task={}, data="", val="", clients=3, sampled=3, rounds=1,
        settings=RoundSettings(), central=False,
    )  # fmt: skip


def test_a_folder_for_the_server_and_each_client(tmp_path: Path) -> None:
    report = init_federation(make_plan(tmp_path), ["localhost"], tmp_path / "f")
    assert sorted(one.name for one in (tmp_path / "f").iterdir()) == ["client-1", "client-2", "client-3", "server"]
    assert report.server == str(tmp_path / "f" / "server")
    assert all((Path(one) / "net.py").is_file() for one in (report.server, *report.clients))
    assert Path(report.server).stat().st_mode & 0o077 == 0


def test_weights_that_are_missing_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"absent\.pt"):
        init_federation(make_plan(tmp_path, str(tmp_path / "absent.pt")), ["localhost"], tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_keys_that_cannot_be_made_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeMissing("cryptography is not installed")

    monkeypatch.setattr(network, "write_keys", fail)
    with pytest.raises(RuntimeMissing):
        init_federation(make_plan(tmp_path), ["localhost"], tmp_path / "f")
    assert not (tmp_path / "f").exists()
