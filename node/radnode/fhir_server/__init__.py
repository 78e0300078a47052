"""The node's own FHIR store, served at `/fhir`: resources with versions, searches, transactions, subscriptions."""
