"""Back-tests: what would a draft of the rules have made of the events that are stored?

``draft``    one rule, or a file of them, in the place of what stands
``delta``    which events it can judge otherwise
``compare``  stored events, judged by what stands and by the draft
``tally``    what is counted, and told in the end
``run``      all of it, a slice of time after another
``jobs``     the same for a page, done by a worker
"""
