"""Configs: what is read, where it came from, what is said when it is wrong."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.config import (
    CONFIGS,
    File,
    Named,
    build,
    digest,
    dump,
    files_of,
    load_spec,
    load_tree,
    merge,
    names,
    override,
    to_yaml,
    tree_of,
)
from archsim.errors import InputError
from archsim.spec import Field, Spec
from archsim.units import Bytes, BytesPerSecond, Hertz


class Memory(Spec):
    """A memory."""

    capacity: Bytes
    """bytes that it holds"""
    bandwidth: BytesPerSecond = 10**9


class Chip(Spec):
    """A chip."""

    name: str
    clock: Hertz
    memories: dict[str, Memory] = Field(default_factory=dict)
    stack: list[Memory] = Field(default_factory=list)
    speed: Literal["fast", "slow"] = "fast"


class Run(Spec):
    """A run."""

    name: str = "run"
    chip: Annotated[Chip, Named("chips")] | None = None
    spare: list[Annotated[Chip, Named("chips")]] = Field(default_factory=list)
    by_name: dict[str, Annotated[Chip, Named("chips")]] = Field(default_factory=dict)
    seed: int = 0
    share: float = 1.0
    buffer: Memory = Memory.model_validate({"capacity": "3 B"})


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped configs, and the working folder, of our own."""
    (tmp_path / "configs/chips").mkdir(parents=True)
    (tmp_path / "configs/models").mkdir()
    (tmp_path / "configs/chips/base_1.yaml").write_text(
        "name: base\nclock: 1 GHz\nmemories:\n  hbm: {capacity: 16 GiB, bandwidth: 1 TB/s}\n"
    )
    (tmp_path / "configs/chips/faster.yaml").write_text("extends: base_1\nname: faster\nclock: 2 GHz\n")
    monkeypatch.setattr(names, "CONFIGS", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def complaint(source: Any, spec: type[Spec] = Run, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load_spec(source, spec, overrides)
    return str(caught.value)


# --- reading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e9", 1e9),
        ("1.5e+9", 1.5e9),
        (".5", 0.5),
        ("5.", 5.0),
        ("010", 10),
        ("0x10", 16),
        ("0o17", 15),
        ("-3", -3),
        ("+3", 3),
        ("12:30:00", "12:30:00"),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("1.2.3", "1.2.3"),
        ("n7", "n7"),
        ("1e9 B", "1e9 B"),
        ("=", "="),
        ("0b11", "0b11"),
        ("|\n  5\n", "5\n"),
    ],
)
def test_scalars_are_of_yaml_1_2(tmp_path: Path, text: str, value: Any) -> None:
    data = load_tree(write(tmp_path, f"x: {text}\n")).data()
    assert data == {"x": value}
    assert type(data["x"]) is type(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(-1e300, 1e300) | st.text("ab:- #1.e\"'é"),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
        max_leaves=20,
    )
)
def test_json_reads_as_json(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    import json

    path = tmp_path_factory.mktemp("json") / "x.json"
    path.write_text(json.dumps({"x": data}, indent="\t"))
    assert load_tree(path).data() == {"x": data}


def test_every_value_knows_its_place(shop: Path) -> None:
    path = write(shop, "name: a\nchip:\n  extends: faster\n  memories:\n    hbm: {bandwidth: 2 TB/s}\n")
    tree = load_tree(path, {"seed": "7"}, Run)
    places = {where: str(leaf.place) for where, leaf in tree.leaves()}
    chips = shop / "configs/chips"
    assert places == {
        "name": f"{path}:1:1",
        "chip.name": f"{chips}/faster.yaml:2:1",
        "chip.clock": f"{chips}/faster.yaml:3:1",
        "chip.memories.hbm.capacity": f"{chips}/base_1.yaml:4:9",
        "chip.memories.hbm.bandwidth": f"{path}:5:11",
        "seed": "override",
    }
    assert str(tree.origin("chip.memories.hbm")) == f"{path}:5:5"
    assert str(tree.origin("chip.speed")) == f"{path}:2:1"  # not written: the place of what holds it


def test_include_gives_the_whole_value(shop: Path) -> None:
    write(shop, "- {capacity: 1 GiB}\n- {capacity: 2 GiB}\n", "stack.yaml")
    path = write(shop, "name: a\nclock: 1 GHz\nstack: !include stack.yaml\n")
    chip = load_spec(path, Chip)
    assert [m.capacity for m in chip.stack] == [2**30, 2**31]
    assert load_tree(path).origin("stack.1.capacity").file.endswith("stack.yaml")


def test_extends_merges_deeply_the_last_wins_and_null_takes_away(shop: Path) -> None:
    write(shop, "a: {x: 1, y: 2}\nl: [1, 2]\n", "one.yaml")
    write(shop, "a: {y: 3, z: 4}\nb: 5\n", "two.yaml")
    path = write(shop, "extends: [one.yaml, two.yaml]\na: {z: null, w: {extends: one.yaml}}\nl: [9]\n")
    one = {"a": {"x": 1, "y": 2}, "l": [1, 2]}
    assert load_tree(path).data() == {"a": {"x": 1, "y": 3, "w": one}, "l": [9], "b": 5}


def test_a_part_of_another_kind_starts_afresh() -> None:
    base = tree_of({"part": {"kind": "a", "rows": 1}})
    assert merge(base, tree_of({"part": {"kind": "b"}})).data() == {"part": {"kind": "b"}}
    assert merge(base, tree_of({"part": {"kind": "a"}})).data() == {"part": {"kind": "a", "rows": 1}}


@pytest.mark.parametrize("name", ["base_1", "base-1", "BASE.1", "chips/base_1", "./configs/chips/base_1.yaml"])
def test_a_name_loads_what_it_names(shop: Path, name: str) -> None:
    run = load_spec(write(shop, f"chip: {name}\nspare: [{name}]\nby_name: {{a: {name}}}\n"), Run)
    assert run.chip is not None
    assert run.chip.name == run.spare[0].name == run.by_name["a"].name == "base"


def test_a_source_may_be_a_shipped_name(shop: Path) -> None:
    assert load_spec("base-1", Chip, category="chips").name == "base"
    with pytest.raises(InputError, match="did you mean 'faster'"):
        load_spec("fastr", Chip, category="chips")


def test_paths_are_relative_to_their_file(shop: Path) -> None:
    (shop / "deep").mkdir()
    write(shop / "deep", "name: deep\nclock: 1 GHz\n", "chip.yaml")
    write(shop / "deep", "chip: chip.yaml\n", "run.yaml")
    path = write(shop, "extends: deep/run.yaml\nseed: 3\n")
    run = load_spec(path, Run)
    assert run.chip is not None
    assert (run.chip.name, run.seed) == ("deep", 3)


# --- overrides -----------------------------------------------------------------------------------------


def test_overrides_reach_through_names_lists_and_defaults(shop: Path) -> None:
    path = write(shop, "spare: [base_1, base_1]\n")
    run = load_spec(
        path,
        Run,
        {
            "chip.memories.hbm.capacity": "1 TiB",
            "chip": "faster",
            "spare.1.clock": "3 GHz",
            "seed": 5,
            "buffer.bandwidth": "7 GB/s",
            "chip.memories": "{extra: {capacity: 5 B}}",
        },
    )
    assert run.chip is not None
    assert run.chip.name == "faster"
    assert run.chip.memories["hbm"].capacity == 2**40
    assert run.chip.memories["extra"].capacity == 5
    assert [chip.clock for chip in run.spare] == [10**9, 3 * 10**9]
    assert run.buffer == Memory.model_validate({"capacity": "3 B", "bandwidth": "7 GB/s"})


def test_a_null_override_gives_the_default_back(shop: Path) -> None:
    path = write(shop, "seed: 5\nchip: base_1\n")
    assert load_spec(path, Run, {"seed": "null"}).seed == 0
    assert load_spec(path, Run, {"chip": None}).chip is None


def test_overriding_leaves_the_tree_as_it_was(shop: Path) -> None:
    tree = load_tree(write(shop, "chip: base_1\n"), spec=Run)
    before = tree.data()
    assert override(tree, {"chip.clock": "9 GHz"}, Run).data()["chip"]["clock"] == "9 GHz"
    assert tree.data() == before


@pytest.mark.parametrize(
    ("path", "value", "fragment"),
    [
        ("sed", "1", "the config has no 'sed': did you mean 'seed'?"),
        ("chip.clok", "1 GHz", "chip has no 'clok': did you mean 'clock'?"),
        ("chip.memories.hbn.capacity", "1 B", "chip.memories has no 'hbn': did you mean 'hbm'?"),
        ("chip.memories.hbm.size", "1 B", "chip.memories.hbm has no 'size'"),
        ("chip.clock.x", "1", "chip.clock is '1 GHz', which has no 'x' in it"),
        ("spare.1.clock", "1 GHz", "spare is a list of 1, counted from 0: no '1'"),
        ("spare.x.clock", "1 GHz", "no 'x'"),
        ("chip", "fastr", "no chip is called 'fastr': did you mean 'faster'?"),
        ("chip", "none.yaml", "cannot read 'none.yaml'"),
        ("chip.clock", "5", "override: chip.clock: 5 has no unit"),
        ("seed", "[1", "override: seed: no valid YAML"),
        ("seed", "1.5", "override: seed: expected a whole number, not 1.5"),
        ("seed", ".nan", "override: seed: '.nan' is no finite number"),
        ("", "5", "has no ''"),
    ],
)
def test_a_wrong_override_says_what_is_there(shop: Path, path: str, value: str, fragment: str) -> None:
    assert fragment in complaint(write(shop, "chip: base_1\nspare: [base_1]\n"), overrides={path: value})


# --- what is wrong -------------------------------------------------------------------------------------


def test_all_problems_are_told_in_one_pass_each_at_its_place(shop: Path) -> None:
    bad = write(
        shop,
        "name: 5\nextends: base_1\nclock: 3 GBz\nmemoriez: 1\n"
        "memories:\n  hbm: {capacity: null}\n"
        "speed: fas\nstack: [{capacity: 5 B, bandwidth: -1 B/s}, 7]\n",
    )
    told = complaint(bad, Chip).splitlines()
    assert told == [
        f"{bad}:1:1: name: expected text, not 5",
        f"{bad}:3:1: clock: 'GBz' is no unit of frequency (like '1.4 GHz'): did you mean 'GHz'?",
        f"{bad}:4:1: memoriez: unknown key: did you mean 'memories'?",
        f"{bad}:6:3: memories.hbm.capacity: 'capacity' is missing: bytes that it holds",
        f"{bad}:7:1: speed: expected 'fast' or 'slow', not 'fas': did you mean 'fast'?",
        f"{bad}:8:25: stack.0.bandwidth: '-1 B/s' is negative: a bandwidth is not",
        f"{bad}:8:45: stack.1: expected a mapping, not 7",
    ]


def test_a_problem_is_told_where_it_was_written_not_where_it_is_used(shop: Path) -> None:
    write(shop, "name: a\nclock: 1 GHz\nmemories: {hbm: {capacity: 1}}\n", "chip.yaml")
    told = complaint(write(shop, "chip: ./chip.yaml\nseed: x\n"))
    assert "chip.yaml:3:18: chip.memories.hbm.capacity: 1 has no unit" in told
    assert "run.yaml:2:1: seed: expected a whole number, not 'x'" in told


def test_wrong_names_are_told_with_the_rest(shop: Path) -> None:
    told = complaint(write(shop, "chip: fastr\nspare: [nothing_like_it]\nseed: x\n")).splitlines()
    assert len(told) == 3
    assert "run.yaml:1:1: chip: no chip is called 'fastr': did you mean 'faster'?" in told[0]
    assert "run.yaml:2:9: spare.0: no chip is called 'nothing_like_it': known: base_1, faster" in told[1]


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("a: [1, 2\n", "run.yaml:2:1: no valid YAML"),
        ("a: 1\n b: 2\n", "run.yaml:2:3: no valid YAML"),
        ("a:\n\t- 1\n", "run.yaml:2:1: no valid YAML"),
        ("a: 'open\n", "no valid YAML"),
        ("a: *nobody\n", "no valid YAML"),
        ("a: 1\n---\nb: 2\n", "no valid YAML"),
        ("a: \x07\n", "no valid YAML"),
        ("seed: 1\nname: b\nseed: 2\n", "run.yaml:3:1: 'seed' is written twice, first at line 1"),
        (LAUGHS, "more than 100000 values with all aliases expanded"),
        ("a: &a [*a]\n", "nested more than 64 levels deep"),
        ("a: " + "[" * 100 + "]" * 100 + "\n", "nested more than 64 levels deep"),
        ("- a\n- b\n", "run.yaml:1:1: a config is a mapping of keys to values, not a list"),
        ("just words\n", "not 'just words'"),
        ("", "this is empty"),
        ("# only a remark\n", "this is empty"),
        ("share: .nan\n", "run.yaml:1:8: '.nan' is no finite number"),
        ("share: -.inf\n", "'-.inf' is no finite number"),
        ("share: 1e999\n", "'1e999' is no finite number"),
        ("share: nan\n", "share: expected a finite number"),
        ("seed: " + "9" * 5000 + "\n", "is no finite number"),
        ("? [1, 2]\n: 3\n", "a key is a plain word"),
        ("<<: {a: 1}\n", "write 'extends:' instead"),
        ("a: !!python/object:os.system {}\n", "the tag"),
        ("a: !thing 5\n", "the tag '!thing' is not known here"),
        ("a: !include [1]\n", "!include is followed by the name of a file"),
        ("a: !include none.yaml\n", "run.yaml:1:4: cannot read"),
        ("a: {extends: none.yaml}\n", "run.yaml:1:5: cannot read"),
        ("extends: nobody\n", "run.yaml:1:1: no config is called 'nobody'"),
        ("extends: chips/bas\n", "did you mean 'base_1'?"),
        ("extends: [5]\n", "'extends' takes the name of a config"),
        ("extends: list.yaml\n", "'list.yaml' holds no mapping to extend"),
        ("extends: run.yaml\n", "files extend one another in a circle: run.yaml -> run.yaml"),
        ("a: !include circle.yaml\n", "circle: run.yaml -> circle.yaml -> run.yaml"),
        ("chip: {extends: both}\n", "'both' may be chips/both or models/both: write which"),
    ],
)
def test_what_cannot_be_read_is_one_clear_problem(shop: Path, text: str, fragment: str) -> None:
    write(shop, "- 1\n", "list.yaml")
    write(shop, "b: {extends: run.yaml}\n", "circle.yaml")
    for category in ("chips", "models"):
        write(shop / "configs" / category, "name: both\n", "both.yaml")
    told = complaint(write(shop, text))
    assert fragment in told
    assert len(told.splitlines()) == 1


