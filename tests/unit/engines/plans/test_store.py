# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from perception_node.engines.plans import (
    BuildOptions,
    DamagedPlan,
    PlanFingerprint,
    PlanStore,
    StoredPlan,
    layout,
    load_stored_plan,
)
from perception_node.errors import (
    ConfigError,
    EngineBuildError,
    PlanError,
    PlanIntegrityError,
    PlanMismatch,
    PlanMissing,
)
from perception_node.model.sealed_json import parse, seal
from tests.plan_builders import NAME, ORIN, OTHER_VALUES, builder, never_built, with_other

SAME_PLAN = ("precision", "backend")  # without these, it is another plan, not another build


@pytest.fixture
def store(tmp_path):
    return PlanStore(tmp_path / "plans")


@pytest.fixture
def stored(store):
    return store.build_once(NAME, ORIN, builder(layers=[1, 2.5, None], gpu="Größe"))


def plan_path(stored):
    return stored.path.with_name(stored.plan_file)


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def reseal(stored, change):
    """Change a manifest as another version of this package might have written it."""
    data = parse(stored.path.read_bytes())
    change(data)
    stored.path.write_bytes(seal(data))


# Build and find


def test_a_plan_is_found_as_it_was_built(store, stored):
    found = store.find(NAME, ORIN)
    assert found == stored
    assert found.read() == b"plan"
    assert found.details == {"layers": [1, 2.5, None], "gpu": "Größe"}
    assert (found.name, found.fingerprint, found.plan_bytes) == (NAME, ORIN, 4)
    assert found.created_utc.endswith("Z")


def test_who_runs_a_plan_need_not_know_the_options_it_was_built_with(store):
    for number, day in ((1024, "2026-01-02"), (2048, "2026-01-03"), (4096, "2026-01-01")):
        options = BuildOptions(workspace_mib=number)
        built = store.build_once(NAME, replace(ORIN, options=options), builder(b"%d" % number))
        reseal(built, lambda data, day=day: data.update(created_utc=f"{day}T00:00:00Z"))
    with pytest.raises(PlanMismatch, match=r"options\.workspace_mib"):
        store.find(NAME, ORIN)
    assert store.find(NAME, ORIN, any_options=True).read() == b"2048"
    with pytest.raises(PlanMismatch, match="gpu: built for Orin, here Thor"):
        store.find(NAME, with_other("gpu"), any_options=True)


def test_files_are_private_and_named_for_what_they_are(store, stored):
    key = ORIN.key()
    assert names(store.folder) == [
        f"colors.fp16.{key}.{stored.plan_sha256[:16]}.plan",
        f"colors.fp16.{key}.json",
        f"colors.fp16.{key}.lock",
    ]
    assert store.folder.stat().st_mode & 0o7777 == 0o700
    assert {file.stat().st_mode & 0o7777 for file in store.folder.iterdir()} == {0o600}


def test_what_the_store_has_is_not_built_again(store, stored):
    assert store.build_once(NAME, ORIN, never_built) == stored
    assert PlanStore(store.folder).build_once(NAME, ORIN, never_built) == stored


@pytest.mark.parametrize("content", [b"other plan", b"plan"])
def test_force_builds_again_and_leaves_one_plan(store, stored, content):
    again = store.build_once(NAME, ORIN, builder(content, run=2), force=True)
    assert again.read() == content
    assert again.details == {"run": 2}
    assert [file.name for file in store.folder.glob("*.plan")] == [again.plan_file]
    assert again.path == stored.path


def test_plans_live_side_by_side(store):
    fingerprints = [with_other(field) for field in OTHER_VALUES]
    for number, fingerprint in enumerate(fingerprints):
        store.build_once(NAME, fingerprint, builder(b"%d" % number))
    store.build_once("other", ORIN, builder(b"other"))
    for number, fingerprint in enumerate(fingerprints):
        assert store.find(NAME, fingerprint).read() == b"%d" % number
    assert len(store.entries()) == len(fingerprints) + 1


def test_an_empty_and_a_missing_store_have_no_plan(store):
    for _ in range(2):
        with pytest.raises(PlanMissing) as caught:
            store.find(NAME, ORIN)
        assert str(caught.value) == (
            f"{store.folder}: no plan of colors in fp16 for tensorrt; "
            "build it: perception build BUNDLE --precision fp16"
        )
        assert store.entries() == store.prune() == []
        store.folder.mkdir(mode=0o700, exist_ok=True)


@pytest.mark.parametrize("field", [field for field in OTHER_VALUES if field not in SAME_PLAN])
def test_a_plan_for_something_else_is_named_with_the_field_that_differs(store, stored, field):
    with pytest.raises(PlanMismatch) as caught:
        store.find(NAME, with_other(field))
    text = str(caught.value)
    assert text.startswith(f"{stored.path}: {field}")
    assert text.endswith("; build it again: perception build")
    assert text.count("built for") == 1
    assert "\n" not in text


