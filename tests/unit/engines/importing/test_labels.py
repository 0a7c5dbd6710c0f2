# SPDX-License-Identifier: Apache-2.0
"""Class names in the forms people keep them in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.engines.importing.labels import (
    LabelProblem,
    find_labels,
    labels_in_metadata,
    parse_labels,
)
from perception_node.errors import ConfigError

RGB = ["red", "green", "blue"]
FISH = ["tench, Tinca tinca", "goldfish, Carassius auratus"]
FORMS = {
    "lines": ("red\r\ngreen\r\nblue\r\n\n", "", RGB),
    "numbered": ("0 red\n1 green\n2 blue", ".txt", RGB),
    "numbered, colon": ("0: red\n1: green\n2: blue", ".txt", RGB),
    "numbered, comma": ("0,red\n1,green\n2,blue", ".txt", RGB),
    "numbered, dot": ("0. red\n1. green\n2. blue", "", RGB),
    "numbered, tabs, unordered": ("2\tblue\n0\tred\n1\tgreen", "", RGB),
    "numbers in the names": ("10 euro\n20 euro", "", ["10 euro", "20 euro"]),
    "digits": ("0\n1\n2", "", ["0", "1", "2"]),
    "synsets": (f"n01440764 {FISH[0]}\nn01443537 {FISH[1]}\n", ".txt", FISH),
    "numbered synsets": (f"0 n01440764 {FISH[0]}\n1 n01443537 {FISH[1]}\n", ".txt", FISH),
    "synset ids alone": ("n01440764\nn01443537", "", ["n01440764", "n01443537"]),
    "JSON list": (json.dumps(RGB), ".json", RGB),
    "JSON list in text": (json.dumps(RGB), ".txt", RGB),
    "JSON map": ('{"2": "blue", "0": "red", "1": "green"}', ".json", RGB),
    "JSON map of names": ('{"blue": 2, "red": 0, "green": 1}', ".json", RGB),
    "JSON id2label": ('{"x": 1, "id2label": {"0": "red", "1": "green", "2": "blue"}}', "", RGB),
    "JSON label2id": ('{"label2id": {"red": 0, "green": 1, "blue": 2}}', "", RGB),
    "JSON of Keras": (
        '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}',
        "",
        ["tench", "goldfish"],
    ),
    "JSON records": ('[{"id": 1, "name": "green"}, {"id": 0, "name": "red"}]', "", RGB[:2]),
    "JSON records, no numbers": ('[{"name": "red"}, {"name": "green"}]', "", RGB[:2]),
    "JSON by line": ('"red"\n"green"\n"blue"\n', ".jsonl", RGB),
    "JSON records by line": (
        '{"index": 1, "label": "green"}\n{"index": 0, "label": "red"}\n',
        ".txt",
        RGB[:2],
    ),
    "JSON maps by line": ('{"0": "red"}\n{"1": "green"}\n', "", RGB[:2]),
    "Python dict": ("{0: 'red',\n 1: \"green\",\n 2: 'blue'}", ".txt", RGB),
    "YAML list": ("nc: 3\nnames: [red, green, blue]\n", ".yaml", RGB),
    "YAML map": ("names:\n  0: red\n  1: green\n  2: blue\n", ".yml", RGB),
    "YAML top": ("- red\n- green\n- blue", ".yaml", RGB),
    "YAML no and yes": ("names: [no, yes, off]", ".yaml", ["no", "yes", "off"]),
    "CSV": ("0,red\n1,green\n2,blue\n", ".csv", RGB),
    "CSV, names first": ("blue,2\nred,0\ngreen,1\n", ".csv", RGB),
    "CSV, header": ("index,name\n1,green\n0,red\n", ".csv", RGB[:2]),
    "CSV, header, other order": ("Class Name;ID\ngreen;1\nred;0\n", ".csv", RGB[:2]),
    "CSV, more columns": ("id,color,name\n1,x,green\n0,y,red\n", ".csv", RGB[:2]),
    "CSV, names alone": ('name\nred\n"green, pale"\n', ".csv", ["red", "green, pale"]),
    "CSV, no header": ('red\n"green, pale"\n', ".csv", ["red", "green, pale"]),
    "CSV, digits": ("0,0\n1,1\n", ".csv", ["0", "1"]),
    "TSV": ("0\tred\n1\tgreen, pale\n", ".tsv", ["red", "green, pale"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_names_are_read_in_the_order_of_their_classes(form):
    text, suffix, names = FORMS[form]
    assert parse_labels(text, suffix) == names


PROBLEMS = {
    "gap": ("0 red\n2 blue", "", "from 0 to 2 without 1; number them from 0 on"),
    "from 1": ("1 red\n2 green", "", "from 1 to 2 without 0; number them from 0 on"),
    "from 1, JSON": ('{"1": "red", "2": "green"}', "", "from 1 to 2 without 0"),
    "twice": ("0 red\n1 green\n1 blue", "", "number 1 is there twice: 'green' and 'blue'"),
    "twice, CSV": ("0,red\n0,blue", ".csv", "number 0 is there twice: 'red' and 'blue'"),
    "no names, JSON": ("{}", ".json", "it holds no class names"),
    "no names, YAML": ("", ".yaml", "it holds no list of class names"),
    "no list": ('{"version": 3}', ".json", "numbered from 3 to 3 without 0"),
    "mixed": ('["a", 1]', ".json", "it holds no list of class names"),
    "null": ('{"0": null}', ".json", "'None' is no class name"),
    "deep": ("[" * 9999, ".json", "too deep"),
    "links": ("a: &a [b]\nnames: *a", ".yaml", "has links"),
    "tag": ("names: !!python/name:os.system x", ".yaml", "neither JSON nor YAML: could not"),
    "broken": ("{", ".json", "neither JSON nor YAML: "),
    "ragged": ("0,red\n1,green,pale", ".csv", "its rows differ in length; put names with commas"),
    "empty CSV": ("\n", ".csv", "it is empty"),
    "columns": ("a,b,c\nd,e,f", ".csv", "write a header: index,name"),
    "number": ("index,name\nx,red", ".csv", "'x' is no number of a class"),
}


@pytest.mark.parametrize("form", PROBLEMS)
def test_a_list_that_would_shift_names_is_refused(form):
    text, suffix, words = PROBLEMS[form]
    with pytest.raises(LabelProblem, match=words) as caught:
        parse_labels(text, suffix)
    assert "\n" not in str(caught.value)


def test_names_can_be_given_in_the_place_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_labels("no, yes") == ("no", "yes")
    many = [f"a rather long name {number}" for number in range(1000)]
    assert find_labels(",".join(many)) == tuple(many)
    (tmp_path / "no, yes").write_text("a\nb\n", encoding="utf-8")
    assert find_labels("no, yes") == ("a", "b")
    (tmp_path / "l.json").write_text('{"1": "a"}', encoding="utf-8")
    for name, words in [("none", "cannot be read"), (".", "cannot"), ("l.json", "without 0")]:
        with pytest.raises(ConfigError, match=words):
            find_labels(name)


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({"labels": json.dumps(RGB)}, RGB),
        ({"names": repr(dict(enumerate(RGB)))}, RGB),
        ({"id2label": '{"0": "red", "1": "green"}'}, RGB[:2]),
        ({"class_names": "red, green, blue"}, RGB),
        ({"classes": "3", "names": repr(RGB)}, RGB),
        ({"labels": "{", "class_names": "red,green"}, RGB[:2]),
        ({"classes": "1000"}, None),
        ({"names": "{1: 'a'}"}, None),
        ({"author": "a,b"}, None),
        ({"classes": ",,"}, None),
    ],
)
def test_names_in_metadata_are_found_where_they_are_whole(metadata, names):
    assert labels_in_metadata(metadata) == names


texts = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="{}[]:,\"' \n\t-&*!0129nabc|>?#", max_size=80),
    st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists, max_leaves=9).map(
        json.dumps
    ),
)


@given(texts, st.sampled_from(["", ".txt", ".json", ".yaml", ".csv", ".tsv"]))
def test_no_text_is_an_error_of_ours(text, suffix):
    try:
        names = parse_labels(text, suffix)
    except LabelProblem as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert all(isinstance(name, str) for name in names)
    labels_in_metadata({"names": text})