def test_files_that_cannot_be_read(shop: Path) -> None:
    assert (
        "cannot read 'rum.yaml': No such file or directory: did you mean 'run.yaml'?"
        in (write(shop, "a: 1\n"), complaint("rum.yaml"))[1]
    )
    assert "Is a directory" in complaint(str(shop))
    assert "cannot read" in complaint("a\0b.yaml")
    (shop / "latin.yaml").write_bytes("name: a\nchip: é\n".encode("latin-1"))
    assert "latin.yaml:2:7: no UTF-8 text: byte 0xe9" in complaint("latin.yaml")
    (shop / "large.yaml").write_bytes(b"#" * (2**23 + 1))
    assert "too large" in complaint("large.yaml")
    assert "a device or a pipe" in complaint(Path("/dev/zero"))
    assert "nobody" in complaint({"chip": "nobody"})
    assert "argument: seed: expected a whole number" in complaint({"seed": "x"})
    assert "is no plain data" in complaint({"seed": object()})
    deep: dict[str, Any] = {}
    deep["a"] = deep
    assert "nested more than" in complaint(deep)


# --- back to data --------------------------------------------------------------------------------------


def test_a_dump_builds_an_equal_spec(shop: Path) -> None:
    run = load_spec(write(shop, "chip: base_1\nspare: [faster]\nshare: 0.1\n"), Run)
    again = build(tree_of(dump(run)), Run)
    assert again == run
    assert digest(again) == digest(run)


