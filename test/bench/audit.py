"""The audit trail: a disk whose syncs take long, and what was written."""

import struct

SYNC_MS, IN_FLIGHT, REQUIRED_GOAL = 3, 64, 10000


def slow_disk(build, folder):
    """What a gateway's command begins with so that syncs in its trail take SYNC_MS, and nothing of the real disk: the first
    numbers of `struct control` of test/hostile/sync_shim.c."""
    record = folder.with_name(f"{folder.name}-disk")
    record.mkdir()
    control = record / "control"
    control.write_bytes(struct.pack("<11q", SYNC_MS * 1000, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0))
    shim = (build / "test/hostile/libsync_shim.so").resolve()
    return ["env", f"LD_PRELOAD={shim}", f"SYNC_SHIM_DIR={folder / 'data' / 'audit'}", f"SYNC_SHIM_CONTROL={control}",
            f"SYNC_SHIM_RECORD={record}"]


def records(data):
    """How many lines the newest file of a trail has, about."""
    files = sorted((data / "audit").glob("*.jsonl"))
    return files[-1].read_bytes().count(b"\n") if files else 0
