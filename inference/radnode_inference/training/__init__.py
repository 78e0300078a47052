"""The training of the demonstration weights on generated phantoms: `python -m radnode_inference.training breast|chest`."""
