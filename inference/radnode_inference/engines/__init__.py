"""How a network is computed: torch in single precision, or something faster that was shown to agree with it."""
