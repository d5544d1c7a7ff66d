"""The report: folded rows, pictures, the page as a whole."""

import json
import math
import re
from html.parser import HTMLParser

import pytest
from shipped import shipped

import archsim
from archsim.report import floor_plan, fullness, html, streams
from archsim.report.folder import write
from archsim.report.folding import fold_name, fold_names, fold_ops, fold_phases
from archsim.report.pictures import Roofs, action_kind, percent, plain, quantity, roofline, roofs, squarify, treemap

RUNS = (
    "llama_3_8b_on_tpu_v4i",
    "mixtral_8x7b_on_dgx_h100",
    "bert_base_on_tpe_systolic_os_opt1",
    "t3_t_nlg_sublayers_tp8",
)
VOID = {"meta", "input", "br", "path", "line", "polygon"}


@pytest.fixture(scope="module", params=RUNS)
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    write(shipped(request.param), folder)
    return folder


class Checker(HTMLParser):
    """Fails on tags that do not match; collects tags and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parse(text):
    page = Checker()
    page.feed(text)
    page.close()
    assert page.open == []
    return page


# -- the page


def test_a_page_is_well_formed_small_and_asks_nothing_of_the_network(folder):
    text = (folder / "report.html").read_text()
    page = parse(text)
    assert len(text) < 1_500_000
    assert not re.search(r"https?:|//cdn|@import|url\(", text)
    assert not [a for a in page.attributes if a[0] in ("src", "href", "srcset")]
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_a_page_has_all_its_parts(folder):
    text = (folder / "report.html").read_text()
    document = json.loads((folder / "result.json").read_text())
    for title in (
        "Where the time goes",
        "Critical path",
        "Roofline of a chip",
        "Timeline",
        "Energy",
        "Area",
        "Memory of a chip",
        "Ops",
        "Components",
    ):
        assert f"<h2>{title}</h2>" in text
    assert document["digest"] in text
    assert document["version"] in text
    for note in document["notes"]:
        assert note.replace("'", "&#x27;") in text


def test_every_dot_has_a_tip(folder):
    text = (folder / "report.html").read_text()
    tips = json.loads(re.search(r'id="ops">(.*?)</script>', text, re.S)[1].replace("<\\/", "</"))
    used = {int(n) for n in re.findall(r'data-op="(\d+)"', text)}
    assert used
    assert max(used) < len(tips)


def test_a_report_can_be_made_again_and_without_a_timeline(folder, tmp_path):
    (tmp_path / "result.json").write_text((folder / "result.json").read_text())
    path = html.write(tmp_path)
    assert path == tmp_path / "report.html"
    assert "<h2>Timeline</h2>" not in path.read_text()
    parse(path.read_text())
    assert html.write(folder).read_text() == (folder / "report.html").read_text()


def test_names_are_escaped():
    document = shipped("bert_base_on_tpe_systolic_os_opt1").to_json()
    document["name"] = "</script><script>alert(1)</script>"
    document["notes"] = ["a < b & c"]
    document["ops"][0]["why"] = "</script><b>"
    page = html.to_page(document)
    assert page.count("<script") == page.count("</script>") == 2
    assert "a &lt; b &amp; c" in page
    parse(page)


def test_what_a_memory_holds_is_drawn_in_steps_under_its_capacity():
    over_time = {
        "chip.hbm": {"rank": 0, "time_s": [0.0, 1.0, 3.0], "bytes": {"weight": [40, 40, 40], "fetched": [0, 20, 0]}}
    }
    text = fullness.picture(over_time, {"chip.hbm": {"peak_bytes": 60, "capacity_bytes": 80}}, 4.0)
    weight, fetched = re.findall(r'points="([^"]*)"', text)
    assert weight.startswith("0.00 60.00 250.00 60.00 250.00 60.00 750.00 60.00 750.00 60.00 1000.00 60.00")
    assert "250.00 30.00 750.00 30.00" in fetched  # three quarters full from 1 s to 3 s, 120 high
    assert "60\N{NO-BREAK SPACE}B at most, of 80\N{NO-BREAK SPACE}B" in text
    assert not fullness.picture({}, {}, 4.0)


def test_a_page_of_many_layers_stays_small(tmp_path):
    write(shipped("deepseek_r1_decode_on_cloudmatrix384"), tmp_path)
    assert html.write(tmp_path).stat().st_size < 1_500_000


# -- folding


def test_names_fold():
    assert fold_name("layer.7.qkv") == "layer.*.qkv"
    assert fold_name("layer.7") == "layer.*"
    assert fold_name("0.1.prefill") == "*.*.prefill"
    assert fold_name("fc2.gemm") == "fc2.gemm"
    assert fold_names(["0.router.prefill", "0.0.prefill", "0.1.prefill"]) == {
        "0.router.prefill": "0.router.prefill",
        "0.0.prefill": "*.*.prefill",
        "0.1.prefill": "*.*.prefill",
    }


def test_folding_loses_nothing(folder):
    document = json.loads((folder / "result.json").read_text())
    ops = fold_ops(document["ops"])
    for column in ("time_s", "duration_s", "flops", "bytes", "energy_j", "cycles"):
        assert sum(getattr(op, column) for op in ops) == pytest.approx(sum(row[column] for row in document["ops"]))
    assert sum(op.copies for op in ops) == len(document["ops"])
    assert sum(op.time_s for op in ops) == pytest.approx(document["time_s"])
    phases = fold_phases(document["segments"])
    assert sum(p.time_s for p in phases) == pytest.approx(document["time_s"])
    assert {op.phase for op in ops} <= {p.name for p in phases}


# -- the machine's facts


def test_no_op_is_above_its_roofs(folder):
    document = json.loads((folder / "result.json").read_text())
    limits = roofs(document["machine"], document["energy_j"]["by_action"])
    peaks = [p for e in document["machine"]["engines"].values() for p in e["peak_flops"].values()]
    for op in fold_ops(document["ops"]):
        slack = 1 + (1e-3 if op.kind == "vector" else 1e-9)  # a norm's gains are moved in no time
        if op.kind in ("matmul", "grouped_matmul", "attention"):
            assert op.rate <= max(peaks) * (1 + 1e-9)
        for tier, n_bytes in op.traffic.items():
            if tier in limits.bandwidths and op.flops and n_bytes:
                assert op.rate <= op.flops / n_bytes * limits.bandwidths[tier] * slack, (op.name, tier)


def test_roofs_are_of_the_formats_used():
    machine = {
        "engines": {"chip.sm": {"peak_flops": {"bf16": 10, "fp16": 10, "int8": 20}}},
        "memories": {"chip.hbm": {"bytes_per_s": 5}},
    }
    assert [p for _, p in roofs(machine, ["chip.sm.mac_bf16", "chip.hbm.read_byte"]).peaks] == [10]
    both = roofs(machine, [])
    assert [p for _, p in both.peaks] == [20, 10]
    assert both.peaks[1][0].startswith("sm bf16, fp16")


def test_areas_by_block_sum_to_the_total(folder):
    area = json.loads((folder / "result.json").read_text())["area_mm2"]
    assert sum(sum(b.values()) for b in area["by_block"].values()) == pytest.approx(area["total"])


# -- pictures


@pytest.mark.parametrize("sizes", [[1.0], [6, 6, 4, 3, 2, 2, 1], [100, 1, 0.01], [1.0] * 9])
def test_a_treemap_tiles_its_rectangle(sizes):
    boxes = squarify(sizes, 6.0, 4.0)
    assert [b.w * b.h for b in boxes] == pytest.approx([24 * s / sum(sizes) for s in sizes])
    for i, a in enumerate(boxes):
        assert -1e-9 <= a.x <= a.x + a.w <= 6 + 1e-9
        assert -1e-9 <= a.y <= a.y + a.h <= 4 + 1e-9
        for b in boxes[i + 1 :]:
            across = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
            down = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
            assert min(across, down) < 1e-9


def test_a_treemap_leaves_out_what_has_no_area():
    text = treemap({"chip.a": {"x": 1.0, "y": 0.0}, "chip.b": {"z": 0.0}}, {})
    parse(text)
    assert "chip.b" not in text


def test_a_roofline_without_matrix_engines():
    ops = fold_ops(
        [
            {
                "name": "run/op.add",
                "kind": "vector",
                "engine": "chip.v",
                "steps": 1,
                "cycles": 1,
                "flops": 8,
                "bytes": 4,
                "time_s": 1.0,
                "duration_s": 1.0,
                "energy_j": 0.0,
                "utilisation": None,
                "why": "",
                "traffic": {"chip.m": 4},
                "busy_s": {"chip.v": 1.0},
            }
        ]
    )
    text = roofline(ops, Roofs([], {"chip.m": 100.0}), "chip.m", ["run"], 1.0, 400, 300)
    parse(text)
    numbers = [float(n) for n in re.findall(r"-?\d+\.\d+", text)]
    assert all(math.isfinite(n) for n in numbers)
    assert "nan" not in text


def test_numbers_are_written_for_people():
    assert quantity(1.23e-5, "s") == "12.3\N{NO-BREAK SPACE}µs"
    assert quantity(5, "") == "5"
    assert percent(0.0001) == "<0.1%"
    assert percent(0.5) == "50.0%"
    assert plain(99850.2) == "99,850"
    assert action_kind("mac_int8") == "arithmetic"
    assert action_kind("link0_byte") == "transport"
    assert action_kind("refresh") == "other"


# -- notebook


def test_a_notebook_shows_totals_and_no_fixed_ink():
    result = shipped("mixtral_8x7b_on_dgx_h100")
    text = archsim.show(result)._repr_html_()
    parse(text)
    assert result.name in text
    assert "bound by chip.hbm" in text
    assert len(text) < 40_000
    assert not re.search(r"[^-]color:(?!inherit)|#[0-9a-f]{3,6}", text)


def test_a_pipeline_in_space_is_drawn_on_its_mesh():
    result = archsim.run(
        {
            "name": "n",
            "chip": "sn40l",
            "fusion": {},
            "workload": {"kind": "fft_convolution", "points": 4096, "order": 2, "channels": 2},
        }
    )
    (pipeline,) = result.pipelines()
    places = [tuple(place) for stage in pipeline["stages"] for place in stage["places"]]
    assert len(places) == len(set(places)) == sum(stage["units"] for stage in pipeline["stages"]) <= 1040
    drawn = floor_plan.picture([pipeline])
    assert drawn.count("<path") == drawn.count("<tr data-tip") == len(pipeline["stages"])
    assert drawn.count("z") >= len(places)


def test_dense_lanes_are_drawn_once_more_closely():
    tasks = [
        {"rank": 0, "stream": s, "name": s, "number": i, "start_s": i, "end_s": i + 0.5, "computes": True, "after": ()}
        for s in "ab"
        for i in range(200)
    ]
    assert "closely" in streams.picture(tasks, 200.0)
    few = [task for task in tasks if task["number"] < 100]
    assert "closely" not in streams.picture(few, 100.0)
