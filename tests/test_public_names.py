"""The public names: adding, renaming or dropping one is a decision, made here as well."""

from __future__ import annotations

from importlib import import_module

import pytest

PUBLIC = {
    "deepmusic": """
        AudioError CheckpointError DataError DeepMusicError ShapeError Verdict __version__
        classify load
    """,
    "deepmusic.audio": """
        Audio AudioStream LogMelConfig LogMelStream SegmentStream load log_mel mel_filters
        open_audio segment_starts wrap
    """,
    "deepmusic.capsules": """
        CapsuleLayer MaskedDecoder PrimaryCapsules ROUTING RoutingRecord capsule_length
        coupling_entropy dead_share dynamic_routing dynamic_routing_folded fan_in_
        init_to_length margin_loss reconstruction_loss routing_method squash squash_exp
        uniform_routing uniform_routing_folded
    """,
    "deepmusic.cli": """
        deepmusic main
    """,
    "deepmusic.datasets": """
        Fold FolderDataset Folds Problem Split Track artist_members content_hash
        fingerprint group_tracks make_folds make_split read_splits scan_folder
        write_splits
    """,
    "deepmusic.training": """
        FitResult Items Progress Task TrainingConfig draw_history fill_model fit
        load_weights read_history save_weights show_progress
    """,
}


@pytest.mark.parametrize("package", PUBLIC)
def test_names_are_the_public_ones(package: str) -> None:
    module = import_module(package)
    assert sorted(module.__all__) == sorted(PUBLIC[package].split())
    for name in module.__all__:
        assert getattr(module, name) is not None
