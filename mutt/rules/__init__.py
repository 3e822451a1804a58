"""Rules: does this event matter? Pure: values in, a verdict out, and the verdict says why.

``rule``      the values        ``matcher``   many patterns, one pass
``evaluate``  the decision      ``template``  a message without its numbers
"""
