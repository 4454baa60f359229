"""The data sets of the Conv-LoRA paper (Zhong et al., ICLR 2024).

Sources of what stands here: layout, names and addresses of the archives from the paper's reference
code (AutoGluon MultiModal, ``examples/automm/Conv-LoRA``); the other layouts from code of the sets'
authors (xieenze/Segment_Transparent_Objects, xieenze/Trans2Seg) and of their users. **No address
could be tried where this was written (no network), and no hash is published for any archive: all
are ``None``.** Licences are given as the sources state them; none was checked at the original
site, so read it there before you use a set.
"""

from __future__ import annotations

from easyseg.datasets.layouts import Layout, Pairs, Table
from easyseg.datasets.spec import Archive, DatasetSpec

__all__ = ["PAPER_SETS"]

_BUCKET = "https://automl-mm-bench.s3.amazonaws.com/semantic_segmentation"
_ISIC = "https://isic-challenge-data.s3.amazonaws.com/2017"
_SBU = "https://www3.cs.stonybrook.edu/~cvl/content/datasets/shadow_db/SBU-shadow.zip"


def _binary(foreground: str) -> dict[int, str]:
    return {0: "background", 255: foreground}


def _from_paper(name: str) -> tuple[Archive, ...]:
    return (Archive(f"{_BUCKET}/{name}.zip"),)


def _paper_layout(*tests: str) -> Layout:
    """The layout of the paper's archives: tables of paths below the folder, masks 0 and 255."""
    files = {name: (Table(f"test_{name}.csv"),) for name in tests} or {"test": (Table("test.csv"),)}
    return Layout(
        about="the paper's archive",
        train=(Table("train.csv"),),
        val=(Table("val.csv"),),
        tests=files,
        split="the paper's, as in its archive",
    )


def _polyp_layout(image: str, mask: str) -> Layout:
    def test(name: str) -> tuple[Pairs, ...]:
        folder = f"TestDataset/{name}"
        return (Pairs(f"{folder}/images/*.png", f"{folder}/masks/{{stem}}.png"),)

    return Layout(
        about="TrainDataset and TestDataset of PraNet (Fan et al. 2020)",
        train=(Pairs(f"TrainDataset/{image}/*.png", f"TrainDataset/{mask}/{{stem}}.png"),),
        tests={name: test(name) for name in ("Kvasir", "CVC-ClinicDB")},
        split="PraNet's: 1450 images of both sets to train on, 100 and 62 to test; no validation",
        classes=("background", "polyp"),
    )


def _isic_part(images: str, masks: str) -> tuple[Pairs, ...]:
    # Beside the images lie superpixels (PNG) and, in some copies, metadata.
    return (Pairs(f"{images}/*.jpg", f"{masks}/{{stem}}_segmentation.png"),)


def _sbu_part(folder: str) -> tuple[Pairs, ...]:
    return (Pairs(f"{folder}/ShadowImages/*.jpg", f"{folder}/ShadowMasks/{{stem}}.png"),)


def _leaf_split(images: str, masks: str, about: str) -> Layout:
    images, masks = f"{images}/*.jpg", f"{masks}/{{stem}}.png"
    return Layout(
        about=about,
        train=(Pairs(images, masks, (0.0, 0.85)),),
        tests={"test": (Pairs(images, masks, (0.85, 1.0)),)},
        split="made by easyseg, 85 % to train on, the rest to test, by a hash of the names: this"
        " form has no split, and the paper's is only in its own archive",
        classes=("background", "disease"),
    )


def _trans10k_part(*folders: str) -> tuple[Pairs, ...]:
    return tuple(
        Pairs(f"{folder}/images/*.jpg", f"{folder}/masks/{{stem}}_mask.png") for folder in folders
    )


def _trans10k_v2_part(folder: str) -> tuple[Pairs, ...]:
    return (Pairs(f"{folder}/images/*.jpg", f"{folder}/masks_12/{{stem}}_mask.png"),)


