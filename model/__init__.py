"""Sound to scores: all that a trained model is, and how it is made."""
