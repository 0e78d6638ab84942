"""Networks: the paper's network (registered with timm on import), every timm backbone, heads and starting weights."""

from isograft.networks.alzubaidi import AlzubaidiNet, alzubaidi_dcnn, alzubaidi_light

__all__ = ["AlzubaidiNet", "alzubaidi_dcnn", "alzubaidi_light"]