@pytest.mark.parametrize("field", SAME_PLAN)
def test_another_precision_or_backend_was_never_built(store, stored, field):
    assert stored.fingerprint == ORIN
    with pytest.raises(PlanMissing, match=f"(--precision|--backend) {OTHER_VALUES[field]}"):
        store.find(NAME, with_other(field))
    with pytest.raises(PlanMissing, match="no plan of other"):
        store.find("other", ORIN)


def test_the_plan_that_comes_closest_is_named(store):
    far = replace(ORIN, gpu="Thor", tensorrt="10.13.3.9", sm_count=16, cuda="13.0")
    near = replace(ORIN, options=BuildOptions(workspace_mib=64))
    for fingerprint in (far, near, replace(far, l4t="")):
        store.build_once(NAME, fingerprint, builder())
    with pytest.raises(PlanMismatch, match=r"options\.workspace_mib: built for 64, here 512; bu"):
        store.find(NAME, ORIN)


def test_a_manifest_under_another_name_is_no_plan(store, stored):
    """As if somebody had copied or renamed it."""
    other = f"other.fp16.{ORIN.key()}.json"
    stored.path.rename(stored.path.with_name(other))
    with pytest.raises(PlanMismatch, match="name: built for colors, here other"):
        store.find("other", ORIN)
    with pytest.raises(PlanMismatch, match="the file has another plan's name"):
        store.find(NAME, ORIN)


def test_an_error_of_the_builder_is_passed_on_and_the_old_plan_stays(store, stored):
    for error in (EngineBuildError("no"), OSError(28, "of the builder"), KeyboardInterrupt()):

        def fail(error=error):
            raise error

        with pytest.raises(type(error)) as caught:
            store.build_once(NAME, ORIN, fail, force=True)
        assert caught.value is error
        assert store.find(NAME, ORIN) == stored
    assert store.build_once(NAME, ORIN, builder(b"next"), force=True).read() == b"next"


def test_details_that_are_no_json_are_a_bug_and_store_nothing(store, stored):
    for details in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises((ValueError, TypeError), match="JSON"):
            store.build_once(NAME, ORIN, builder(b"new", **details), force=True)
        assert store.find(NAME, ORIN) == stored
        assert len(names(store.folder)) == 3


@pytest.mark.parametrize("name", ["", "../colors", "a/b", "/a", ".hidden", "a\0", "a\n"])
def test_a_name_cannot_lead_out_of_the_store(store, name):
    store.folder.mkdir(mode=0o700)
    for use in (
        lambda: store.find(name, ORIN),
        lambda: store.build_once(name, ORIN, never_built),
    ):
        with pytest.raises(ValueError, match="is not the name of a bundle"):
            use()
    assert names(store.folder) == []


# Damage


@pytest.mark.parametrize("which", ["plan", "manifest"])
@pytest.mark.parametrize("how", ["cut", "grown", "empty", "missing", "others may write", "pipe"])
@pytest.mark.timeout(20)
def test_a_damaged_plan_is_refused_listed_and_built_again(store, stored, which, how):
    file = stored.path if which == "manifest" else plan_path(stored)
    content = file.read_bytes()
    if how == "others may write":
        file.chmod(0o666)
    else:
        file.unlink()
    if how == "pipe":
        os.mkfifo(file, 0o600)
    elif how in {"cut", "grown", "empty"}:
        file.write_bytes({"cut": content[:-1], "grown": content + b" ", "empty": b""}[how])
        file.chmod(0o600)
    expected = PlanMissing if how == "missing" else PlanIntegrityError
    with pytest.raises(expected) as caught:
        store.find(NAME, ORIN)
    assert "\n" not in str(caught.value)
    if how != "missing":
        assert str(caught.value).startswith(f"{file}: ")
        (entry,) = store.entries()
        assert entry == DamagedPlan(stored.path, str(caught.value))
    again = store.build_once(NAME, ORIN, builder(b"new plan"))
    assert again.read() == b"new plan"
    assert len(names(store.folder)) == 3


def test_a_plan_that_changes_after_it_was_found_is_not_read(store, stored):
    found = store.find(NAME, ORIN)
    plan_path(stored).write_bytes(b"Plan")
    with pytest.raises(
        PlanIntegrityError, match=r"sha256 is .* it was built as .* changed or dama"
    ):
        found.read()
    store.build_once(NAME, ORIN, builder(b"new plan"))
    with pytest.raises(PlanMissing, match="the plan is not; build it again"):
        found.read()


