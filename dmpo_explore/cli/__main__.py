"""`python -m dmpo_explore.cli`, also under `torch.distributed.run`."""

from .root import main

main()
