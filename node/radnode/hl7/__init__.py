"""HL7 v2 from other systems: messages over MLLP, the orders in them, and what they are answered."""
