"""What every model of a part stands on: components, actions, the ledger, technology tables."""
