"""From a model to a restored picture of any size, colour and depth."""
