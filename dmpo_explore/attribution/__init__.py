"""Attribution: heat maps of the image for each exit's logit, by Captum's methods.

A method is a function in `gradients.py`, `token_gradients.py`, `perturbation.py` or `rollout.py` and one line in
`catalogue.py`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
