from .grid import Bars as Bars, Frames as Frames, Grid as Grid, grid_to_score as grid_to_score
from .midi import midi_bytes as midi_bytes, read_midi as read_midi, write_midi as write_midi
from .musicxml import write_musicxml as write_musicxml
from .piano_roll import draw_piano_roll as draw_piano_roll
from .quantisation import (
    QuantisationLoss as QuantisationLoss,
    aligned as aligned,
    estimate_key as estimate_key,
    quantisation_loss as quantisation_loss,
    score_to_grid as score_to_grid,
    with_estimated_bars as with_estimated_bars,
)
from .score import (
    Key as Key,
    KeySignature as KeySignature,
    Note as Note,
    Part as Part,
    Score as Score,
    Tempo as Tempo,
    TimeSignature as TimeSignature,
)
from .sound import (
    find_soundfont as find_soundfont,
    render as render,
    write_wav as write_wav,
)