def test_the_digest_is_of_what_is_meant_not_of_how_it_is_written(shop: Path) -> None:
    named = load_spec(write(shop, "chip: base_1\n"), Run)
    other = load_spec(write(shop, "seed: 0\nchip: {extends: faster, name: base, clock: 1000 MHz}\n"), Run)
    assert digest(named) == digest(other)
    assert digest(named) != digest(load_spec({"chip": "base_1", "seed": 1}, Run))
    assert len(digest(named)) == 16


@pytest.mark.parametrize(
    "name", ["1e9", "true", "null", "0x10", "12:30", "a: b", "# no", "- x", "", "two\nlines", "plain text"]
)
def test_a_written_config_reads_back_equal(name, tmp_path):
    from archsim.runs import load

    spec = load("llama_3_8b_on_tpu_v4i", {"name": json.dumps(name)})
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(spec), encoding="utf-8")
    again = load(file)
    assert again.name == name
    assert again == spec


def test_large_texts_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("\n".join(f"k{i}: 1" for i in range(600_000)))
    start = time.process_time()
    with pytest.raises(InputError, match="too large: more than 100000 values"):
        load_tree(tmp_path / "keys.yaml")
    assert time.process_time() - start < 2


def test_a_file_s_own_folder_is_where_its_files_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Holder(Spec):
        path: Annotated[str, File("traces")]
        more: dict[str, Annotated[str, File("traces")]]

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "own.csv").write_text("x")
    shipped_name = next(iter((CONFIGS / "traces").glob("*.csv"))).name
    (tmp_path / "a" / "x.yaml").write_text(f"path: own.csv\nmore: {{ships: {shipped_name}, none: ../none.csv}}\n")
    monkeypatch.chdir(tmp_path)
    found = load_spec("a/x.yaml", Holder)
    assert found.path == str(tmp_path / "a" / "own.csv")
    assert found.more == {"ships": shipped_name, "none": str(tmp_path / "none.csv")}
    assert list(files_of(dump(found), type(found))) == [found.path, shipped_name, found.more["none"]]
    assert load_spec("a/x.yaml", Holder, {"path": "own.csv"}).path == str(tmp_path / "own.csv")
