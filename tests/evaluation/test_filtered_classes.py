"""What a filter leaves of the classes of drawn images is said: a class may lose all of them."""

from dataclasses import replace

import numpy as np
from conftest import make_records

from medaug_cli.boxes import digest_patient
from medaug_cli.lesion_filter import FilterOptions, sift
from medaug_cli.store import GeneratorOrigin, StoreInfo, StoreWriter


def test_a_class_of_which_no_image_is_kept_is_named(tmp_path):
    origin = GeneratorOrigin(
        name="g", version="1", hash="h", training_store="t", training_patients=[digest_patient("p0")]
    )
    info = StoreInfo(
        tool_version="0", command="test", settings={}, seed=0, label_names=["lesion"], class_names=["a", "b"],
        generators=[origin],
    )  # fmt: skip
    writer = StoreWriter(tmp_path / "drawn.h5", info, {})
    records = [
        replace(record, source="g", split="train", patient="", image_class="ab"[i % 2])
        for i, record in enumerate(make_records(6))
    ]
    writer.add(0, records)
    writer.publish()
    decisions = "".join(f"{record.id},{'yes' if i % 2 else 'no'}\n" for i, record in enumerate(records))
    (tmp_path / "decisions.csv").write_text(f"image,keep\n{decisions}", encoding="utf-8")
    said = []
    kept, _ = sift(
        FilterOptions(
            tmp_path / "drawn.h5", tmp_path / "kept.h5", by="manual", decisions=tmp_path / "decisions.csv",
            announce=said.append,
        )
    )  # fmt: skip
    assert np.unique(kept.classes).tolist() == [kept.class_names.index("b")]
    assert "no image of the class a is kept" in said
    assert "no image of the class b is kept" not in said
