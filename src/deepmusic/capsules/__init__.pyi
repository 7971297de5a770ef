from .convolution import ConvCapsules as ConvCapsules
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
    coupling_entropy as coupling_entropy,
    dead_share as dead_share,
    margin_loss as margin_loss,
    reconstruction_loss as reconstruction_loss,
    spread_loss as spread_loss,
    spread_margin as spread_margin,
)
from .routing import ROUTING as ROUTING
from .routing.dynamic import dynamic_routing as dynamic_routing
from .routing.em import em_routing as em_routing
from .routing.inverted_attention import inverted_attention_routing as inverted_attention_routing
from .routing.method import Routing as Routing, Sizes as Sizes
from .routing.self_attention import self_attention_routing as self_attention_routing
from .routing.self_routing import self_routing as self_routing
from .routing.uniform import uniform_routing as uniform_routing
from .routing.variational import variational_routing as variational_routing
from .routing.votes import FoldedVotes as FoldedVotes, RoutingRecord as RoutingRecord
from .squash import capsule_length as capsule_length, squash as squash, squash_exp as squash_exp
