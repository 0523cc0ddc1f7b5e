"""Damaged files of the embedded Valkey: the start names them, and a repair keeps a copy and says what is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

import main as program
from client.valkey import append_only
from client.valkey.append_only import AppendOnlyFiles
from client.valkey.embedded import EmbeddedValkey
from errors import SettingsError
from tests.conftest import MakeSettings

KEYS = 200


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a server that wrote KEYS keys and was stopped."""
    folder = tmp_path_factory.mktemp("valkey")
    server = EmbeddedValkey(folder)
    assert server.start()
    with Redis.from_url(server.url) as valkey:
        for number in range(KEYS):
            valkey.set(f"key:{number}", "value")
    server.stop()
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of that folder, for a server to serve. What damages it gets the append-only folder."""
    folder = tmp_path / "data" / "valkey"
    shutil.copytree(written, folder)
    (folder / "port").unlink()
    return folder


def keys_of(folder: Path) -> int:
    """Start a server on the folder and count the keys."""
    server = EmbeddedValkey(folder)
    assert server.start()
    try:
        with Redis.from_url(server.url) as valkey:
            return int(valkey.dbsize())
    finally:
        server.stop()


def increments(folder: Path) -> Path:
    """Return the file to which the server wrote."""
    (file,) = (folder / "appendonlydir").glob("*.incr.aof")
    return file


def overwrite_middle(folder: Path) -> None:
    with increments(folder).open("r+b") as file:
        file.seek(file.seek(0, 2) // 2)
        file.write(b"\0" * 100)


def remove_manifest(folder: Path) -> None:
    (folder / "appendonlydir" / "appendonly.aof.manifest").unlink()


def empty_manifest(folder: Path) -> None:
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_bytes(b"")


def spoil_manifest(folder: Path) -> None:
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_bytes(b"\xff\0garbage\n")


def remove_increments(folder: Path) -> None:
    increments(folder).unlink()


Damage = Callable[[Path], None]
# What happens to the files, what the repair says, and how many keys are left at least.
DAMAGES: list[tuple[Damage, str, int]] = [
    (overwrite_middle, "was damaged from byte", KEYS // 4),
    (remove_manifest, "written again from the files that are there", KEYS),
    (empty_manifest, "written again from the files that are there", KEYS),
    (spoil_manifest, "written again from the files that are there", KEYS),
    (remove_increments, "appendonly.aof.1.incr.aof is lost", 0),
]


@pytest.mark.parametrize(("damage", "said", "left"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_damage_is_named_and_repaired(damage: Damage, said: str, left: int, folder: Path) -> None:
    damage(folder)
    before = {file.name: file.read_bytes() for file in (folder / "appendonlydir").iterdir()}
    with pytest.raises(SettingsError) as refused:
        EmbeddedValkey(folder).start()
    assert "audit --repair" in refused.value.detail
    assert {file.name: file.read_bytes() for file in (folder / "appendonlydir").iterdir()} == before
    lines = EmbeddedValkey(folder).repair()
    assert said in "\n".join(lines)
    (copy,) = folder.glob("appendonlydir-damaged-*")
    assert str(copy) in lines[-1]
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before
    assert left <= keys_of(folder) <= KEYS
    assert EmbeddedValkey(folder).repair() == []


def test_a_write_that_was_cut_by_a_kill_is_removed_at_the_start(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = increments(folder)
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    assert keys_of(folder) == KEYS - 1
    assert "was not complete" in caplog.text
    (kept,) = folder.glob("appendonly.aof.1.incr.aof.end-*")
    assert kept.stat().st_size > 0
    assert whole[:-10].endswith(kept.read_bytes())


def test_a_cut_write_is_removed_from_a_file_that_takes_long_to_load(folder: Path) -> None:
    """The server answers some commands while it loads the file, before it meets the end."""
    writes = b"".join(b"*3\r\n$3\r\nSET\r\n$6\r\n%06d\r\n$1\r\na\r\n" % number for number in range(250_000))
    with increments(folder).open("ab") as file:
        file.write(writes[:-10])
    assert keys_of(folder) == KEYS + 250_000 - 1


def test_a_write_may_be_cut_anywhere() -> None:
    writes = b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n\r\n\r\n\r\n*1\r\n$4\r\nEXEC\r\n"
    assert all(append_only._ends_early(writes[:place]) for place in range(len(writes) + 1))
    for spoiled in (
        b"\0\0",
        b"*x\r\n",
        b"*1\r\n$3\r\nGET\0\0",
        b"*1\n$3\nGET\n",
        b"GET a\r\n",
        b"*1\r\n$3\r\nGET\r\n\0",
    ):
        assert not append_only._ends_early(spoiled), spoiled


def test_a_longer_loss_at_the_end_is_left_to_the_operator(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged length makes all that follows look like one unfinished write; Valkey would cut it without a copy."""
    monkeypatch.setattr(append_only, "MAX_TORN_BYTES", 1_000)
    file = increments(folder)
    file.write_bytes(file.read_bytes().replace(b"$7\r\nkey:100", b"$9999\r\nkey:100"))
    with pytest.raises(SettingsError) as refused:
        EmbeddedValkey(folder).start()
    assert "audit --repair" in refused.value.detail
    EmbeddedValkey(folder).repair()
    assert keys_of(folder) == 100


def test_a_damaged_snapshot_is_named_and_not_repaired(folder: Path) -> None:
    (base,) = (folder / "appendonlydir").glob("*.base.rdb")
    base.write_bytes(base.read_bytes()[:-20])
    for attempt in (EmbeddedValkey(folder).start, EmbeddedValkey(folder).repair):
        with pytest.raises(SettingsError) as refused:
            attempt()
        assert "cannot be repaired: restore" in refused.value.detail


def test_the_audit_repairs_and_goes_on(
    folder: Path, make_settings: MakeSettings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings()
    assert settings.valkey_dir == folder
    monkeypatch.setenv("DATA_DIR", str(settings.data_dir))
    overwrite_middle(folder)
    assert program.main(["audit", "--repair"]) == 0
    printed = capsys.readouterr().out
    assert "was damaged from byte" in printed
    assert "2 found" in printed
    assert program.main(["audit", "--repair"]) == 0
    assert "0 found" in capsys.readouterr().out


def test_a_server_that_ended_before_it_wrote_a_file_damaged_nothing(tmp_path: Path) -> None:
    """Its port was taken by another server, say."""
    (tmp_path / "appendonlydir").mkdir()
    assert AppendOnlyFiles(tmp_path, Path("valkey-server")).mend_torn_end() is False


def test_the_files_of_a_running_server_are_left_alone(folder: Path) -> None:
    server = EmbeddedValkey(folder)
    assert server.start()
    try:
        assert EmbeddedValkey(folder).repair() == []
    finally:
        server.stop()
