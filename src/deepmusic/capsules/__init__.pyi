from .convolution import ConvCapsules as ConvCapsules, TimeCapsules as TimeCapsules
from .diagnostics import coupling_entropy as coupling_entropy, dead_share as dead_share
from .initialisation import (
    fan_in_ as fan_in_,
    init_stack_to_length as init_stack_to_length,
    init_to_length as init_to_length,
)
from .layers import (
    CapsuleLayer as CapsuleLayer,
    CapsuleStack as CapsuleStack,
    MaskedDecoder as MaskedDecoder,
    PrimaryCapsules as PrimaryCapsules,
)
from .losses import (
    margin_loss as margin_loss,
    reconstruction_loss as reconstruction_loss,
    spread_loss as spread_loss,
    spread_margin as spread_margin,
)
from .routing import (
    ROUTING as ROUTING,
    RoutingRecord as RoutingRecord,
    dynamic_routing as dynamic_routing,
    dynamic_routing_folded as dynamic_routing_folded,
    em_routing as em_routing,
    em_routing_folded as em_routing_folded,
    inverted_attention_routing as inverted_attention_routing,
    inverted_attention_routing_folded as inverted_attention_routing_folded,
    routing_method as routing_method,
    self_attention_routing as self_attention_routing,
    self_attention_routing_folded as self_attention_routing_folded,
    self_routing as self_routing,
    self_routing_folded as self_routing_folded,
    uniform_routing as uniform_routing,
    uniform_routing_folded as uniform_routing_folded,
    variational_routing as variational_routing,
    variational_routing_folded as variational_routing_folded,
)
from .routing.competition import window_competition as window_competition
from .squash import capsule_length as capsule_length, squash as squash, squash_exp as squash_exp
