"""The card templates of VoCo's tasks: complete, with real codes, and accepted with weights of their classes."""

import json
import tomllib
from pathlib import Path

import pytest
import torch
from monai.networks.nets import SwinUNETR
from pydicom.sr._concepts_dict import concepts

from radnode_inference import card_schema, weights_store
from radnode_inference.models.chest_ct import voco_templates
from radnode_inference.models.chest_ct.voco_settings import VocoSettings
from radnode_inference.weights import WeightsError, read_card

IN_DICOM = {code for meanings in concepts["SCT"].values() for code in meanings}
BY_TOTALSEGMENTATOR = {
    "110765007", "244849004", "181674001", "78333006", "75297007", "68455001", "74281007", "48535007", "78247007", "25888004",
    "25523003", "15339008", "59558009", "24915002", "5953002", "22565002", "77644006", "58830002", "43993008",
}  # fmt: skip
"""SNOMED CT codes that PS3.16 does not use: muscles, ribs and others of TotalSegmentator's published mapping."""
TASKS = 43
"""In the published table, VoComni beside them."""


@pytest.mark.parametrize("name", voco_templates.names())
def test_a_template_is_a_card_that_lacks_nothing_but_a_name(name: str) -> None:
    empty, card = voco_templates.template(name), voco_templates.template(name, "mine")
    with pytest.raises(WeightsError, match="name: String should have at least 1 character"):
        card_schema.check(empty, name)
    card_schema.check(card, name)
    assert tomllib.loads(voco_templates.as_toml(card)) == card
    assert card["classes"][0]["kind"] == ("negative" if "size" in card["input"] else "background")


def test_every_code_is_one_of_dicom_or_published_or_says_that_it_is_local() -> None:
    for name in voco_templates.names():
        for entry in voco_templates.template(name)["classes"][1:]:
            for code in (entry["concept"], *([entry["site"]] if "site" in entry else [])):
                if code["scheme"] == "SCT":
                    assert code["value"] in IN_DICOM | BY_TOTALSEGMENTATOR, code
                else:
                    assert code["scheme"] == "99RADNODE"


def test_no_task_is_forgotten() -> None:
    assert len(voco_templates.names()) - 1 + len(voco_templates.without()) == TASKS
    with pytest.raises(KeyError, match="no template BRATS: its input is four MR sequences"):
        voco_templates.template("BRATS")
    with pytest.raises(KeyError, match="there is no template 'nothing'; there are 3D-IRCADb, Abdomen1k"):
        voco_templates.template("nothing")


def test_what_is_seen_by_contrast_alone_asks_for_it_and_a_bleeding_for_none() -> None:
    asked = {n: voco_templates.template(n)["gates"].get("contrast") for n in voco_templates.names()}
    given = {"ASOCA", "Aorta", "FUMPE", "Kipa", "MM-WHS", "PANORAMA", "Parse22", "Vessel"}
    assert {n for n, contrast in asked.items() if contrast == "given"} == given
    assert {n for n, contrast in asked.items() if contrast == "none"} == {"BHSD"}


def test_the_order_of_the_classes_is_called_unsure_only_where_no_list_states_it() -> None:
    said = {n: voco_templates.template(n)["limitations"] for n in ("BTCV", "Spleen", "Word", "Amos", "Kipa")}
    assert [len(said[n]) for n in said] == [0, 0, 1, 2, 1]
    assert "FLARE22" in said["Amos"][1] and said["Kipa"][0].startswith("The data set's values are HU + 1000")


def test_a_classification_has_its_size_and_says_what_is_not_published() -> None:
    card = voco_templates.template("CC-CCII", "mine")
    assert card["input"]["size"][:2] == [384, 384] and card["input"]["repeat_depth"] == 2
    assert "roi" not in card["input"]
    assert [(c["name"], c["kind"]) for c in card["classes"]] == [
        ("normal", "negative"), ("common_pneumonia", "abnormality"), ("covid_pneumonia", "abnormality"),
    ]  # fmt: skip
    assert any("Not published for this task" in s for s in card["limitations"])


def test_a_class_of_the_whole_examination_is_reported_where_it_is_likely_only() -> None:
    assert [c.get("threshold") for c in voco_templates.template("CC-CCII")["classes"]] == [None, 0.5, 0.5]


def test_every_fragment_of_the_pelvis_has_a_local_code_and_its_side() -> None:
    classes = voco_templates.template("PENGWIN")["classes"]
    assert len(classes) == 31
    assert {c["concept"]["scheme"] for c in classes[1:]} == {"99RADNODE"}
    assert [c.get("laterality") for c in classes[1:]] == [None] * 10 + ["left"] * 10 + ["right"] * 10
    assert classes[12]["concept"]["meaning"] == "Fragment 2 of the hip bone"


def test_sides_are_said_once() -> None:
    classes = {c["name"]: c for c in voco_templates.template("Totalsegmentator")["classes"]}
    assert len(classes) == 105
    assert classes["kidney_left"]["laterality"] == "left"
    assert classes["rib_12_right"]["concept"]["meaning"] == "Twelfth rib"
    assert "laterality" not in classes["lung_middle_lobe_right"], "the code says it"
    assert "laterality" not in classes["heart_atrium_left"]


def test_a_fine_tuned_checkpoint_needs_only_its_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = SwinUNETR(1, 14, feature_size=12, use_v2=True)
    torch.save({"state_dict": net.state_dict()}, tmp_path / "btcv.pt")
    card = tmp_path / "card.json"
    card.write_text(json.dumps(voco_templates.template("BTCV", "our BTCV")))
    stored = weights_store.add([tmp_path / "btcv.pt"], "ct-voco", card, tmp_path / "site")
    settings = VocoSettings.from_weights(read_card("ct-voco", stored.path.with_name("card.json")))
    assert (settings.window_hu, settings.roi, settings.overlap) == ((-175.0, 250.0), (96, 96, 96), 0.75)
    assert settings.classes[2].laterality is not None
    assert settings.classes[2].laterality.meaning == "Right"
    with pytest.raises(WeightsError, match="has 14 classes, its card 17"):
        card.write_text(json.dumps(voco_templates.template("Word", "wrong")))
        weights_store.add([tmp_path / "btcv.pt"], "ct-voco", card, tmp_path / "other")


def test_a_checkpoint_for_two_images_at_once_is_refused(tmp_path: Path) -> None:
    torch.save(SwinUNETR(2, 2, feature_size=12, use_v2=True).state_dict(), tmp_path / "two.pt")
    card = tmp_path / "card.json"
    card.write_text(json.dumps(voco_templates.template("Spleen", "two")))
    with pytest.raises(WeightsError, match="two reads 2 images at once; ct-voco shows it one"):
        weights_store.add([tmp_path / "two.pt"], "ct-voco", card, tmp_path / "site")
