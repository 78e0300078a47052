"""MONAI bundles: networks of others, run without network, files or secrets of the node. A bundle is code, and treated as hostile."""
