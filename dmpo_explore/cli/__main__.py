"""`python -m dmpo_explore.cli`, also under `torch.distributed.run`."""

from .entry import main

main()