def test_a_plan_in_a_folder_that_is_opened_to_others_is_not_read(store, stored):
    store.folder.chmod(0o777)
    for use in (
        stored.read,
        store.entries,
        store.prune,
        lambda: store.find(NAME, ORIN),
        lambda: load_stored_plan(stored.path),
        lambda: store.build_once(NAME, ORIN, never_built),
    ):
        with pytest.raises(PlanIntegrityError, match=f"{store.folder}: others may write to it"):
            use()
    assert store.read_timing_cache("0" * 16) == b""
    assert not store.write_timing_cache("0" * 16, b"times")


def test_a_manifest_cannot_lead_out_of_the_store(store, stored, tmp_path):
    (tmp_path / "elsewhere.plan").write_bytes(b"plan")

    def lead_out(data):
        data["plan"]["file"] = "../elsewhere.plan"

    reseal(stored, lead_out)
    with pytest.raises(PlanError, match="elsewhere"):
        store.find(NAME, ORIN)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("schema_version", 2),
        ("schema_version", None),
        ("name", 1),
        ("plan", []),
        ("plan", {}),
        ("plan", {"file": "a.plan", "sha256": "0" * 64, "bytes": "4"}),
        ("fingerprint", {}),
        ("details", []),
        ("created_utc", None),
    ],
)
def test_a_manifest_of_another_version_of_this_package_is_a_mismatch(store, stored, place, value):
    reseal(stored, lambda data: data.update({place: value}))
    for look in (lambda: store.find(NAME, ORIN), lambda: load_stored_plan(stored.path)):
        with pytest.raises(PlanMismatch, match="another version of this package"):
            look()
    assert store.build_once(NAME, ORIN, builder(b"new")).read() == b"new"


def test_a_store_that_is_no_folder_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file/plans"):
        store = PlanStore(folder)
        with pytest.raises(PlanError, match="cannot be read: Not a directory"):
            store.find(NAME, ORIN)
        with pytest.raises(EngineBuildError, match="the plan store cannot be written: ") as caught:
            store.build_once(NAME, ORIN, never_built)
        assert "\n" not in str(caught.value)


def test_the_plan_is_replaced_between_two_reads(store, stored, monkeypatch):
    """A reader takes no lock, and yet never sees one build's manifest and another's plan."""
    read_plan, calls = layout.read_plan, []

    def rebuild_first(folder, found):
        if not calls:
            calls.append(found)
            PlanStore(store.folder).build_once(NAME, ORIN, builder(b"new"), force=True)
        return read_plan(folder, found)

    monkeypatch.setattr(layout, "read_plan", rebuild_first)
    assert store.find(NAME, ORIN).read() == b"new"
    assert calls == [stored]


# Locks


def test_one_thread_builds_and_the_other_waits(store):
    started, proceed, waited = threading.Event(), threading.Event(), threading.Event()
    results = []

    def slow_build():
        started.set()
        assert proceed.wait(30)
        return builder(b"slow")()

    def wait():
        results.append(store.build_once(NAME, ORIN, never_built, on_wait=waited.set))

    first = threading.Thread(target=store.build_once, args=(NAME, ORIN, slow_build))
    second = threading.Thread(target=wait)
    first.start()
    assert started.wait(30)
    second.start()
    assert waited.wait(30)
    proceed.set()
    first.join()
    second.join()
    assert [stored.read() for stored in results] == [b"slow"]


def test_waiting_ends_at_the_timeout_or_when_told_to(store):
    class Enough(Exception):
        pass

    def give_up():
        raise Enough

    def build():
        with pytest.raises(EngineBuildError, match=r"another process still builds colors\.fp16"):
            store.build_once(NAME, ORIN, never_built, timeout_s=0)
        with pytest.raises(Enough):
            store.build_once(NAME, ORIN, never_built, on_wait=give_up)
        assert store.prune() == []
        return builder()()

    assert store.build_once(NAME, ORIN, build).read() == b"plan"


def test_different_plans_are_built_at_the_same_time(store):
    def build():
        return builder(store.build_once(NAME, with_other("gpu"), builder(b"inner")).read())()

    assert store.build_once(NAME, ORIN, build).read() == b"inner"


# Cleaning


def test_the_next_build_removes_what_a_killed_one_left(store, stored):
    other = f"colors.fp16.{'0' * 16}"
    for name in (f"{other}.{'1' * 16}.plan.tmp", f"{other}.json.tmp", stored.path.name + ".tmp"):
        (store.folder / name).write_bytes(b"half")
    (store.folder / f"{other}.{'1' * 16}.plan").write_bytes(b"no manifest")
    (store.folder / "notes.txt.tmp").write_text("not ours")
    store.build_once(NAME, with_other("gpu"), builder())
    left = set(names(store.folder))
    assert not {name for name in left if name.endswith(".tmp")} - {"notes.txt.tmp"}
    assert "notes.txt.tmp" in left


