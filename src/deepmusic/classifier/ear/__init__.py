"""The pretrained ear: the convolutional network MSD_vgg of musicnn, under the capsules."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
