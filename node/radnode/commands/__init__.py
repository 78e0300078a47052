"""The commands of the command line, a module for each family. `radnode.cli` finds them by their names."""
