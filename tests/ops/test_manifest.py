"""Lists of jobs: what spreadsheets write is read, and each mistake is named by file, line and field."""

import json
from pathlib import Path
from typing import Any

import pytest

from ops.errors import BadManifest
from ops.inspect.manifest import Row, is_manifest, read_manifest

HEADER = "face,poses,prompt"
ROW = "anna.png,walk.png,in the rain"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with pictures; their content is read later."""
    (tmp_path / "hero" / "poses").mkdir(parents=True)
    for name in ("anna.png", "walk.png", "run.png", "hero/face.png", "hero/poses/sit.png"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def listed(folder: Path, *lines: str, name: str = "jobs.csv", end: str = "\n", encoding: str = "utf-8") -> Path:
    """Write a list of these lines, and return where it is."""
    path = folder / name
    path.write_bytes((end.join(lines) + end).encode(encoding))
    return path


def mistakes(path: Path) -> list[str]:
    """What is said to be wrong with a list, without the folder that it is in."""
    with pytest.raises(BadManifest) as wrong:
        read_manifest(path, "job")
    assert str(wrong.value).endswith("nothing was sent")
    return [mistake.removeprefix(f"{path.parent}/") for mistake in wrong.value.mistakes]


def test_a_table(folder: Path) -> None:
    lines = ["Face, poses ,prompt,seed,use_input_img_dimension,context,character"]
    lines += ['anna.png,walk.png | run.png,"in the rain, at night",7,FALSE,"{""order"": 1}",']
    lines += ["", "hero/face.png,hero\\poses\\sit.png,,,,,client/hero"]
    assert read_manifest(listed(folder, *lines), "job") == [
        Row(
            2,
            "anna",
            "anna.png",
            {"walk": "walk.png", "run": "run.png"},
            {"prompt": "in the rain, at night", "seed": 7, "use_input_img_dimension": False, "context": {"order": 1}},
        ),
        Row(4, "client/hero", "hero/face.png", {"sit": "hero\\poses\\sit.png"}),
    ]


@pytest.mark.parametrize(
    ("lines", "how"),
    [
        ([HEADER, ROW], {"encoding": "utf-8-sig"}),
        ([HEADER, ROW], {"encoding": "utf-16"}),
        ([HEADER, ROW], {"end": "\r\n"}),
        ([HEADER.replace(",", ";"), ROW.replace(",", ";")], {"encoding": "utf-8-sig", "end": "\r\n"}),
        (["sep=;", HEADER.replace(",", ";"), ROW.replace(",", ";")], {}),
        ([HEADER.replace(",", "\t"), ROW.replace(",", "\t")], {}),
        ([HEADER.replace(",", "\t"), ROW.replace(",", "\t")], {"name": "jobs.TSV"}),
        ([HEADER + ",,", ROW + ",,", ",,,,"], {}),
        (
            ['{"face": "anna.png", "poses": ["walk.png"], "prompt": "in the rain", "seed": null}'],
            {"name": "jobs.jsonl"},
        ),
        (
            ['{"face": "anna.png", "poses": "walk.png", "prompt": "in the rain"}', ""],
            {"name": "a.ndjson", "end": "\r\n"},
        ),
    ],
)
def test_what_programs_write_is_read(folder: Path, lines: list[str], how: dict[str, Any]) -> None:
    (row,) = read_manifest(listed(folder, *lines, **how), "job")
    assert (row.character, row.face, row.poses) == ("anna", "anna.png", {"walk": "walk.png"})
    assert row.parameters == {"prompt": "in the rain"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["face,poses,propmt", ROW], "jobs.csv, line 1: 'propmt' is not a column. Did you mean prompt?"),
        (["face,poses,zzz", ROW], "jobs.csv, line 1: 'zzz' is not a column."),
        (["face,prompt", "anna.png,x"], "jobs.csv, line 1: the column 'poses' is missing"),
        (["face,poses,seed,seed", "anna.png,walk.png,1,2"], "jobs.csv, line 1: there are 2 columns 'seed'"),
        ([HEADER], "jobs.csv, line 1: the list has no jobs"),
        ([""], "jobs.csv, line 1: the list has no jobs"),
        ([HEADER, "anna.png,wlak.png,x"], "jobs.csv, line 2, poses: there is no file wlak.png. Did you mean walk.png?"),
        ([HEADER, "ana.png,walk.png,x"], "jobs.csv, line 2, face: there is no file ana.png. Did you mean anna.png?"),
        ([HEADER, "zzz/q.png,walk.png,x"], "jobs.csv, line 2, face: there is no file zzz/q.png"),
        (
            [HEADER, 'anna.png,"walk.png;run.png",x'],
            "jobs.csv, line 2, poses: there is no file walk.png;run.png. Several poses are separated by |.",
        ),
        ([HEADER, "hero,walk.png,x"], "jobs.csv, line 2, face: hero is a folder: name a picture"),
        ([HEADER, "anna.png,,x"], "jobs.csv, line 2, poses: a face without poses makes no job"),
        ([HEADER, ROW, ROW], "jobs.csv, line 3, poses: walk.png is already in line 2"),
        (
            [HEADER, ROW, "anna.png,walk.png,at night"],
            "jobs.csv, line 3, poses: anna has a pose walk in line 2: name another character, or copy the picture "
            "under another name",
        ),
        ([HEADER, "anna.png,walk.png|walk.png,x"], "jobs.csv, line 2, poses: walk.png and walk.png would both be the"),
        (
            ["character,face,poses", "a,anna.png,walk.png", "a,hero/face.png,run.png"],
            "jobs.csv, line 3, face: a has the face anna.png in line 2",
        ),
        ([HEADER, ",walk.png,x"], "jobs.csv, line 2, face: it is missing, and no character is named"),
        (["character,face,poses", "../a,anna.png,walk.png"], "jobs.csv, line 2, character: "),
        (["face,poses,seed", "anna.png,walk.png,2.5"], "jobs.csv, line 2, seed: '2.5' is not a whole number"),
        (
            ["face,poses,samples", "anna.png,walk.png,9"],
            "jobs.csv, line 2, samples: must be smaller than or equal to 4",
        ),
        (["face,poses,base_64", "anna.png,walk.png,ja"], "jobs.csv, line 2, base_64: 'ja' is neither true nor false"),
        (["face,poses,context", "anna.png,walk.png,{"], "jobs.csv, line 2, context: it is not JSON: "),
        ([HEADER, "anna.png,walk.png,x,y"], "jobs.csv, line 2: it has 4 values for 3 columns"),
        ([HEADER + ",", "anna.png,walk.png,x,y"], "jobs.csv, line 2: 'y' has no heading"),
        ([HEADER, 'anna.png,walk.png,"x', ROW], "jobs.csv, line 2: it cannot be read as CSV: "),
    ],
)
def test_a_mistake_is_named_by_line_and_field(folder: Path, lines: list[str], said: str) -> None:
    (mistake,) = mistakes(listed(folder, *lines))
    assert mistake.startswith(said)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "it is not JSON: "),
        ("[" * 100_000, "it is not JSON: "),
        ("[]", "it is not a JSON object"),
        ('{"face": "anna.png", "pose": "walk.png", "poses": "walk.png"}', "'pose' is not a field. Did you mean poses?"),
        ('{"face": 1, "poses": "walk.png"}', "it is not a text"),
        ('{"face": "anna.png", "poses": [1]}', "it is neither a path nor a list of paths"),
        ('{"face": "anna.png", "poses": "walk.png", "seed": "x"}', "must be integer"),
    ],
)
def test_a_mistake_in_a_line_of_json(folder: Path, line: str, said: str) -> None:
    (mistake,) = mistakes(listed(folder, "", line, name="jobs.jsonl"))
    assert mistake.startswith("jobs.jsonl, line 2")
    assert said in mistake


def test_all_mistakes_are_named_at_once_in_their_order(folder: Path) -> None:
    found = mistakes(
        listed(folder, "face,poses,seed", "anna.png,no.png,x", "anna.png,walk.png,1", "anna.png,walk.png,1")
    )
    assert [mistake.split(": ")[0] for mistake in found] == [
        "jobs.csv, line 2, seed",
        "jobs.csv, line 2, poses",
        "jobs.csv, line 4, poses",
    ]


def test_a_list_in_another_encoding_says_how_to_save_it(folder: Path) -> None:
    path = listed(folder, HEADER, ROW, "anna.png,run.png,im Büro", encoding="cp1252")
    assert mistakes(path) == ["jobs.csv, line 3: it is not in UTF-8: save it again, in Excel as 'CSV UTF-8'"]


def test_lines_are_counted_where_a_cell_has_several(folder: Path) -> None:
    lines = [HEADER, '"anna.png","walk.png\nrun.png","a\nb"', "anna.png,other.jpg,x"]
    assert mistakes(listed(folder, *lines)) == ["jobs.csv, line 5, poses: there is no file other.jpg"]


def test_a_separator_of_lines_inside_of_json_is_text(folder: Path) -> None:
    text = json.dumps({"face": "anna.png", "poses": "walk.png", "prompt": "a\u2028b"}, ensure_ascii=False)
    assert read_manifest(listed(folder, text, name="a.jsonl"), "job")[0].parameters == {"prompt": "a\u2028b"}


def test_lists_are_known_by_their_names() -> None:
    assert [is_manifest(Path(name)) for name in ("a.csv", "A.JSONL", "a.png", "a.json", "csv")] == [
        *(True, True),
        *(False, False, False),
    ]
