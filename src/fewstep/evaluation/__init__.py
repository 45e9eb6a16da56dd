"""How good generated pictures are: scores of samples against a reference, in the features of a frozen network."""