def test_temporaries_of_a_build_that_runs_are_left_alone(store):
    temporary = store.folder / f"colors.fp16.{ORIN.key()}.json.tmp"

    def build():
        temporary.write_bytes(b"being written")
        store.build_once(NAME, with_other("gpu"), builder())
        assert store.prune() == []
        assert temporary.exists()
        return builder()()

    store.build_once(NAME, ORIN, build)
    assert not temporary.exists()


def test_prune_keeps_good_plans_and_removes_the_rest(store, stored):
    damaged = store.build_once(NAME, with_other("gpu"), builder(b"damaged"))
    plan_path(damaged).write_bytes(b"changed")
    orphan = store.build_once(NAME, with_other("cuda"), builder(b"orphan"))
    orphan.path.unlink()
    alone = store.build_once(NAME, with_other("l4t"), builder(b"alone"))
    plan_path(alone).unlink()
    killed = store.folder / f"{stored.path.name}.tmp"
    killed.write_bytes(b"half")
    (store.folder / "notes.txt").write_text("not ours")
    store.write_timing_cache("0" * 16, b"times")
    removed = store.prune()
    assert sorted(removed) == sorted(
        [damaged.path, plan_path(damaged), plan_path(orphan), alone.path, killed]
    )
    assert store.entries() == [stored]
    assert store.read_timing_cache("0" * 16) == b"times"
    locks = [file.name for file in store.folder.glob("*.lock")]
    assert sorted(locks) == [f"colors.fp16.{ORIN.key()}.lock", f"timing.{'0' * 16}.lock"]
    assert len(names(store.folder)) == 6
    assert store.prune() == []


def test_prune_removes_what_does_not_fit(store, stored):
    other = store.build_once(NAME, with_other("gpu"), builder())
    removed = store.prune(lambda each: each.fingerprint.gpu == "Thor")
    assert sorted(removed) == sorted([stored.path, plan_path(stored)])
    assert store.entries() == [other]


# Where it lies, and single manifests


def test_the_store_lies_in_the_cache_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert PlanStore().folder == tmp_path / "cache/perception_node/plans"
    for relative in ("", "cache"):
        monkeypatch.setenv("XDG_CACHE_HOME", relative)
        assert PlanStore().folder == tmp_path / ".cache/perception_node/plans"


def test_a_user_without_a_home_is_told_so(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ConfigError, match="set XDG_CACHE_HOME"):
        PlanStore()


def test_a_plan_and_its_manifest_lead_to_the_same(stored, monkeypatch):
    assert load_stored_plan(stored.path) == load_stored_plan(plan_path(stored)) == stored
    monkeypatch.chdir(stored.path.parent)
    assert load_stored_plan(Path(stored.plan_file)).read() == b"plan"


def test_what_is_no_plan_is_named(store, stored, tmp_path):
    orphan = plan_path(stored).with_name(f"colors.fp16.{ORIN.key()}.{'0' * 16}.plan")
    orphan.write_bytes(b"")
    with pytest.raises(PlanMissing, match=r"\.json speaks of another plan"):
        load_stored_plan(orphan)
    for path in (tmp_path / "a.json", tmp_path / "a.plan", tmp_path / "no/a.plan"):
        with pytest.raises(PlanMissing, match=r"no manifest of a plan: there is no a\.?"):
            load_stored_plan(path)
    assert isinstance(store.find(NAME, ORIN), StoredPlan)


# Timing caches


def test_a_timing_cache_comes_back(store):
    key = ORIN.timing_cache_key()
    assert store.read_timing_cache(key) == b""
    for cache in (b"times", b"", bytes(range(256)) * 99):
        assert store.write_timing_cache(key, cache)
        assert store.read_timing_cache(key) == cache
    assert store.read_timing_cache(with_other("gpu").timing_cache_key()) == b""


def test_a_damaged_timing_cache_is_an_empty_one(store):
    store.write_timing_cache("0" * 16, b"times")
    (file,) = store.folder.glob("*.cache")
    content = file.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        assert store.read_timing_cache("0" * 16) == b""
    for changed in (b"", content[:-1], content + b"\0"):
        file.write_bytes(changed)
        assert store.read_timing_cache("0" * 16) == b""
    assert store.prune() == [file]


def test_a_timing_cache_that_cannot_be_written_is_no_error(store, monkeypatch):
    assert store.write_timing_cache("0" * 16, b"times")

    def fail(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    assert not store.write_timing_cache("0" * 16, b"new times")
    assert store.read_timing_cache("0" * 16) == b"times"
    assert not list(store.folder.glob("*.tmp"))


def test_the_fingerprint_of_a_stored_plan_is_complete(stored):
    data = parse(stored.path.read_bytes())
    assert PlanFingerprint.from_json(data["fingerprint"]) == ORIN
    assert data["plan"]["sha256"] == stored.plan_sha256
