"""What a triage policy would do to waiting times, before it is switched on."""
