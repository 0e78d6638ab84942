"""Pretraining methods, one per module, and the monitor that watches them."""

from isograft.ssl.byol import BYOL
from isograft.ssl.dino import DINO
from isograft.ssl.mae import MAE
from isograft.ssl.method import METHODS, Method, MethodOutput, build_method
from isograft.ssl.simclr import SimCLR
from isograft.ssl.supervised import Supervised
from isograft.ssl.vicreg import VICReg

__all__ = ["BYOL", "DINO", "MAE", "METHODS", "Method", "MethodOutput", "SimCLR", "Supervised", "VICReg", "build_method"]
