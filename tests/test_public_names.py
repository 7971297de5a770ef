"""The public names: adding, renaming or dropping one is a decision, made here as well."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

PUBLIC = {
    "deepmusic": """
        AudioError CheckpointError DataError DeepMusicError RequestError ScoreError ShapeError
        Verdict __version__ classify generate load load_composer
    """,
    "deepmusic.audio": """
        AUDIO_EXTENSIONS Audio AudioStream LogMelConfig LogMelStream NotAudio SegmentStream
        find_audio load log_mel mel_filters open_audio segment_starts wrap
    """,
    "deepmusic.capsules": """
        CapsuleLayer CapsuleStack ConvCapsules MaskedDecoder PrimaryCapsules ROUTING RoutingRecord
        TimeCapsules capsule_length coupling_entropy dead_share dynamic_routing
        dynamic_routing_folded em_routing em_routing_folded fan_in_ init_stack_to_length
        init_to_length inverted_attention_routing inverted_attention_routing_folded margin_loss
        reconstruction_loss routing_method self_attention_routing self_attention_routing_folded
        self_routing self_routing_folded spread_loss spread_margin squash squash_exp
        uniform_routing uniform_routing_folded variational_routing variational_routing_folded
        window_competition
    """,
    "deepmusic.cli": """
        deepmusic main
    """,
    "deepmusic.composing": """
        Composer ComposerConfig ComposerNetwork ComposerTask CopyIndex CopyReport HumanReference
        Judge NoteSetHead Originals Request TrainedComposer Tune copy_report human_reference
        likelihood longest_shared_run spelled train_composer
    """,
    "deepmusic.datasets": """
        AUDIO_ARCHIVES ArchiveError AudioArchive BAD_CLIPS BadClip BuildConfig BuiltClip
        BuiltTrack CATALOGUE CheckReport CheckedFile DataFile Description DownloadError Fma
        Fold FolderDataset Folds Genre GenreLabels GenreTree LoadedDataset Piece Problem
        RemoteZip SYMBOLIC Split SymbolicDataset Track artist_members build_dataset
        check_files content_hash describe describe_fma draw_description
        fault_filtered_split fetch fetch_archive find_sources fingerprint group_tracks
        load_dataset load_midi_folder load_styles load_symbolic make_folds make_split
        near_duplicates random_folds random_split read_fma read_gtzan read_splits
        scan_folder scan_table unpack with_duplicates write_report write_splits write_zip
    """,
    "deepmusic.features": """
        COLUMNS FeatureTable RECIPES ROWS Recipe STATISTICS TrackFeatures chroma_cqt chroma_stft
        cqt describe estimate_tuning extract extract_file extract_library feature_columns
        feature_rows log_mel_spectrogram mfcc onset_strength read_features recipe_named tempo
        tempogram write_features
    """,
    "deepmusic.hearing": """
        Calibration CapsuleClassifier Classifier ClassifierConfig Committee Explanation
        GenreProbability ResultsFile SegmentVerdict Trained Verdict calibration_error
        classify_library draw_confusion draw_explanation draw_timeline explain fit_calibration
        measure text_timeline train_classifier walk_audio
    """,
    "deepmusic.music": """
        Bars Frames Grid Key KeySignature Note NoteArrays Part QuantisationLoss Score Tempo
        TimeSignature aligned bars_of draw_piano_roll estimate_key find_soundfont grid_to_score
        midi_bytes quantisation_loss read_midi render score_to_grid with_estimated_bars write_midi
        write_musicxml write_wav
    """,
    "deepmusic.pretrained": """
        MODELS classify generate load load_composer
    """,
    "deepmusic.studies": """
        FEATURE_MODELS FEATURE_SETS FeatureSet FittedModel MODELS Score StudyConfig
        StudyData StudyModel TABLE_MODELS TableClassifier TableModel consistent
        count_parameters feature_set hierarchical_score load_study_data markdown_table
        model_named paired_difference plan_study reproduce run_jobs score score_labels
        train_baseline with_ancestors write_report
    """,
    "deepmusic.training": """
        FitResult Items Progress Task TrainingConfig checkpoint_path draw_history fill_model fit
        load_weights read_history save_weights show_progress
    """,
}


@pytest.mark.parametrize("package", PUBLIC)
def test_names_are_the_public_ones(package: str) -> None:
    module = import_module(package)
    assert sorted(module.__all__) == sorted(PUBLIC[package].split())
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert module.__doc__
    assert not module.__doc__.startswith("To be")
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018


def test_every_package_is_pinned() -> None:
    fronts = (Path(__file__).parents[1] / "src" / "deepmusic").rglob("__init__.py")
    packages = {".".join(f.parent.parts[f.parts.index("src") + 1 :]) for f in fronts}
    assert packages == {*PUBLIC, "deepmusic.capsules.routing"}