PAPER_SETS: tuple[DatasetSpec, ...] = (
    DatasetSpec(
        name="polyp",
        about="polyps in colonoscopy (Kvasir-SEG, CVC-ClinicDB): 1450 train, 100 + 62 test",
        problem_type="binary",
        classes=_binary("polyp"),
        ignore_index=None,
        metric="s_measure@image",
        domain="polyp",
        licence="research and education only (both sets), no commercial use",
        citation="Jha et al., Kvasir-SEG: A Segmented Polyp Dataset, MMM 2020; Bernal et al.,"
        " WM-DOVA Maps for Accurate Polyp Highlighting in Colonoscopy (CVC-ClinicDB), CMIG 43,"
        " 2015; split: Fan et al., PraNet, MICCAI 2020",
        homepage="https://github.com/DengPingFan/PraNet",
        layouts=(
            _paper_layout("Kvasir", "CVC-ClinicDB"),
            _polyp_layout("images", "masks"),
            _polyp_layout("image", "mask"),
        ),
        sources=(_from_paper("polyp"),),
        by_hand="TrainDataset and TestDataset",
    ),
    DatasetSpec(
        name="isic2017",
        about="skin lesions in dermoscopy: 2000 train, 150 validation, 600 test",
        problem_type="binary",
        classes=_binary("lesion"),
        ignore_index=None,
        metric="iou@image",
        domain="skin_lesion",
        licence="CC-0, as the ISIC archive gives the data of this challenge",
        citation="Codella et al., Skin Lesion Analysis Toward Melanoma Detection: A Challenge at"
        " the 2017 ISBI, Hosted by the ISIC, ISBI 2018",
        homepage="https://challenge.isic-archive.com/data/#2017",
        layouts=(
            _paper_layout(),
            Layout(
                about="the six archives of the challenge",
                train=_isic_part("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"),
                val=_isic_part(
                    "ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth"
                ),
                tests={
                    "test": _isic_part(
                        "ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth"
                    )
                },
                split="the challenge's",
            ),
        ),
        folders=("ISIC2017", "ISIC-2017", "ISIC_2017"),
        sources=(
            _from_paper("isic2017"),
            tuple(
                Archive(f"{_ISIC}/ISIC-2017_{part}_{kind}.zip")
                for part in ("Training", "Validation", "Test_v2")
                for kind in ("Data", "Part1_GroundTruth")
            ),
        ),
        by_hand="images and ground truth of part 1 (lesion segmentation)",
    ),
    DatasetSpec(
        name="camo",
        about="camouflaged animals and people: 1000 train, 250 test",
        problem_type="binary",
        classes=_binary("camouflaged"),
        ignore_index=None,
        metric="s_measure@image",
        domain="natural_camouflage",
        licence="academic use; the terms are on the homepage",
        citation="Le et al., Anabranch Network for Camouflaged Object Segmentation, CVIU 184, 2019",
        homepage="https://sites.google.com/view/ltnghia/research/camo",
        layouts=(
            _paper_layout("CAMO"),
            Layout(
                about="CAMO-V.1.0-CVIU2019",
                train=(Pairs("Images/Train/*.jpg", "GT/{stem}.png"),),
                tests={"CAMO": (Pairs("Images/Test/*.jpg", "GT/{stem}.png"),)},
                split="the authors': no validation part",
                classes=("background", "camouflaged"),
            ),
        ),
        folders=("camo_sem_seg", "CAMO-V.1.0-CVIU2019", "CAMO"),
        sources=(_from_paper("camo_sem_seg"),),
        by_hand="CAMO-V.1.0-CVIU2019",
    ),
    DatasetSpec(
        name="sbu_shadow",
        about="cast shadows in photographs: 4085 train, 638 test",
        problem_type="binary",
        classes=_binary("shadow"),
        ignore_index=None,
        metric="ber@dataset",
        domain="shadow",
        licence="non-commercial research only",
        citation="Vicente et al., Large-scale Training of Shadow Detectors with Noisily-Annotated"
        " Shadow Examples, ECCV 2016",
        homepage="https://www3.cs.stonybrook.edu/~cvl/projects/shadow_noisy_label/index.html",
        layouts=(
            _paper_layout(),
            Layout(
                about="SBU-shadow.zip of Stony Brook University",
                train=_sbu_part("SBUTrain4KRecoveredSmall"),
                tests={"test": _sbu_part("SBU-Test")},
                split="the authors': no validation part",
                classes=("background", "shadow"),
            ),
        ),
        folders=("SBU-shadow", "SBU"),
        sources=(_from_paper("SBU-shadow"), (Archive(_SBU),)),
        by_hand="SBU-shadow.zip",
    ),
    DatasetSpec(
        name="leaf_disease_segmentation",
        about="diseased spots on leaves: 588 images",
        problem_type="binary",
        classes=_binary("disease"),
        ignore_index=None,
        metric="iou@image",
        domain="leaf_disease",
        licence="none known: see the homepage",
        citation="Fakhre Alam, Leaf disease segmentation dataset, Kaggle",
        homepage="https://www.kaggle.com/datasets/fakhrealam9537/leaf-disease-segmentation-dataset",
        layouts=(
            _paper_layout(),
            Layout(
                about="orig_data of the split by Rath (2023)",
                train=(Pairs("orig_data/train_images/*.jpg", "orig_data/train_masks/{stem}.png"),),
                tests={
                    "test": (
                        Pairs("orig_data/valid_images/*.jpg", "orig_data/valid_masks/{stem}.png"),
                    )
                },
                split="Rath's: his validation part is the test part here; no validation part",
                classes=("background", "disease"),
            ),
            _leaf_split("data/data/images", "data/data/masks", "Kaggle's archive"),
            _leaf_split("images", "masks", "its folder data/data alone"),
        ),
        folders=("leaf-disease-segmentation-dataset",),
        sources=(_from_paper("leaf_disease_segmentation"),),
        by_hand="the archive (Kaggle asks for a sign-in); its folder aug_data is not used",
    ),
    DatasetSpec(
        name="road_segmentation",
        about="roads from the air (Massachusetts), 1500x1500: 1108 train, 14 validation, 49 test",
        problem_type="binary",
        classes=_binary("road"),
        ignore_index=None,
        metric="iou@image",
        domain="road",
        licence="none known: published for research, see the homepage",
        citation="Mnih, Machine Learning for Aerial Image Labeling, PhD thesis, University of"
        " Toronto, 2013",
        homepage="https://www.cs.toronto.edu/~vmnih/data/",
        layouts=(
            _paper_layout(),
            Layout(
                about="the author's folders",
                train=(Pairs("train/sat/*.tiff", "train/map/{stem}.tif"),),
                val=(Pairs("valid/sat/*.tiff", "valid/map/{stem}.tif"),),
                tests={"test": (Pairs("test/sat/*.tiff", "test/map/{stem}.tif"),)},
                split="the author's",
                classes=("background", "road"),
            ),
            Layout(
                about="the copy at Kaggle (balraj98/massachusetts-roads-dataset)",
                train=(Pairs("tiff/train/*.tiff", "tiff/train_labels/{stem}.tif"),),
                val=(Pairs("tiff/val/*.tiff", "tiff/val_labels/{stem}.tif"),),
                tests={"test": (Pairs("tiff/test/*.tiff", "tiff/test_labels/{stem}.tif"),)},
                split="the author's",
                classes=("background", "road"),
            ),
        ),
        folders=("mass_roads", "massachusetts-roads-dataset"),
        sources=(_from_paper("road_segmentation"),),
        by_hand="the images (sat) and maps of each part; they are offered one by one",
    ),
    DatasetSpec(
        name="trans10k_v1",
        about="transparent things and stuff: 5000 train, 1000 validation, 4428 test, easy and hard",
        problem_type="multiclass",
        # The authors' code tells the classes by the mean of the colour channels: 0, 85, 255.
        classes=("background", "things", "stuff"),
        ignore_index=None,
        metric="miou@dataset",
        domain="transparent",
        licence="academic use; for commercial use the authors are to be asked",
        citation="Xie et al., Segmenting Transparent Objects in the Wild, ECCV 2020",
        homepage="https://xieenze.github.io/projects/TransLAB/TransLAB.html",
        layouts=(
            Layout(
                about="Trans10K",
                train=_trans10k_part("train"),
                val=_trans10k_part("validation/easy", "validation/hard"),
                tests={kind: _trans10k_part(f"test/{kind}") for kind in ("easy", "hard")},
                split="the authors'; the paper reports the hard test images",
            ),
        ),
        folders=("Trans10K", "Trans10k"),
        by_hand="Trans10K: it is offered on Google Drive, without a lasting address of its files",
    ),
    DatasetSpec(
        name="trans10k_v2",
        about="eleven kinds of transparent objects: 5000 train, 1000 validation, 4428 test",
        problem_type="multiclass",
        classes={
            0: "background",
            1: "shelf",
            2: "jar or tank",
            3: "freezer",
            4: "window",
            5: "glass door",
            6: "eyeglass",
            7: "cup",
            8: "floor glass",
            9: "glass bowl",
            10: "water bottle",
            11: "storage box",
        },
        ignore_index=None,
        metric="miou@dataset",
        domain="transparent",
        licence="academic use; for commercial use the authors are to be asked",
        citation="Xie et al., Segmenting Transparent Object in the Wild with Transformer, IJCAI"
        " 2021",
        homepage="https://github.com/xieenze/Trans2Seg",
        layouts=(
            Layout(
                about="Trans10K_v2",
                train=_trans10k_v2_part("train"),
                val=_trans10k_v2_part("validation"),
                tests={"test": _trans10k_v2_part("test")},
                split="the authors'",
            ),
        ),
        folders=("Trans10K_v2", "Trans10K_cls12"),
        by_hand="Trans10K-v2: it is offered on Google Drive, without a lasting address of its"
        " files",
    ),
)
