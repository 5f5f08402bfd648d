"""What happened in a study and what is left to do: history, state, coordinator, early stopping."""
