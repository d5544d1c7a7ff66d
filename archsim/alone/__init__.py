"""One part asked alone: an array, a kernel of a GPU, a memory channel, memory that computes, a network.

A question is declared once (:mod:`archsim.alone.question`): its columns are the options of its command and the columns
of its files of cases. How cases are read, how answers stand beside what was given and what becomes of a row that
cannot be answered is written once (:mod:`archsim.alone.sheet`).
"""
