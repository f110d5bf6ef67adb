"""`python -m dmpo_explore.cli`, also under `torch.distributed.run`."""

from .main import main

main()
