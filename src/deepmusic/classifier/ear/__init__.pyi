from .dataset import PatchDataset as PatchDataset
from .install import (
    ear_path as ear_path,
    has_ear as has_ear,
    install_ear as install_ear,
    read_ear as read_ear,
)
from .patches import (
    EAR_MEL as EAR_MEL,
    FEATURES as FEATURES,
    PATCH_FRAMES as PATCH_FRAMES,
    TAGS as TAGS,
    compressed as compressed,
    patches_of as patches_of,
)
